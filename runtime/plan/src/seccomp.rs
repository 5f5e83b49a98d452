//! Seccomp profiles (seccomp(2)): allow-lists as data, compiled to the kernel's classic BPF.
//!
//! A profile is one JSON file per role and architecture in `policy/seccomp`; every rule carries its reason. What a
//! profile does not list is refused. Compiling never widens a profile: an unknown call, errno or field is an error.

use crate::ids::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::str::FromStr;
use syscalls::x86_64::Sysno;

/// An allow-list of system calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What a call that no rule allows returns.
    pub default: Errno,
    /// The rules; a call appears in one of them.
    pub rules: Vec<Rule>,
}

/// Calls that are allowed, always or with certain arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names as in syscalls(2).
    pub calls: Vec<String>,
    /// Alternatives, each a list of conditions that must all hold; empty: always allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Vec<Condition>>,
    /// What the call returns when no alternative holds; the profile's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Errno>,
    /// Who needs it, and what for.
    pub reason: String,
}

/// `argument & mask == eq`, on the low 32 bits, which is all that the kernel reads of the arguments tested here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// Bits to look at.
    #[serde(default = "all_bits")]
    pub mask: u32,
    /// Their value.
    pub eq: u32,
}

const fn all_bits() -> u32 {
    u32::MAX
}

/// The errors that a refused call may return (errno(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "errno(3) says what each means")]
pub enum Errno {
    Eperm,
    Eacces,
    Einval,
    Enosys,
    Eafnosupport,
}

impl Errno {
    /// Its number on Linux.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Eperm => 1,
            Self::Eacces => 13,
            Self::Einval => 22,
            Self::Enosys => 38,
            Self::Eafnosupport => 97,
        }
    }
}

/// One instruction of the filter: `struct sock_filter` of linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields of struct sock_filter")]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not the form that a profile has.
    #[error("the seccomp profile of {role} cannot be read")]
    Malformed {
        /// Whose.
        role: Role,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A call that the architecture does not have.
    #[error("there is no system call {0:?}")]
    UnknownCall(String),
    /// A call in two rules.
    #[error("the system call {0:?} appears twice")]
    Twice(String),
    /// A rule that says nothing of why it is there, or allows nothing.
    #[error("the rule for {0:?} has no reason")]
    NoReason(Vec<String>),
    /// An argument that system calls do not have.
    #[error("system calls have arguments 0 to 5, not {0}")]
    NoSuchArgument(u8),
    /// A rule too long for the filter's jumps of at most 255 instructions.
    #[error("the rule for {0:?} has too many alternatives")]
    TooLong(String),
}

/// The profile of `role` on `x86_64`.
///
/// # Errors
/// [`ProfileError`] when the shipped file is not a valid profile.
pub fn profile(role: Role) -> Result<Profile, ProfileError> {
    let text = match role {
        Role::Tor => include_str!("../policy/seccomp/x86_64/tor.json"),
        Role::Gate => include_str!("../policy/seccomp/x86_64/gate.json"),
        Role::Browser => include_str!("../policy/seccomp/x86_64/browser.json"),
    };
    let profile: Profile = serde_json::from_str(text).map_err(|source| ProfileError::Malformed { role, source })?;
    check(&profile)?;
    Ok(profile)
}

/// Checks that every call exists and stands once, and that every rule has a reason.
///
/// # Errors
/// [`ProfileError`], naming the first rule that is wrong.
pub fn check(profile: &Profile) -> Result<(), ProfileError> {
    let mut seen = BTreeSet::new();
    for rule in &profile.rules {
        if rule.reason.trim().is_empty() || rule.calls.is_empty() {
            return Err(ProfileError::NoReason(rule.calls.clone()));
        }
        if let Some(condition) = rule.when.iter().flatten().find(|condition| condition.arg > 5) {
            return Err(ProfileError::NoSuchArgument(condition.arg));
        }
        for call in &rule.calls {
            number(call)?;
            if !seen.insert(call) {
                return Err(ProfileError::Twice(call.clone()));
            }
        }
    }
    Ok(())
}

