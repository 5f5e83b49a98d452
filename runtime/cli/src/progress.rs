//! Progress on standard error: one line that is rewritten on a terminal, a line a phase elsewhere.

use crate::terminal;
use std::io::Write;
use std::time::{Duration, Instant};

/// Shows what is being done.
pub(crate) struct Progress {
    /// Of the terminal, if it is one.
    width: Option<usize>,
    phase: String,
    shown: Option<Instant>,
}

/// How often a line is rewritten at most.
const INTERVAL: Duration = Duration::from_millis(100);

impl Progress {
    pub(crate) fn new() -> Self {
        Self { width: terminal::width(), phase: String::new(), shown: None }
    }

    /// Begins a phase: said once.
    pub(crate) fn begin(&mut self, phase: &str) {
        if phase == self.phase {
            return;
        }
        self.end();
        phase.clone_into(&mut self.phase);
        if self.width.is_some() { self.rewrite("") } else { say(&format!("torbox: {phase}\n")) }
    }

    /// How far the phase is: shown on a terminal only, and not more often than can be read.
    pub(crate) fn detail(&mut self, detail: &str) {
        if self.width.is_some() && self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL) {
            self.shown = Some(Instant::now());
            self.rewrite(detail);
        }
    }

    /// Says something else in between; the phase goes on.
    pub(crate) fn note(&self, text: &str) {
        if self.width.is_some() && !self.phase.is_empty() {
            say("\r\x1b[K");
        }
        terminal::say(text);
        if self.width.is_some() && !self.phase.is_empty() {
            self.rewrite("");
        }
    }

    /// Ends the line that is being rewritten: how far the phase was in between says nothing any more.
    pub(crate) fn end(&mut self) {
        if self.width.is_some() && !self.phase.is_empty() {
            self.rewrite("");
            say("\n");
        }
        self.phase.clear();
    }

    /// One line of the terminal, which could not be rewritten if it were two.
    fn rewrite(&self, detail: &str) {
        let line = format!("torbox: {} {detail}", self.phase);
        let columns = self.width.unwrap_or_default().saturating_sub(1);
        say(&format!("\r\x1b[K{}", line.trim_end().chars().take(columns).collect::<String>()));
    }
}

/// A terminal that is gone is no reason to end a box.
fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}

impl torbox_images::Progress for Progress {
    fn phase(&mut self, what: &str) {
        self.begin(what);
    }

    fn advance(&mut self, done: u64, total: Option<u64>) {
        const MIB: u64 = 1 << 20;
        match total {
            Some(total) if total > 0 => self.detail(&format!("{}% of {} MiB", done * 100 / total, total / MIB)),
            _ => self.detail(&format!("{} MiB", done / MIB)),
        }
    }
}
