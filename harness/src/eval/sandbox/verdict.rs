//! What came back from a run, to a verdict.
//!
//! ```text
//! socket: Report line, `R`, token   -> pass, if the process also ended by itself with status 0
//!         Report line, `R`, letter  -> A assertion, S syntax, M memory, E exception, Q sys.exit
//!         anything else             -> killed; before `R`: not run
//! ```
//! The socket decides, not the exit status (`os._exit(0)` forges that) and not printed text. A program can write a false letter: that moves
//! it from one failure to another, never to a pass or out of the count.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use tasks::Verdict;

use super::protocol::{Layers, Report};

/// Bytes of the token, as hexadecimal digits.
pub(super) const TOKEN_BYTES: usize = 32;

/// Why the parent ended the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It did not.
    No,
    /// Wall time over the limit.
    Timeout,
    /// Standard output, standard error or the socket over its limit.
    Output,
}

/// Everything a run leaves.
#[derive(Debug)]
pub(super) struct Remains {
    /// What was read from the socket.
    pub(super) socket: Vec<u8>,
    /// Standard output, as far as the limit.
    pub(super) stdout: Vec<u8>,
    /// Standard error, as far as the limit.
    pub(super) stderr: Vec<u8>,
    /// How the process ended.
    pub(super) status: ExitStatus,
    /// Whether, and why, it was ended.
    pub(super) stopped: Stopped,
}

/// The launcher's line and what follows it.
pub(super) fn split(socket: &[u8]) -> (Option<Report>, &[u8]) {
    let Some(end) = socket.iter().position(|&byte| byte == b'\n') else { return (None, &[]) };
    (serde_json::from_slice(&socket[..end]).ok(), &socket[end + 1..])
}

/// The bootstrap was reached: what follows is the program's doing.
pub(super) fn has_started(socket: &[u8]) -> bool {
    matches!(split(socket), (Some(Report::Confined(_)), [b'R', ..]))
}

/// The layers that the launcher reported.
pub(super) fn layers(socket: &[u8]) -> Option<Layers> {
    match split(socket) {
        (Some(Report::Confined(layers)), _) => Some(layers),
        _ => None,
    }
}

/// The verdict.
pub(super) fn judge(remains: &Remains, token: &[u8; TOKEN_BYTES]) -> Verdict {
    if !has_started(&remains.socket) {
        return Verdict::NotRun { reason: why_not_run(remains) };
    }
    let (_, rest) = split(&remains.socket);
    match remains.stopped {
        Stopped::Timeout => return Verdict::Timeout,
        Stopped::Output => return Verdict::Killed,
        Stopped::No => {}
    }
    match &rest[1..] {
        said if said == token && remains.status.success() => {
            Verdict::Pass { stdout: String::from_utf8_lossy(&remains.stdout).into_owned() }
        }
        b"A" => Verdict::Assertion,
        b"S" => Verdict::SyntaxError,
        b"M" => Verdict::Memory,
        b"E" => Verdict::Exception,
        _ if remains.status.signal() == Some(libc::SIGXCPU) => Verdict::Timeout,
        // Out of memory to the point that the bootstrap could not say so: the interpreter's own last words.
        b"" if !remains.status.success() && ends_with_memory_error(&remains.stderr) => Verdict::Memory,
        _ => Verdict::Killed,
    }
}

fn ends_with_memory_error(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr)
        .lines()
        .rev()
        .take(3)
        .any(|line| line.starts_with("MemoryError") || line.contains("Cannot allocate memory"))
}

