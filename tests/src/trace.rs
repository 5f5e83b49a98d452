//! A record of system calls as strace(1) writes it, held against the profiles of those who made them: what a profile lacks, and what
//! in it nobody called.
//!
//! It decides nothing: a profile is changed by hand, by somebody who read the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result};
use torbox_plan::Role;
use torbox_plan::seccomp::{Process, Profile, Rule, process_profile, profile};

/// How strace(1) is to write, but for the file's name: arguments as numbers, and the numbers of processes as it sees them itself.
pub const STRACE: [&str; 13] =
    ["-f", "-D", "-q", "-s", "160", "-X", "raw", "--decode-pids=pidns", "-e", "signal=none", "-e", "raw=!execve,clone,clone3,fork,vfork", "-o"];

/// Arguments that say what a call does: those that a filter could look at are told one by one.
const TELLING: [(&str, &[usize]); 22] = [
    ("arch_prctl", &[0]), ("clone", &[0]), ("fcntl", &[1]), ("futex", &[1]), ("ioctl", &[1]), ("kill", &[1]), ("madvise", &[2]), ("membarrier", &[0]), ("memfd_create", &[1]), ("mmap", &[2, 3]),
    ("mprotect", &[2]), ("mremap", &[3]), ("personality", &[0]), ("prctl", &[0]), ("prlimit64", &[1]), ("sched_setscheduler", &[1]), ("seccomp", &[0]), ("setsockopt", &[1, 2]), ("shmget", &[2]),
    ("socket", &[0, 1]), ("socketpair", &[0, 1]), ("unshare", &[0]),
];

/// Who is held by a profile of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The name of its profile.
    pub name: &'static str,
    /// What the line of the execve(2) has that makes a process one.
    started: [&'static str; 2],
    /// The calls after which it has to do with what its profile allows. An init tries what it must not be able to do, and then closes its
    /// cage; torbox's own processes install their filter themselves.
    after: &'static [&'static str],
}

/// What a profile refuses although its program asks for it, and why.
const ON_PURPOSE: [(&str, &str, &str); 11] = [
    ("browser", "clone3", "its flags lie in memory, where a filter cannot look; the C library then calls clone"),
    ("browser", "quotactl", "it asks for the quota of the disk on which its profile would be, and does without"),
    ("browser", "socket(0x10)", "netlink: it watches the network's interfaces, of which there are none"),
    ("browser", "socket(0x2)", "IPv4: G2"),
    ("browser", "socket(0xa)", "IPv6: G2"),
    ("inner", "fsopen", "the library that deletes containers looks for a proc(5) of its own, and then takes the one that is there"),
    ("inner", "open_tree", "the same"),
    ("tor", "clone3", "as for the browser"),
    ("tor", "ioctl(0x8912)", "SIOCGIFCONF: it looks for its own address, and does without"),
    ("tor", "ioctl(0x894b)", "the same of the routes"),
    ("tor", "socket(0x10)", "netlink: the same"),
];

const CAGED: &[&str] = &["landlock_restrict_self"];
const CONFINED: &[&str] = &["landlock_restrict_self", "seccomp"];

/// All of them.
pub const HELD: [Held; 7] = [
    Held { name: "tor", started: ["torbox/init\"", "\"--proof\", \"uplink\""], after: CAGED },
    Held { name: "gate", started: ["torbox/gate\"", ""], after: &[] },
    Held { name: "display", started: ["torbox/display\"", ""], after: &[] },
    Held { name: "browser", started: ["torbox/init\"", "\"--proof\", \"box\""], after: CAGED },
    Held { name: "outer", started: ["/proc/self/exe\"", "\"__outer\""], after: CONFINED },
    Held { name: "inner", started: ["/proc/self/exe\"", "\"__inner\""], after: CONFINED },
    Held { name: "run", started: ["/bin/torbox\", [", ""], after: CONFINED },
];

