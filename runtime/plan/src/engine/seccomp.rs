//! Seccomp profiles in the JSON that engines take (Docker's seccomp profiles; the OCI runtime specification's `linux.seccomp`).
//!
//! An engine's profile is coarser than the filter that torbox compiles: a refused argument gets the default error, except
//! where one inequality says it. Docker 20.10 ignores `defaultErrnoRet` and answers EPERM, at which the C library gives up on
//! clone3(2): hence every call that no rule names is refused by name as well.

use super::Unsupported;
use crate::plan::Container;
use crate::seccomp::{Arch, Condition, Errno, Profile, Rule, profile_of};
use serde::Serialize;
use std::collections::BTreeSet;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: &'static str,
    default_errno_ret: u16,
    architectures: [&'static str; 1],
    syscalls: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    names: Vec<String>,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u32,
    value_two: u32,
    op: &'static str,
}

/// The profile of `container` as one JSON text.
///
/// # Errors
/// [`Unsupported`] when the shipped profile is not valid.
pub fn profile_json(container: &Container) -> Result<String, Unsupported> {
    let Profile { default, rules } = profile_of(container)?;
    let document = Document {
        default_action: "SCMP_ACT_ERRNO",
        default_errno_ret: default.number(),
        architectures: [Arch::OWN.libseccomp()],
        syscalls: rules.iter().flat_map(allowed).chain(runtime(&rules)).chain([unnamed(&rules, default)]).collect(),
    };
    serde_json::to_string(&document).map_err(|_| Unsupported::Json(container.role))
}

fn allowed(rule: &Rule) -> Vec<Entry> {
    let Rule { calls, when, otherwise, reason: _ } = rule;
    let entry = |args: Vec<Argument>| Entry { names: calls.clone(), action: "SCMP_ACT_ALLOW", errno_ret: None, args };
    match (when.as_slice(), otherwise) {
        ([], _) => vec![entry(Vec::new())],
        ([alternative], Some(errno)) => match alternative.as_slice() {
            // One equality on the whole argument: what is unequal is refused with the rule's own error.
            [Condition { arg, mask: u32::MAX, eq }] => {
                let argument = |op| Argument { index: *arg, value: *eq, value_two: 0, op };
                let refused = Entry { names: calls.clone(), action: "SCMP_ACT_ERRNO", errno_ret: Some(errno.number()), args: vec![argument("SCMP_CMP_NE")] };
                vec![entry(vec![argument("SCMP_CMP_EQ")]), refused]
            }
            conditions => vec![entry(conditions.iter().map(masked).collect())],
        },
        (alternatives, _) => alternatives.iter().map(|conditions| entry(conditions.iter().map(masked).collect())).collect(),
    }
}

const fn masked(condition: &Condition) -> Argument {
    let Condition { arg, mask, eq } = *condition;
    Argument { index: arg, value: mask, value_two: eq, op: "SCMP_CMP_MASKED_EQ" }
}

/// What an OCI runtime itself calls between installing the filter and starting the program: it closes its descriptors, and its
/// own runtime schedules threads. And what the init calls that holds the program: it reads, and asks for what lies where.
const RUNTIME: [&str; 14] = [
    "exit", "fstatfs", "getdents64", "lseek", "nanosleep", "newfstatat", "openat", "poll", "readlink", "readlinkat", "restart_syscall", "sched_yield", "statx", "tgkill",
];
/// clone(2), `CLONE_THREAD`: a thread of the same process, nothing else.
const THREADS: Condition = Condition { arg: 0, mask: 0x0001_0000, eq: 0x0001_0000 };

fn named(rules: &[Rule]) -> BTreeSet<&str> {
    rules.iter().flat_map(|rule| &rule.calls).map(String::as_str).collect()
}

/// Those of the runtime's calls that no rule of the role names.
fn runtime(rules: &[Rule]) -> Vec<Entry> {
    let named = named(rules);
    let entry = |names: Vec<String>, args| Entry { names, action: "SCMP_ACT_ALLOW", errno_ret: None, args };
    let calls: Vec<String> = RUNTIME.iter().filter(|call| !named.contains(**call)).map(|&call| call.to_owned()).collect();
    let threads = (!named.contains("clone")).then(|| entry(vec!["clone".to_owned()], vec![masked(&THREADS)]));
    let calls = (!calls.is_empty()).then(|| entry(calls, Vec::new()));
    calls.into_iter().chain(threads).collect()
}

/// Every call of the architecture that neither a rule nor the runtime's list names.
fn unnamed(rules: &[Rule], default: Errno) -> Entry {
    let mut named = named(rules);
    named.extend(RUNTIME.iter().chain(&["clone"]));
    let names = Arch::OWN.calls().filter(|name| !named.contains(name)).map(str::to_owned).collect();
    Entry { names, action: "SCMP_ACT_ERRNO", errno_ret: Some(default.number()), args: Vec::new() }
}
