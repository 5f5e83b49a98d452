//! Learns from the onion service's tor when its descriptor is published (control-spec, section 4.1.25, HS_DESC events).
//!
//! A client that asks earlier remembers the failure, and comes a good while later than one that waits.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::wait;

/// A connection to the control socket that has asked for the events.
#[derive(Debug)]
pub(super) struct Publication {
    lines: BufReader<UnixStream>,
    uploads: Uploads,
}

#[derive(Debug, Default)]
struct Uploads {
    begun: usize,
    done: usize,
}

impl Publication {
    /// Connects as soon as tor has made `socket`; to be called before the first descriptor can be uploaded.
    pub(super) fn follow(socket: &Path, deadline: Instant) -> Result<Self> {
        let connect = || UnixStream::connect(socket).ok();
        let mut stream = wait::retry(Duration::from_millis(50), deadline, connect).context("the onion service's tor did not start")?;
        stream.write_all(b"AUTHENTICATE\r\nSETEVENTS HS_DESC\r\n")?;
        Ok(Self { lines: BufReader::new(stream), uploads: Uploads::default() })
    }

    /// Waits until every upload that was begun is done.
    pub(super) fn wait(mut self, deadline: Instant) -> Result<()> {
        let mut line = String::new();
        while !self.uploads.complete() {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.lines.get_ref().set_read_timeout(Some(left))?;
            line.clear();
            if self.lines.read_line(&mut line).context("the onion service's descriptor was not published in time")? == 0 {
                bail!("the onion service's tor ended");
            }
            self.uploads.take(&line)?;
        }
        Ok(())
    }
}

impl Uploads {
    fn take(&mut self, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("250"), ..) => {}
            (Some("650"), Some("HS_DESC"), Some("UPLOAD")) => self.begun += 1,
            (Some("650"), Some("HS_DESC"), Some("UPLOADED")) => self.done += 1,
            (Some("650"), Some("HS_DESC"), Some("CREATED")) => {}
            _ => bail!("the onion service's tor said {line:?}"),
        }
        Ok(())
    }

    fn complete(&self) -> bool {
        self.begun > 0 && self.begun == self.done
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn complete_when_every_upload_is_done() {
        let mut uploads = Uploads::default();
        let lines = [
            ("250 OK", false),
            ("650 HS_DESC CREATED a UNKNOWN UNKNOWN d", false),
            ("650 HS_DESC UPLOAD a UNKNOWN $A d", false),
            ("650 HS_DESC UPLOAD a UNKNOWN $B d", false),
            ("650 HS_DESC UPLOADED a UNKNOWN $A", false),
            ("650 HS_DESC UPLOADED a UNKNOWN $B", true),
        ];
        for (line, complete) in lines {
            uploads.take(line).unwrap();
            assert_eq!(uploads.complete(), complete, "{line}");
        }
        assert!(uploads.take("650 HS_DESC FAILED a UNKNOWN $A REASON=UPLOAD_REJECTED").is_err());
        assert!(uploads.take("515 Authentication failed").is_err());
    }
}