impl Held {
    fn profile(self) -> Result<Profile> {
        let role = Role::ALL.into_iter().find(|role| role.name() == self.name).map(profile);
        let process = || Process::ALL.into_iter().find(|process| process.name() == self.name).map(process_profile);
        Ok(role.or_else(process).with_context(|| format!("there is no profile {}", self.name))??)
    }

    fn by(line: &str) -> Option<Self> {
        HELD.into_iter().find(|held| held.started.iter().all(|part| line.contains(part)))
    }
}

/// One call of a process, its arguments as far as they are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call<'a> {
    name: &'a str,
    args: [u64; 6],
}

impl<'a> Call<'a> {
    /// Reads `NAME(ARG, ...`; `None` where the line tells of something else.
    fn read(text: &'a str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        let mut args = [0; 6];
        if name == "clone" {
            args[0] = number(rest.split_once("flags=")?.1);
        } else if name != "execve" {
            rest.split(',').zip(&mut args).for_each(|(word, arg)| *arg = number(word));
        }
        Some(Self { name, args })
    }

    /// The half of an argument that filters look at.
    fn low(&self, place: usize) -> u32 {
        let low = self.args.get(place).map(|argument| argument & u64::from(u32::MAX));
        low.and_then(|low| u32::try_from(low).ok()).unwrap_or(0)
    }
}

/// The number at the beginning of a word, in any notation of strace(1); 0 where there is none.
fn number(word: &str) -> u64 {
    let word = word.trim_start();
    let (digits, radix) = word.strip_prefix("0x").map_or((word, 10), |digits| (digits, 16));
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    u64::from_str_radix(digits.get(..end).unwrap_or_default(), radix).unwrap_or(0)
}

/// What was recorded of one profile's processes.
#[derive(Debug, Default)]
struct Seen {
    /// Names of calls.
    called: BTreeSet<String>,
    /// Calls that the profile does not allow, with the arguments that it looks at.
    refused: BTreeSet<String>,
    /// Calls of a rule, and its alternatives by which one was allowed.
    alternatives: BTreeSet<(String, usize)>,
    /// What telling arguments were, once the profile has to do.
    values: BTreeMap<(&'static str, usize), BTreeSet<u32>>,
}

impl Seen {
    fn note(&mut self, call: &Call<'_>, profile: &Profile, judged: bool) {
        self.called.insert(call.name.to_owned());
        for (name, places) in TELLING.into_iter().filter(|(name, _)| judged && *name == call.name) {
            for &place in places {
                self.values.entry((name, place)).or_default().insert(call.low(place));
            }
        }
        let rule = profile.rule(call.name);
        let alternative = rule.and_then(|rule| rule.alternative(call.args));
        if let Some(alternative) = alternative {
            self.alternatives.insert((call.name.to_owned(), alternative));
        } else if judged {
            self.refused.insert(shown(call, rule));
        }
    }
}

/// A call with the arguments that `rule` looks at.
fn shown(call: &Call<'_>, rule: Option<&Rule>) -> String {
    let looked_at: BTreeSet<u8> = rule.into_iter().flat_map(|rule| rule.when.iter().flatten()).map(|condition| condition.arg).collect();
    let args: Vec<_> = looked_at.iter().map(|arg| format!("{:#x}", call.low(usize::from(*arg)))).collect();
    if args.is_empty() { call.name.to_owned() } else { format!("{}({})", call.name, args.join(", ")) }
}

/// A process of the record: whose profile it has, and how many of the calls it has made after which that has to do.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    held: Option<Held>,
    passed: usize,
}

/// A record, read.
#[derive(Debug)]
pub struct Report {
    profiles: BTreeMap<&'static str, (Profile, Seen)>,
}

