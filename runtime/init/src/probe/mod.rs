//! The battery: every way out of a box that can be tried without harm, and what came of it.
//!
//! A probe sends no packet, connects to nothing but the box's own gate, and changes nothing that outlives it. What could change
//! the process that tries it is tried by a child ([`child`]). The tables are the documentation: each row says what it tries.

pub(crate) mod child;
mod calls;
mod domain;
mod endpoints;
mod files;
mod gate;
mod host;
mod network;
mod privileges;
mod sockets;

use crate::error::Error;
use nix::errno::Errno;
use serde::{Serialize, Serializer};
use std::io::Write;

/// A guarantee of SECURITY.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Guarantee {
    G1,
    G2,
    G3,
    G4,
    G5,
    G6,
    G7,
    G8,
    G9,
    G11,
}

/// What an attempt shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It failed, as it must, and how.
    Held(String),
    /// It worked, and what it found.
    NotHeld(String),
    /// It cannot be tried here, and why.
    Unavailable(String),
}

/// One attempt.
pub(crate) struct Probe {
    /// Unique, in words joined by dots.
    id: String,
    /// What would be broken if it worked.
    guarantee: Guarantee,
    /// What it tries, as an infinitive.
    tries: String,
    attempt: Box<dyn Fn() -> Finding>,
    when: When,
}

/// When a probe is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before each start of a program, and in every audit: the ways out.
    Launch,
    /// In an audit: what is slow to try, or no way out by itself.
    Audit,
}

/// A row of the report.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    id: &'a str,
    guarantee: Guarantee,
    tries: &'a str,
    #[serde(flatten)]
    finding: Finding,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (verdict, found) = match self {
            Self::Held(found) => ("held", found),
            Self::NotHeld(found) => ("not-held", found),
            Self::Unavailable(found) => ("unavailable", found),
        };
        serializer.collect_map([("verdict", verdict), ("found", found.as_str())])
    }
}

impl Probe {
    fn new(id: impl Into<String>, guarantee: Guarantee, tries: impl Into<String>, attempt: impl Fn() -> Finding + 'static) -> Self {
        Self { id: id.into(), guarantee, tries: tries.into(), attempt: Box::new(attempt), when: When::Launch }
    }

    /// Not before each start.
    fn in_audits(self) -> Self {
        Self { when: When::Audit, ..self }
    }

    fn row(&self) -> Row<'_> {
        Row { id: &self.id, guarantee: self.guarantee, tries: &self.tries, finding: (self.attempt)() }
    }
}

/// Every probe, by guarantee.
fn battery() -> Vec<Probe> {
    let parts = [
        network::probes(),
        sockets::probes(),
        calls::probes(),
        endpoints::probes(),
        gate::probes(),
        host::probes(),
        files::probes(),
        privileges::probes(),
        domain::probes(),
    ];
    parts.into_iter().flatten().collect()
}

/// Makes every probe; a JSON object a line on standard output, each behind `mark`; where there is one, a line of it alone is the end.
///
/// Outside a box it could make nobody wiser: where the network is not a box's it refuses, unless `place` says that it is to
/// be judged all the same.
pub(crate) fn audit(place: Place, mark: &str) -> Result<(), Error> {
    let foreign = network::interfaces();
    if place == Place::Unknown && !foreign.is_empty() {
        return Err(Error::NoBox(foreign.join(", ")));
    }
    let mut out = std::io::stdout().lock();
    for probe in battery() {
        let line = serde_json::to_string(&probe.row()).map_err(|error| Error::Report(error.into()))?;
        writeln!(out, "{mark}{line}").map_err(Error::Report)?;
    }
    if mark.is_empty() { Ok(()) } else { writeln!(out, "{mark}").map_err(Error::Report) }
}

/// Where the audit is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Whoever calls says that it is a box.
    Box,
    /// Anywhere.
    Unknown,
}

/// What got out before a launch, and how many attempts were made.
pub(crate) fn escapes() -> (Vec<String>, usize) {
    let all: Vec<Probe> = battery().into_iter().filter(|probe| probe.when == When::Launch).collect();
    let out = all.iter().filter_map(|probe| match (probe.attempt)() {
        Finding::NotHeld(found) => Some(format!("{} ({found})", probe.id)),
        Finding::Held(_) | Finding::Unavailable(_) => None,
    });
    (out.collect(), all.len())
}

/// The same attempts where they must succeed: what of tor's way out they find.
pub(crate) fn uplink() -> Uplink {
    let found = |probe: &Probe| matches!((probe.attempt)(), Finding::NotHeld(_));
    Uplink { socket: sockets::probes().iter().any(|probe| probe.id == "socket.inet.stream" && found(probe)), network: network::probes().iter().filter(|probe| probe.when == When::Launch).any(found) }
}

/// What the detectors find in tor's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uplink {
    /// An IP socket can be made.
    pub(crate) socket: bool,
    /// There is a network.
    pub(crate) network: bool,
}

/// The name of an error.
fn name(error: Errno) -> String {
    format!("{error:?}")
}

fn errno(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| name(Errno::from_raw(number)))
}

/// Something that must not exist; a link that leads nowhere does not.
fn absent(path: &str) -> Finding {
    match std::fs::metadata(path) {
        Ok(_) => Finding::NotHeld("it is there".to_owned()),
        Err(error) => Finding::Held(errno(&error)),
    }
}

/// Things of which there must be none.
fn none(found: &[String], nothing: &str) -> Finding {
    if found.is_empty() { Finding::Held(nothing.to_owned()) } else { Finding::NotHeld(shorten(found)) }
}

/// The first of many.
fn shorten(found: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = found.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if found.len() > SHOWN { format!("{shown} and {} more", found.len() - SHOWN) } else { shown }
}

/// A value that must be exactly this.
fn equal(expected: &str, found: &str) -> Finding {
    let shown = found.trim_end().replace('\n', " ");
    if found == expected { Finding::Held(shown) } else { Finding::NotHeld(shown) }
}

/// A call that must be refused before the kernel's own code judges it. A refusal for want of a privilege counts.
fn refused<T>(result: Result<T, Errno>) -> Finding {
    match result {
        Ok(_) => Finding::NotHeld("allowed".to_owned()),
        Err(error @ (Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::EAFNOSUPPORT)) => Finding::Held(name(error)),
        Err(error) => Finding::NotHeld(format!("the kernel answered {}", name(error))),
    }
}

fn from_io<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// A file's text, empty where it cannot be read.
fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn probes_are_many_and_their_ids_unique() {
        let ids: Vec<String> = battery().into_iter().map(|probe| probe.id).collect();
        assert!(ids.len() >= 150, "{}", ids.len());
        let mut seen = BTreeSet::new();
        ids.iter().for_each(|id| assert!(seen.insert(id), "{id} stands twice"));
    }

    #[test]
    fn a_refusal_is_told_from_an_answer_of_the_kernel() {
        assert_eq!(refused::<()>(Err(Errno::ENOSYS)), Finding::Held("ENOSYS".to_owned()));
        assert_eq!(refused::<()>(Err(Errno::EBADF)), Finding::NotHeld("the kernel answered EBADF".to_owned()));
        assert_eq!(refused(Ok(())), Finding::NotHeld("allowed".to_owned()));
    }
}
