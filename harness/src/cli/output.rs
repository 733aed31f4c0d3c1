//! Printing: data to stdout, everything else to stderr. The only place of the crate that writes to either.

use std::io::{self, Write as _};

/// stdout's reader went away; the program ends quietly with code 0.
#[derive(Debug, thiserror::Error)]
#[error("stdout was closed")]
pub struct ClosedPipe;

/// Writes data to stdout.
///
/// # Errors
/// [`ClosedPipe`] when the reader is gone; any other I/O error as itself (a full disk behind `>`).
pub fn data(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
    }
}

/// Writes one line of data to stdout.
///
/// # Errors
/// As [`data`].
pub fn line(text: &str) -> anyhow::Result<()> {
    data(&format!("{text}\n"))
}

/// Writes a value as pretty JSON with a final newline to stdout (`--format json`).
///
/// # Errors
/// As [`data`].
pub fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Writes one line to stderr; a closed stderr is ignored, as there is nowhere left to say so.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether an error only says that stdout's reader went away.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClosedPipe>().is_some()
}

/// Left-aligned columns, two spaces apart; the last column is not padded.
pub fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let header_row: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&header_row).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A count for people: three significant digits and a suffix (`1.21 M`).
pub fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", " k", " M", " G", " T", " P", " E", " Z"])
}

/// A size for people in binary units (`12.3 MiB`).
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A duration for people: `850 ms`, `12.3 s`, `4 min 10 s`, `2 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

fn scaled(value: f64, base: f64, suffixes: &[&str]) -> String {
    let mut value = value;
    let mut index = 0;
    while value.abs() >= base && index + 1 < suffixes.len() {
        value /= base;
        index += 1;
    }
    let suffix = suffixes[index];
    match value.abs() {
        _ if index == 0 && value.fract() == 0.0 => format!("{value:.0}{suffix}"),
        v if v < 10.0 => format!("{value:.2}{suffix}"),
        v if v < 100.0 => format!("{value:.1}{suffix}"),
        _ => format!("{value:.0}{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_have_three_digits() {
        assert_eq!(count(0.0), "0");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(1_210_000.0), "1.21 M");
        assert_eq!(count(157_197_056.0), "157 M");
        assert_eq!(bytes(12.34 * 1024.0 * 1024.0), "12.3 MiB");
        assert_eq!(duration(0.0123), "12 ms");
        assert_eq!(duration(250.0), "4 min 10 s");
        assert_eq!(duration(7500.0), "2 h 05 min");
    }

    #[test]
    fn columns_line_up_and_do_not_pad_the_last() {
        let rows = vec![vec!["plain".into(), "0".into()], vec!["rw+lr".into(), "1026".into()]];
        assert_eq!(columns(&["variant", "params"], &rows), "variant  params\nplain    0\nrw+lr    1026\n");
    }
}