impl Report {
    /// Reads what strace(1) wrote.
    pub fn read(record: &str) -> Result<Self> {
        let mut report = Self { profiles: HELD.into_iter().map(|held| Ok((held.name, (held.profile()?, Seen::default())))).collect::<Result<_>>()? };
        let parents = parents(record);
        let mut states: BTreeMap<u32, State> = BTreeMap::new();
        let mut unfinished: BTreeMap<u32, &str> = BTreeMap::new();
        for (process, text) in lines(record) {
            // Whoever is seen for the first time is what its parent is.
            let parent = parents.get(&process).and_then(|parent| states.get(parent)).copied();
            let state = states.entry(process).or_insert_with(|| parent.unwrap_or_default());
            if let Some(call) = Call::read(text) {
                report.note(*state, &call);
            }
            if text.ends_with("<unfinished ...>") {
                unfinished.insert(process, text);
            }
            let begun = if text.starts_with("<... ") { unfinished.remove(&process) } else { Some(text) };
            if let Some(begun) = begun.filter(|_| text.ends_with(" = 0")) {
                state.succeeded(begun);
            }
        }
        Ok(report)
    }

    fn note(&mut self, state: State, call: &Call<'_>) {
        let Some(held) = state.held else { return };
        let judged = state.passed == held.after.len();
        if let Some((profile, seen)) = self.profiles.get_mut(held.name).filter(|_| judged || held.after != CONFINED) {
            seen.note(call, profile, judged);
        }
    }

    /// Calls that a profile refused to its program, but for those that it is meant to: the profile's name and the call.
    #[must_use]
    pub fn lacking(&self) -> Vec<(&'static str, &str)> {
        let refused = self.profiles.iter().flat_map(|(name, (_, seen))| seen.refused.iter().map(|call| (*name, call.as_str())));
        refused.filter(|(name, call)| on_purpose(name, call).is_none()).collect()
    }
}

fn on_purpose(profile: &str, call: &str) -> Option<&'static str> {
    ON_PURPOSE.iter().find(|(of, refused, _)| *of == profile && *refused == call).map(|(_, _, why)| *why)
}

impl State {
    /// After a call that succeeded.
    fn succeeded(&mut self, begun: &str) {
        let becomes = if begun.starts_with("execve(") { Held::by(begun) } else { None };
        if becomes.is_some() {
            *self = Self { held: becomes, passed: 0 };
        } else if let Some(next) = self.held.and_then(|held| held.after.get(self.passed)) {
            self.passed += usize::from(begun.strip_prefix(next).is_some_and(|rest| rest.starts_with('(')));
        }
    }
}

/// The lines of a record: the process's number and the rest.
fn lines(record: &str) -> impl Iterator<Item = (u32, &str)> {
    record.lines().filter_map(|line| line.split_once(' ')).filter_map(|(process, text)| Some((process.parse().ok()?, text.trim_start())))
}

/// Each process and who made it. A child's first line may come before the one that tells of it.
fn parents(record: &str) -> BTreeMap<u32, u32> {
    const MAKING: [&str; 4] = ["clone", "clone3", "fork", "vfork"];
    let made = |text: &str| {
        let name = text.strip_prefix("<... ").unwrap_or(text);
        let name = name.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        let result = text.rsplit_once(" = ").filter(|_| MAKING.contains(&name))?.1;
        // "3 /* 19672 in strace's PID NS */", or the number alone where that is what strace sees.
        result.split_once("/* ").map_or(result, |(_, seen)| seen).split(' ').next()?.parse().ok()
    };
    lines(record).filter_map(|(process, text)| Some((made(text)?, process))).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, (profile, seen)) in &self.profiles {
            writeln!(f, "\n## {name}\nRefused:")?;
            for call in &seen.refused {
                writeln!(f, "* `{call}`: {}", on_purpose(name, call).unwrap_or("**THE PROFILE LACKS IT**"))?;
            }
            writeln!(f, "\nAllowed, and not called: {}\n", joined(&uncalled(profile, seen)))?;
            for ((call, place), values) in &seen.values {
                writeln!(f, "* `{call}`, argument {place}: {}", joined(&values.iter().map(|value| format!("{value:#x}")).collect()))?;
            }
        }
        Ok(())
    }
}

