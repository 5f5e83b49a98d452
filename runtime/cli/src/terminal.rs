//! Text for people: folded between words where a terminal shows it, and whole in a pipe, where a line is a message.
//!
//! How wide the terminal is, is asked once: whoever supervises a box cannot ask it any more.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::sync::OnceLock;
use terminal_size::{Height, Width, terminal_size_of};

/// What a terminal that does not say its width is taken for.
const USUAL: usize = 80;
/// Less is taken as no width at all.
const NARROWEST: usize = 20;

/// What stands before a command, which is left whole: it may be copied.
const COMMAND: &str = "as root: ";

static OUT: OnceLock<Option<usize>> = OnceLock::new();
static ERR: OnceLock<Option<usize>> = OnceLock::new();

/// Columns of the terminal that standard error is; none where it is no terminal.
pub(crate) fn width() -> Option<usize> {
    *ERR.get_or_init(|| measure(stderr().is_terminal(), terminal_size_of(stderr())))
}

fn measure(terminal: bool, size: Option<(Width, Height)>) -> Option<usize> {
    let columns = size.map(|(Width(columns), _)| usize::from(columns)).filter(|columns| *columns >= NARROWEST);
    terminal.then(|| columns.unwrap_or(USUAL))
}

/// Says a message on standard error. A terminal that is gone is no reason to end a box.
pub(crate) fn say(text: &str) {
    writeln!(stderr(), "{}", folded(text, width(), 2)).ok();
}

/// Prints what was asked for on standard output; the lines that a fold makes begin `hang` columns further in than the line did.
pub(crate) fn tell(text: &str, hang: usize) {
    println!("{}", folded(text, *OUT.get_or_init(|| measure(stdout().is_terminal(), terminal_size_of(stdout()))), hang));
}

/// `text` in lines of at most `width`, as far as its words allow.
pub(crate) fn folded(text: &str, width: Option<usize>, hang: usize) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.split('\n').map(|line| fold(line, width, hang)).collect::<Vec<_>>().join("\n")
}

fn fold(line: &str, width: usize, hang: usize) -> String {
    let length = |text: &str| text.chars().count();
    let inset = line.len() - line.trim_start_matches(' ').len();
    let further = " ".repeat(inset + hang);
    if line.contains(COMMAND) {
        return line.to_owned();
    }
    let (mut lines, mut last) = (String::new(), String::new());
    for word in line.split_inclusive(' ') {
        // The blank at the end of a line is not seen.
        if length(&last) + length(word.trim_end()) > width && !last.trim().is_empty() {
            lines.push_str(last.trim_end());
            lines.push('\n');
            last.clone_from(&further);
        }
        last.push_str(word);
    }
    lines + &last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_between_words() {
        for (line, width, folded) in [
            ("one two three", 20, "one two three"),
            ("one two three", 8, "one two\n  three"),
            ("one two three", 7, "one two\n  three"),
            ("    one two", 8, "    one\n      two"),
            ("a-word-without-end two", 5, "a-word-without-end\n  two"),
            ("hint: as root: usermod x", 8, "hint: as root: usermod x"),
            ("", 5, ""),
        ] {
            assert_eq!(fold(line, width, 2), folded, "{line:?}");
        }
        assert_eq!(folded("one two\nthree four", Some(5), 0), "one\ntwo\nthree\nfour");
        assert_eq!(folded("one two", None, 2), "one two");
    }
}
