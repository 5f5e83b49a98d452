//! What a call shows on a terminal of 80 columns, and what the same call puts into a pipe: golden files, to be read as a user reads them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// How wide the terminal is.
pub const COLUMNS: usize = 80;

/// `command` on a terminal, through script(1), whose standard output has what the terminal is sent. No word may hold a quote.
#[must_use]
pub fn on_terminal(command: &Command) -> Command {
    let quoted = |word: &OsStr| format!("'{}'", word.to_string_lossy());
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
    let mut script = Command::new("/usr/bin/script");
    script.args(["--quiet", "--return", "--command", &format!("stty cols {COLUMNS}; exec {}", words.join(" ")), "/dev/null"]);
    script.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/").envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("SHELL", "/bin/sh").env("TERM", "xterm");
    script
}

/// What the terminal shows in the end of what it was sent: lines that are rewritten, and those that are too long for it (ECMA-48, EL).
#[must_use]
pub fn shown(sent: &str) -> String {
    let (mut lines, mut column) = (vec![Vec::new()], 0);
    let mut rest = sent.chars();
    while let Some(sign) = rest.next() {
        let Some(line) = lines.last_mut() else { break };
        match sign {
            '\r' => column = 0,
            '\n' => lines.push(Vec::new()),
            '\x1b' => {
                if rest.by_ref().take(2).eq("[K".chars()) {
                    line.truncate(column);
                }
            }
            sign => {
                if column == COLUMNS {
                    lines.push(Vec::new());
                    column = 0;
                }
                if let Some(line) = lines.last_mut() {
                    line.resize(line.len().max(column + 1), ' ');
                    line.splice(column..=column, [sign]);
                }
                column += 1;
            }
        }
    }
    let text = |line: Vec<char>| line.into_iter().collect::<String>().trim_end().to_owned();
    lines.into_iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Compares what `torbox` with `words` put into a pipe and showed on a terminal with the golden file of that name, which
/// `TORBOX_WRITE_GOLDEN=1` writes anew.
pub fn check(name: &str, words: &str, piped: &str, terminal: &str) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(format!("{name}.txt"));
    let differs = if piped == terminal { String::new() } else { format!("\n# on a terminal of {COLUMNS} columns\n$ torbox {words}\n{terminal}") };
    let text = format!("$ torbox {words}\n{piped}{differs}");
    if std::env::var_os("TORBOX_WRITE_GOLDEN").is_some() {
        fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    ensure!(text == golden, "{} is\n{golden}\nand was to be\n{text}\nTORBOX_WRITE_GOLDEN=1 writes it anew", file.display());
    Ok(())
}

/// `text` with a sign in the place of each number in front of one of `units`, and of each that follows one of `names`.
#[must_use]
pub fn without_numbers(text: &str, units: &[&str], names: &[&str]) -> String {
    let line = |line: &str| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let bare = |word: &str| word.trim_end_matches([';', ',', '.']).to_owned();
        for at in 0..words.len() {
            let number = words.get(at).is_some_and(|word| word.parse::<f64>().is_ok());
            let unit = words.get(at + 1).is_some_and(|next| units.contains(&bare(next).as_str()));
            let name = words.get(..at).into_iter().flatten().rfind(|word| !word.is_empty()).is_some_and(|before| names.contains(&before.as_str()));
            if let Some(word) = words.get_mut(at).filter(|_| number && (unit || name)) {
                "N".clone_into(word);
            }
        }
        words.join(" ")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_what_was_written_last() {
        assert_eq!(shown("one\r\n\r\x1b[Ktwo 5%\r\x1b[Ktwo\r\nthree"), "one\ntwo\nthree");
        assert_eq!(shown(&format!("{}b\r\n", "a".repeat(COLUMNS))), format!("{}\nb\n", "a".repeat(COLUMNS)));
    }

    #[test]
    fn numbers_that_vary() {
        assert_eq!(without_numbers("268 attempts in 1.7 ms; 3 kept\n  process  123", &["attempts", "ms"], &["process"]), "N attempts in N ms; 3 kept\n  process  N");
    }
}