fn joined(words: &BTreeSet<String>) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.iter().map(String::as_str).collect::<Vec<_>>().join(", ") }
}

/// Calls of a profile that nobody made, and alternatives of a rule by which nobody was allowed.
fn uncalled(profile: &Profile, seen: &Seen) -> BTreeSet<String> {
    let of_rule = |rule: &Rule| {
        let unused = |call: &String| (0..rule.when.len()).filter(|at| !seen.alternatives.contains(&(call.clone(), *at))).map(|at| format!("{call} by alternative {}", at + 1)).collect::<Vec<_>>();
        let of_call = |call: &String| if seen.called.contains(call) { unused(call) } else { vec![call.clone()] };
        rule.calls.iter().flat_map(of_call).collect::<Vec<_>>()
    };
    profile.rules.iter().flat_map(of_rule).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A box's init tries mount(2), closes its cage and starts a program, whose child opens a packet socket.
    const RECORD: &str = r#"6 execve("/proc/self/exe", ["/proc/self/exe", "__inner"], 0x7 /* 9 vars */) = 0
6 clone(child_stack=NULL, flags=0x1200000|17) = 7
7 seccomp(0x1, 0, 0x7ff) = 0
7 execve("/usr/libexec/torbox/init", ["/usr/libexec/torbox/init", "run", "--proof", "box", "--", "/opt/b"], 0x7 /* 9 vars */ <unfinished ...>
8 read(0x3, 0x7ffd, 0x10) = 0x10
7 <... execve resumed>) = 0
7 mount(0, 0, 0, 0, 0) = -1 ENOSYS (Function not implemented)
7 landlock_restrict_self(0x3, 0) = 0
7 clone(child_stack=NULL, flags=0x1200000|17 <unfinished ...>
9 execve("/opt/b", ["/opt/b"], 0x7 /* 9 vars */) = 0
9 socket(0x11, 0x3, 0) = -1 EAFNOSUPPORT (Address family not supported by protocol)
9 socket(0x1, 0x1, 0) = 0x4
7 <... clone resumed>, child_tidptr=0x7f) = 2 /* 9 in strace's PID NS */
9 bpf(0, 0, 0) = -1 ENOSYS (Function not implemented)
9 clone3({flags=0x3d0f00}, 88) = -1 ENOSYS (Function not implemented)
9 +++ exited with 0 +++
"#;

    #[test]
    fn what_the_program_was_refused_is_told_and_what_its_init_tried_is_not() {
        let report = Report::read(RECORD).unwrap();
        assert_eq!(report.lacking(), [("browser", "bpf"), ("browser", "socket(0x11)")]);
        assert!(report.to_string().contains("* `bpf`: **THE PROFILE LACKS IT**\n* `clone3`: its flags"), "{report}");
        let (profile, seen) = &report.profiles["browser"];
        let uncalled = uncalled(profile, seen);
        assert!(uncalled.contains("read") && !uncalled.contains("socket") && !uncalled.contains("clone"), "{uncalled:?}");
        assert_eq!(seen.values[&("socket", 0)], BTreeSet::from([1, 17]));
    }

    #[test]
    fn calls_are_read_whatever_their_notation() {
        let read = |text| Call::read(text).map(|call| (call.name.to_owned(), call.args));
        assert_eq!(read("ioctl(0x5, 0x5401, 0x7f) = -1"), Some(("ioctl".to_owned(), [5, 0x5401, 0x7f, 0, 0, 0])));
        assert_eq!(read("clone(child_stack=NULL, flags=0x1200000|17) = 3"), Some(("clone".to_owned(), [0x0120_0000, 0, 0, 0, 0, 0])));
        assert_eq!(read("getpid() = 0x7"), Some(("getpid".to_owned(), [0; 6])));
        assert_eq!(read("<... read resumed>) = 0"), None);
        assert_eq!(read("+++ exited with 0 +++"), None);
    }
}
