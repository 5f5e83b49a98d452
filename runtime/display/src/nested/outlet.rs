//! What the user takes out of the browser with `torbox copy`, on its way to whoever started the display: lines on standard output, each
//! [`COPIED`] and some of the text's bytes in hexadecimal, and then one without any. Nothing is written that would have to wait (pipe(7)).

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::stdio::stdout;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// How a line begins; `torbox_plan::COPIED` is the same.
const COPIED: &str = "copied:";
/// Bytes of the text in a line, which a pipe with room takes as a whole (`PIPE_BUF`).
const PART: usize = 2000;

/// Lines that nobody read yet.
#[derive(Default)]
pub(super) struct Outlet {
    lines: VecDeque<String>,
}

impl Outlet {
    pub(super) fn say(&mut self, text: &str) {
        self.lines.extend(text.as_bytes().chunks(PART).map(line));
        self.lines.push_back(line(&[]));
    }

    /// Writes what there is room for. Whoever does not listen any more gets nothing.
    pub(super) fn turn(&mut self) {
        let no_time = Timespec { tv_sec: 0, tv_nsec: 0 };
        while let Some(line) = self.lines.front() {
            let out = stdout();
            if !matches!(poll(&mut [PollFd::new(&out, PollFlags::OUT)], Some(&no_time)), Ok(1..)) {
                return;
            }
            match write(out, line.as_bytes()) {
                Ok(_) => drop(self.lines.pop_front()),
                Err(Errno::INTR) => {}
                Err(_) => self.lines.clear(),
            }
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.lines.is_empty()
    }
}

fn line(bytes: &[u8]) -> String {
    let mut line = COPIED.to_owned();
    for byte in bytes {
        // Writing to a String does not fail.
        write!(line, "{byte:02x}").ok();
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_lines_that_a_pipe_takes_whole_and_an_end() {
        let mut outlet = Outlet::default();
        outlet.say(&"\n\u{e9}".repeat(1500));
        assert_eq!(outlet.lines.len(), 4);
        assert!(outlet.lines[0].starts_with("copied:0ac3a90a") && outlet.lines.iter().all(|line| line.len() <= 4096 && line.ends_with('\n')));
        assert_eq!((outlet.lines[2].len(), outlet.lines[3].as_str()), ("copied:".len() + 1000 + 1, "copied:\n"));
    }
}