fn why_not_run(remains: &Remains) -> String {
    let complaint = String::from_utf8_lossy(&remains.stderr);
    let complaint = complaint.trim().lines().last().unwrap_or("nothing on standard error");
    match split(&remains.socket) {
        (Some(Report::Failed(reason)), _) => reason,
        (Some(Report::Confined(_)), rest) => match serde_json::from_slice(rest.trim_ascii_end()) {
            Ok(Report::Failed(reason)) => reason,
            _ if remains.stopped == Stopped::Timeout => "the confined interpreter did not start in time".to_owned(),
            _ => format!("the confined interpreter did not start: {}: {complaint}", remains.status),
        },
        (None, _) if remains.stopped == Stopped::Timeout => "the launcher did not report in time".to_owned(),
        (None, _) => format!("the launcher did not report: {}: {complaint}", remains.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8; TOKEN_BYTES] = b"00112233445566778899aabbccddeeff";

    fn confined() -> Vec<u8> {
        let layers = Layers {
            namespaces: true,
            landlock_abi: Some(6),
            seccomp: true,
            rlimits: true,
            thread_limit: true,
            capabilities_dropped: true,
        };
        let mut line = serde_json::to_vec(&Report::Confined(layers)).unwrap();
        line.push(b'\n');
        line
    }

    /// A run that ended by itself: `said` follows the launcher's report; `status` is that of wait(2), exit codes in the second byte.
    fn ended(said: &[u8], status: i32) -> Remains {
        let socket = [confined(), said.to_vec()].concat();
        Remains {
            socket,
            stdout: b"7\n".to_vec(),
            stderr: Vec::new(),
            status: ExitStatus::from_raw(status),
            stopped: Stopped::No,
        }
    }

    fn said(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn only_the_exact_token_and_a_clean_end_pass() {
        let pass = said(&[b"R", TOKEN]);
        assert_eq!(judge(&ended(&pass, 0), TOKEN), Verdict::Pass { stdout: "7\n".to_owned() });
        assert_eq!(judge(&ended(&pass, 1 << 8), TOKEN), Verdict::Killed);
        assert_eq!(judge(&ended(b"R", 0), TOKEN), Verdict::Killed);
        for more in [said(&[b"R", TOKEN, b"x"]), said(&[b"Rx", TOKEN]), said(&[b"R", &TOKEN[1..]]), said(&[b"R", TOKEN, TOKEN])] {
            assert_eq!(judge(&ended(&more, 0), TOKEN), Verdict::Killed, "{more:?}");
        }
    }

    #[test]
    fn a_stopped_run_does_not_pass_whatever_it_wrote() {
        let pass = said(&[b"R", TOKEN]);
        assert_eq!(judge(&Remains { stopped: Stopped::Timeout, ..ended(&pass, 0) }, TOKEN), Verdict::Timeout);
        assert_eq!(judge(&Remains { stopped: Stopped::Output, ..ended(&pass, 0) }, TOKEN), Verdict::Killed);
    }

    #[test]
    fn letters_name_the_failure() {
        let expected = [
            (b"RA", Verdict::Assertion),
            (b"RS", Verdict::SyntaxError),
            (b"RM", Verdict::Memory),
            (b"RE", Verdict::Exception),
            (b"RQ", Verdict::Killed),
        ];
        for (said, verdict) in expected {
            assert_eq!(judge(&ended(said, 1 << 8), TOKEN), verdict);
        }
    }

    #[test]
    fn a_program_cannot_pretend_that_it_was_not_run() {
        // The launcher's words of failure, written by the program after `R`.
        let forged = said(&[b"R", &serde_json::to_vec(&Report::Failed("no landlock".to_owned())).unwrap(), b"\n"]);
        assert_eq!(judge(&ended(&forged, 2 << 8), TOKEN), Verdict::Killed);
    }

    #[test]
    fn what_fails_before_the_program_is_not_run_and_says_why() {
        let failed = said(&[&serde_json::to_vec(&Report::Failed("execve `p`: gone".to_owned())).unwrap(), b"\n"]);
        assert_eq!(judge(&ended(&failed, 2 << 8), TOKEN), Verdict::NotRun { reason: "execve `p`: gone".to_owned() });
        let silent = Remains { socket: Vec::new(), stderr: b"a\nno such file\n".to_vec(), ..ended(b"", 1 << 8) };
        let reason = "the launcher did not report: exit status: 1: no such file".to_owned();
        assert_eq!(judge(&silent, TOKEN), Verdict::NotRun { reason });
    }

    #[test]
    fn processor_time_and_last_words_of_memory_are_understood() {
        assert_eq!(judge(&ended(b"R", libc::SIGXCPU), TOKEN), Verdict::Timeout);
        let last_words = Remains { stderr: b"Traceback\nMemoryError\n".to_vec(), ..ended(b"R", 1 << 8) };
        assert_eq!(judge(&last_words, TOKEN), Verdict::Memory);
    }
}