fn number(call: &str) -> Result<u32, ProfileError> {
    let unknown = || ProfileError::UnknownCall(call.to_owned());
    let number = Sysno::from_str(call).map_err(|_| unknown())?;
    u32::try_from(number.id()).map_err(|_| unknown())
}

// linux/bpf_common.h, linux/seccomp.h, linux/audit.h
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Compiles `profile` for `x86_64`. Other architectures, among them 32-bit code with its socketcall(2), are killed;
/// x32 calls carry a bit in their number that no rule matches, and are refused.
///
/// # Errors
/// [`ProfileError`] when the profile is not valid.
pub fn compile(profile: &Profile) -> Result<Vec<Instruction>, ProfileError> {
    check(profile)?;
    let mut code = vec![load(OFFSET_ARCH), jump_equal(AUDIT_ARCH_X86_64, 1, 0), ret(KILL_PROCESS), load(OFFSET_NUMBER)];
    for rule in &profile.rules {
        let body = body(rule, profile.default);
        for call in &rule.calls {
            let length = u8::try_from(body.len()).map_err(|_| ProfileError::TooLong(call.clone()))?;
            code.push(jump_equal(number(call)?, 0, length));
            code.extend(&body);
        }
    }
    code.push(ret(ERRNO | u32::from(profile.default.number())));
    Ok(code)
}

/// What is executed for a call of `rule`: always ends in a return.
fn body(rule: &Rule, default: Errno) -> Vec<Instruction> {
    if rule.when.is_empty() {
        return vec![ret(ALLOW)];
    }
    let refused = ret(ERRNO | u32::from(rule.otherwise.unwrap_or(default).number()));
    rule.when.iter().flat_map(|alternative| conjunction(alternative)).chain([refused]).collect()
}

/// All conditions hold: return; otherwise fall through to what follows.
fn conjunction(conditions: &[Condition]) -> Vec<Instruction> {
    let mut code = vec![ret(ALLOW)];
    for condition in conditions.iter().rev() {
        let behind = u8::try_from(code.len()).unwrap_or(u8::MAX);
        let test = [load(OFFSET_ARGS + 8 * u32::from(condition.arg)), Instruction { code: AND, jt: 0, jf: 0, k: condition.mask }, jump_equal(condition.eq, 0, behind)];
        code.splice(0..0, test);
    }
    code
}

const fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}

const fn jump_equal(k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, jt, jf, k }
}

