//! `torbox copy`: what the browser of a running box copied, taken out by its user's own action.
//!
//! What comes was said by whoever took the browser over: it is text without control characters here, and nothing else.

use crate::args::Copy;
use crate::control;
use crate::dirs::Dirs;
use crate::error::CliError;
use crate::system;
use crate::terminal::say;
use std::io::{self, Write};

/// `torbox copy`.
pub(crate) fn copy(dirs: &Dirs, which: &Copy) -> Result<(), CliError> {
    let copied = control::copied(dirs, &which.name)?.ok_or_else(|| CliError::NotRunning(which.name.clone()))?;
    let text = plain(&copied);
    if text.is_empty() {
        return Err(CliError::NothingCopied(which.name.clone()));
    }
    if which.print {
        return io::stdout().write_all(text.as_bytes()).map_err(|error| CliError::System("write to standard output", error));
    }
    system::hold_clipboard(&text)?;
    say(&format!("torbox: {} characters are in the clipboard", text.chars().count()));
    Ok(())
}

/// As text, without what a terminal or another program takes for a command.
fn plain(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|&c| !c.is_control() || c == '\n' || c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_a_command() {
        assert_eq!(plain("one\ttwo\r\nthree \u{1b}]52;c;eA==\u{7}\u{9b}1m\u{e9}\0".as_bytes()), "one\ttwo\nthree ]52;c;eA==1m\u{e9}");
        assert_eq!(plain(b"\xff"), "\u{fffd}");
    }
}
