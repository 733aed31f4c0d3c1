//! Escaping of text for each output language; every renderer goes through here.
//!
//! ```text
//! html, xml   & < > " '      latex   \ { } $ & # % _ ^ ~ and the symbols a default engine lacks      md   | * _ ` < [
//! ```
//! Characters that XML 1.0 forbids (control characters) are dropped.
//!
//! Source: XML 1.0 section 2.2; CommonMark section 2.4.

/// Text for HTML and XML, in content and in quoted attributes.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Text inside a Markdown table cell or paragraph.
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '<' | '[' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text in LaTeX, for engines of any kind: symbols outside ASCII that tables use become commands.
pub fn latex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str(r"\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => {
                out.push('\\');
                out.push(c);
            }
            '^' => out.push_str(r"\textasciicircum{}"),
            '~' => out.push_str(r"\textasciitilde{}"),
            '<' => out.push_str("$<$"),
            '>' => out.push_str("$>$"),
            '±' => out.push_str(r"$\pm$"),
            '−' => out.push_str("$-$"),
            '×' => out.push_str(r"$\times$"),
            '·' => out.push_str(r"$\cdot$"),
            '≤' => out.push_str(r"$\leq$"),
            '≥' => out.push_str(r"$\geq$"),
            '→' => out.push_str(r"$\rightarrow$"),
            '∈' => out.push_str(r"$\in$"),
            'Δ' => out.push_str(r"$\Delta$"),
            'Θ' => out.push_str(r"$\Theta$"),
            'Σ' => out.push_str(r"$\Sigma$"),
            'φ' => out.push_str(r"$\varphi$"),
            'δ' => out.push_str(r"$\delta$"),
            'α' => out.push_str(r"$\alpha$"),
            'β' => out.push_str(r"$\beta$"),
            'γ' => out.push_str(r"$\gamma$"),
            'µ' | 'μ' => out.push_str(r"$\mu$"),
            '²' => out.push_str("$^2$"),
            '–' => out.push_str("--"),
            '—' => out.push_str("---"),
            '…' => out.push_str(r"\ldots{}"),
            '\n' | '\r' => out.push(' '),
            c if c.is_control() => {}
            // Past Latin Extended-A a default engine stops with an error; a name is better shown with a gap.
            c if c > '\u{17F}' => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_stays_text() {
        assert_eq!(html("<script>\"&'\u{1}</script>"), "&lt;script&gt;&quot;&amp;&#39;&lt;/script&gt;");
        assert_eq!(markdown("a|b*c_d`e<f"), r"a\|b\*c\_d\`e\<f");
        assert_eq!(latex(r"50% of r_{4} \x"), r"50\% of r\_\{4\} \textbackslash{}x");
        assert_eq!(latex("65 ± 1, O(rD²)"), r"65 $\pm$ 1, O(rD$^2$)");
    }
}