const fn ret(k: u32) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel would decide: an interpreter for the instructions that [`compile`] emits.
    fn run(code: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            OFFSET_NUMBER => nr,
            OFFSET_ARCH => arch,
            _ => args[((offset - OFFSET_ARGS) / 8) as usize] as u32,
        };
        let (mut at, mut a) = (0, 0);
        loop {
            let i = code[at];
            at += 1;
            match i.code {
                LOAD_WORD => a = word(i.k),
                AND => a &= i.k,
                JUMP_EQUAL => at += usize::from(if a == i.k { i.jt } else { i.jf }),
                RETURN => return i.k,
                other => panic!("unexpected instruction {other:#x}"),
            }
        }
    }

    fn compiled(role: Role) -> Vec<Instruction> {
        compile(&profile(role).unwrap()).unwrap()
    }

    fn verdict(role: Role, call: &str, args: [u64; 6]) -> u32 {
        run(&compiled(role), AUDIT_ARCH_X86_64, number(call).unwrap(), args)
    }

    #[test]
    fn g2_browser_and_gate_have_af_unix_sockets_only() {
        for role in [Role::Browser, Role::Gate] {
            assert_eq!(verdict(role, "socket", [1, 1, 0, 0, 0, 0]), ALLOW, "{role}: AF_UNIX");
            for family in (0..64).filter(|family| *family != 1) {
                assert_eq!(verdict(role, "socket", [family, 1, 0, 0, 0, 0]), ERRNO | 97, "{role}: family {family}");
            }
        }
        assert_eq!(verdict(Role::Tor, "socket", [2, 1, 0, 0, 0, 0]), ALLOW, "tor's way out");
        assert_eq!(verdict(Role::Tor, "socket", [40, 1, 0, 0, 0, 0]), ERRNO | 97, "AF_VSOCK");
    }

    #[test]
    fn g2_other_architectures_are_killed() {
        let code = compiled(Role::Browser);
        for arch in [0x4000_0003 /* i386 */, 0xc000_00b7 /* aarch64 */] {
            assert_eq!(run(&code, arch, 1, [0; 6]), KILL_PROCESS);
        }
        let x32_write = 0x4000_0001;
        assert_eq!(run(&code, AUDIT_ARCH_X86_64, x32_write, [0; 6]), ERRNO | 38);
    }

    #[test]
    fn g2_dangerous_calls_are_refused_in_every_role() {
        let calls = [
            "io_uring_setup", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "kexec_load", "init_module", "finit_module",
            "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen", "setns", "process_vm_readv", "process_vm_writev", "ptrace",
            "open_by_handle_at", "name_to_handle_at", "swapon", "reboot", "acct", "quotactl_fd", "kcmp", "pidfd_getfd", "iopl", "ioperm", "clone3",
        ];
        for role in Role::ALL {
            for call in calls {
                assert_ne!(verdict(role, call, [0; 6]), ALLOW, "{role} may call {call}");
            }
        }
    }

    #[test]
    fn g9_namespaces_of_the_inner_sandbox_and_no_others() {
        const NEWUSER_NET_IPC: u64 = 0x1000_0000 | 0x4000_0000 | 0x0800_0000;
        const NEWNS: u64 = 0x0002_0000;
        for call in ["clone", "unshare"] {
            assert_eq!(verdict(Role::Browser, call, [NEWUSER_NET_IPC, 0, 0, 0, 0, 0]), ALLOW, "{call}");
            assert_ne!(verdict(Role::Browser, call, [NEWUSER_NET_IPC | NEWNS, 0, 0, 0, 0, 0]), ALLOW, "{call} with a mount namespace");
        }
    }

    #[test]
    fn invalid_profiles_are_refused_by_name() {
        let of = |rules: serde_json::Value| check(&serde_json::from_value(serde_json::json!({"default": "ENOSYS", "rules": rules})).unwrap()).unwrap_err().to_string();
        assert_eq!(of(serde_json::json!([{"calls": ["nosuch"], "reason": "r"}])), "there is no system call \"nosuch\"");
        assert_eq!(of(serde_json::json!([{"calls": ["read", "read"], "reason": "r"}])), "the system call \"read\" appears twice");
        assert_eq!(of(serde_json::json!([{"calls": ["read"], "reason": " "}])), "the rule for [\"read\"] has no reason");
        assert!(serde_json::from_str::<Profile>(r#"{"default": "ENOSYS", "rules": [], "extra": 1}"#).is_err());
    }

    proptest! {
        /// A call is allowed exactly when its rule says so, whatever the other rules are.
        #[test]
        fn compiled_filter_agrees_with_the_profile(nr in 0_u32..480, args in proptest::array::uniform6(any::<u64>()), small in proptest::array::uniform6(0_u64..48)) {
            for role in Role::ALL {
                let profile = profile(role).unwrap();
                for args in [args, small] {
                    let found = run(&compile(&profile).unwrap(), AUDIT_ARCH_X86_64, nr, args);
                    prop_assert_eq!(found == ALLOW, allowed(&profile, nr, args));
                }
            }
        }
    }

    fn allowed(profile: &Profile, nr: u32, args: [u64; 6]) -> bool {
        let holds = |c: &Condition| args[usize::from(c.arg)] as u32 & c.mask == c.eq;
        let rule = profile.rules.iter().find(|rule| rule.calls.iter().any(|call| number(call).unwrap() == nr));
        rule.is_some_and(|rule| rule.when.is_empty() || rule.when.iter().any(|all| all.iter().all(holds)))
    }
}
