//! Seccomp profiles (seccomp(2)): allow-lists as data, compiled to the kernel's classic BPF.
//!
//! A profile is one JSON file per role or process of torbox in `policy/seccomp`; every rule carries its reason. What a
//! profile does not list is refused. Compiling never widens a profile: an unknown call, errno or field is an error.

use crate::ids::Role;
use crate::plan::Container;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

mod arch;
pub use arch::Arch;

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

impl Profile {
    /// The rule in which `call` stands.
    #[must_use]
    pub fn rule(&self, call: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.calls.iter().any(|name| name == call))
    }
}

impl Rule {
    /// The first alternative by which a call with `args` is allowed, 0 where there are none; `None` where it is refused.
    #[must_use]
    pub fn alternative(&self, args: [u64; 6]) -> Option<usize> {
        let first = self.when.iter().position(|all| all.iter().all(|condition| condition.holds(args)));
        if self.when.is_empty() { Some(0) } else { first }
    }
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

impl Condition {
    fn holds(&self, args: [u64; 6]) -> bool {
        let argument = args.get(usize::from(self.arg)).map(|argument| argument & u64::from(self.mask));
        argument == Some(u64::from(self.eq))
    }
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
    #[error("the seccomp profile of {whose} cannot be read")]
    Malformed {
        /// The role or process.
        whose: &'static str,
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

/// A process of torbox's own that stays as long as a box runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The one that the user started.
    Run,
    /// The one that waits outside the box's PID namespace.
    Outer,
    /// Process 1 of it, which supervises the containers.
    Inner,
    /// The one that serves a display as a page, where there is one.
    Viewer,
}

impl Process {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Run, Self::Outer, Self::Inner, Self::Viewer];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Outer => "outer",
            Self::Inner => "inner",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The profile of `role` on this architecture.
///
/// # Errors
/// [`ProfileError`] when the shipped file is not a valid profile.
pub fn profile(role: Role) -> Result<Profile, ProfileError> {
    arch::translate(shipped(role)?, Arch::OWN)
}

/// The profile of `container`: its role's, with the rules of `names.json` where something in it looks names up, and of `sound.json` where it may be heard,
/// in the place of those for the same calls.
///
/// # Errors
/// [`ProfileError`] when a shipped file is not a valid profile.
pub fn profile_of(container: &Container) -> Result<Profile, ProfileError> {
    let mut profile = shipped(container.role)?;
    let names = container.looks_up_names().then_some(("names", include_str!("../policy/seccomp/names.json")));
    let sound = container.is_heard().then_some(("sound", include_str!("../policy/seccomp/sound.json")));
    for (name, text) in names.into_iter().chain(sound) {
        let more = parse(name, text)?;
        profile.rules.retain(|rule| !more.rules.iter().any(|other| other.calls == rule.calls));
        profile.rules.extend(more.rules);
        check(&profile, Arch::X86_64)?;
    }
    arch::translate(profile, Arch::OWN)
}

fn shipped(role: Role) -> Result<Profile, ProfileError> {
    let text = match role {
        Role::Tor => include_str!("../policy/seccomp/tor.json"),
        Role::Gate => include_str!("../policy/seccomp/gate.json"),
        Role::Display => include_str!("../policy/seccomp/display.json"),
        Role::Browser => include_str!("../policy/seccomp/browser.json"),
    };
    parse(role.name(), text)
}

/// The profile of a process of torbox's own once a box runs, on this architecture.
///
/// # Errors
/// [`ProfileError`] when the shipped file is not a valid profile.
pub fn process_profile(process: Process) -> Result<Profile, ProfileError> {
    arch::translate(shipped_process(process)?, Arch::OWN)
}

fn shipped_process(process: Process) -> Result<Profile, ProfileError> {
    let text = match process {
        Process::Run => include_str!("../policy/seccomp/run.json"),
        Process::Outer => include_str!("../policy/seccomp/outer.json"),
        Process::Inner => include_str!("../policy/seccomp/inner.json"),
        Process::Viewer => include_str!("../policy/seccomp/viewer.json"),
    };
    parse(process.name(), text)
}

fn parse(whose: &'static str, text: &str) -> Result<Profile, ProfileError> {
    let profile: Profile = serde_json::from_str(text).map_err(|source| ProfileError::Malformed { whose, source })?;
    check(&profile, Arch::X86_64)?;
    Ok(profile)
}

/// Checks that every call exists on `arch` and stands once, and that every rule has a reason.
fn check(profile: &Profile, arch: Arch) -> Result<(), ProfileError> {
    let mut seen = BTreeSet::new();
    for rule in &profile.rules {
        if rule.reason.trim().is_empty() || rule.calls.is_empty() {
            return Err(ProfileError::NoReason(rule.calls.clone()));
        }
        if let Some(condition) = rule.when.iter().flatten().find(|condition| condition.arg > 5) {
            return Err(ProfileError::NoSuchArgument(condition.arg));
        }
        for call in &rule.calls {
            number(call, arch)?;
            if !seen.insert(call) {
                return Err(ProfileError::Twice(call.clone()));
            }
        }
    }
    Ok(())
}

fn number(call: &str, arch: Arch) -> Result<u32, ProfileError> {
    arch.number(call).ok_or_else(|| ProfileError::UnknownCall(call.to_owned()))
}

// linux/bpf_common.h, linux/seccomp.h, linux/audit.h
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Compiles `profile` for this architecture. Others, among them 32-bit code with its socketcall(2), are killed;
/// x32 calls carry a bit in their number that no rule matches, and are refused.
///
/// # Errors
/// [`ProfileError`] when the profile is not valid.
pub fn compile(profile: &Profile) -> Result<Vec<Instruction>, ProfileError> {
    compile_for(profile, Arch::OWN)
}

fn compile_for(profile: &Profile, arch: Arch) -> Result<Vec<Instruction>, ProfileError> {
    check(profile, arch)?;
    let mut code = vec![load(OFFSET_ARCH), jump_equal(arch.audit(), 1, 0), ret(KILL_PROCESS), load(OFFSET_NUMBER)];
    for rule in &profile.rules {
        let body = body(rule, profile.default);
        for call in &rule.calls {
            let length = u8::try_from(body.len()).map_err(|_| ProfileError::TooLong(call.clone()))?;
            code.push(jump_equal(number(call, arch)?, 0, length));
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

    /// The profile of a role or process, and the architecture that it is for, compiled.
    struct Compiled {
        whose: String,
        arch: Arch,
        profile: Profile,
        code: Vec<Instruction>,
    }

    impl Compiled {
        fn new(whose: String, shipped: Profile, arch: Arch) -> Self {
            let profile = arch::translate(shipped, arch).unwrap();
            Self { whose, arch, code: compile_for(&profile, arch).unwrap(), profile }
        }

        fn verdict(&self, call: &str, args: [u64; 6]) -> u32 {
            run(&self.code, self.arch.audit(), number(call, self.arch).unwrap(), args)
        }
    }

    fn of_role(role: Role) -> [Compiled; 2] {
        Arch::ALL.map(|arch| Compiled::new(format!("{role} on {arch:?}"), shipped(role).unwrap(), arch))
    }

    fn of_process(process: Process) -> [Compiled; 2] {
        Arch::ALL.map(|arch| Compiled::new(format!("{process} on {arch:?}"), shipped_process(process).unwrap(), arch))
    }

    /// Every profile that is shipped, on every architecture.
    fn all() -> impl Iterator<Item = Compiled> {
        Role::ALL.into_iter().flat_map(of_role).chain(Process::ALL.into_iter().flat_map(of_process))
    }

    /// Whether `arch` has the call at all.
    fn exists(call: &str, arch: Arch) -> bool {
        arch.number(call).is_some()
    }

    #[test]
    fn g2_all_roles_but_tor_have_af_unix_sockets_only() {
        for held in [Role::Browser, Role::Gate, Role::Display].into_iter().flat_map(of_role) {
            let verdict = |family| held.verdict("socket", [family, 1, 0, 0, 0, 0]);
            assert_eq!(verdict(1), ALLOW, "{}: AF_UNIX", held.whose);
            for family in (0..64).filter(|family| *family != 1) {
                assert_eq!(verdict(family), ERRNO | 97, "{}: family {family}", held.whose);
            }
        }
        for tor in of_role(Role::Tor) {
            assert_eq!(tor.verdict("socket", [2, 1, 0, 0, 0, 0]), ALLOW, "tor's way out");
            assert_eq!(tor.verdict("socket", [40, 1, 0, 0, 0, 0]), ERRNO | 97, "AF_VSOCK");
        }
    }

    #[test]
    fn g2_other_architectures_are_killed() {
        const I386: u32 = 0x4000_0003;
        const ARM: u32 = 0x4000_0028;
        let [x86_64, aarch64] = of_role(Role::Browser);
        for (held, others) in [(&x86_64, [I386, Arch::Aarch64.audit()]), (&aarch64, [ARM, Arch::X86_64.audit()])] {
            others.iter().for_each(|other| assert_eq!(run(&held.code, *other, 1, [0; 6]), KILL_PROCESS));
        }
        let x32_write = 0x4000_0001;
        assert_eq!(run(&x86_64.code, Arch::X86_64.audit(), x32_write, [0; 6]), ERRNO | 38);
    }

    #[test]
    fn g2_dangerous_calls_are_refused_in_every_profile() {
        let calls = [
            "io_uring_setup", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "kexec_load", "init_module", "finit_module",
            "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen", "setns", "process_vm_readv", "process_vm_writev", "ptrace",
            "open_by_handle_at", "name_to_handle_at", "swapon", "reboot", "acct", "quotactl_fd", "kcmp", "pidfd_getfd", "iopl", "ioperm", "clone3",
        ];
        for held in all() {
            for call in calls.into_iter().filter(|call| exists(call, held.arch)) {
                assert_ne!(held.verdict(call, [0; 6]), ALLOW, "{}: {call}", held.whose);
            }
        }
    }

    #[test]
    fn g2_arguments_are_allowed_where_somebody_needs_them() {
        const NAME: u64 = 15;
        const SECCOMP: u64 = 22;
        const CORE: u64 = 62;
        // Call, the place of the argument, values that a browser uses, values that it does not.
        let table: [(&str, usize, &[u64], &[u64]); 4] = [
            ("prctl", 0, &[NAME, SECCOMP, 38, 0x5356_4d41], &[8, 24, 26, 28, 35, 36, 47, 53, 59, CORE]),
            ("fcntl", 1, &[0, 1, 2, 3, 4, 5, 6, 7, 1030, 1033, 1034], &[8, 10, 15, 1024, 1026, 1031]),
            ("madvise", 2, &[0, 3, 4, 8, 14, 15, 16, 17], &[9, 12, 13, 20, 21, 25, 100, 101]),
            ("mmap", 3, &[0x1, 0x2, 0x22, 0x32, 0x2_0022, 0x4022, 0x812], &[0x102, 0x4_0022]),
        ];
        for (held, (call, place, used, unused)) in of_role(Role::Browser).iter().flat_map(|held| table.map(|row| (held, row))) {
            let verdict = |value| held.verdict(call, std::array::from_fn(|at| if at == place { value } else { 0 }));
            used.iter().for_each(|value| assert_eq!(verdict(*value), ALLOW, "{}: {call} {value:#x}", held.whose));
            unused.iter().for_each(|value| assert_eq!(verdict(*value), ERRNO | 1, "{}: {call} {value:#x}", held.whose));
        }
    }

    #[test]
    fn g2_only_the_browser_makes_code() {
        for held in Role::ALL.into_iter().flat_map(of_role) {
            let browser = held.whose.starts_with("browser");
            for (call, protection) in [("mmap", 6), ("mmap", 7), ("mprotect", 4), ("mprotect", 5), ("mprotect", 7)] {
                assert_eq!(held.verdict(call, [0, 4096, protection, 2, 0, 0]) == ALLOW, browser, "{}: {call} {protection}", held.whose);
            }
            for (call, protection) in [("mmap", 0), ("mmap", 1), ("mmap", 3), ("mprotect", 0), ("mprotect", 1), ("mprotect", 3)] {
                assert_eq!(held.verdict(call, [0, 4096, protection, 2, 0, 0]), ALLOW, "{}: {call} {protection}", held.whose);
            }
        }
    }

    #[test]
    fn g12_what_supervises_a_box_starts_nothing_and_has_no_network() {
        for held in Process::ALL.into_iter().flat_map(of_process) {
            let (verdict, process) = (|call: &str, args| held.verdict(call, args), &held.whose);
            for call in ["execve", "execveat", "clone", "fork", "vfork", "unshare", "prctl", "chroot", "bind", "listen", "mknod", "setuid", "chmod", "link", "symlink"].into_iter().filter(|call| exists(call, held.arch)) {
                assert_ne!(verdict(call, [0; 6]), ALLOW, "{process} may call {call}");
            }
            for family in 2..64 {
                assert_ne!(verdict("socket", [family, 1, 0, 0, 0, 0]), ALLOW, "{process}: family {family}");
            }
            for executable in [4, 5, 7] {
                assert_ne!(verdict("mmap", [0, 4096, executable, 0, 0, 0]), ALLOW, "{process}: protection {executable}");
            }
            let own = if process.starts_with("viewer") { "accept4" } else { "wait4" };
            assert_eq!(verdict(own, [0; 6]), ALLOW, "{process}");
        }
    }

    #[test]
    fn g9_namespaces_of_the_inner_sandbox_and_no_others() {
        const NEWUSER_NET_IPC: u64 = 0x1000_0000 | 0x4000_0000 | 0x0800_0000;
        const NEWNS: u64 = 0x0002_0000;
        for (held, call) in of_role(Role::Browser).iter().flat_map(|held| ["clone", "unshare"].map(|call| (held, call))) {
            assert_eq!(held.verdict(call, [NEWUSER_NET_IPC, 0, 0, 0, 0, 0]), ALLOW, "{call}");
            assert_ne!(held.verdict(call, [NEWUSER_NET_IPC | NEWNS, 0, 0, 0, 0, 0]), ALLOW, "{call} with a mount namespace");
        }
    }

    #[test]
    fn invalid_profiles_are_refused_by_name() {
        let of = |rules: serde_json::Value| check(&serde_json::from_value(serde_json::json!({"default": "ENOSYS", "rules": rules})).unwrap(), Arch::X86_64).unwrap_err().to_string();
        assert_eq!(of(serde_json::json!([{"calls": ["nosuch"], "reason": "r"}])), "there is no system call \"nosuch\"");
        assert_eq!(of(serde_json::json!([{"calls": ["read", "read"], "reason": "r"}])), "the system call \"read\" appears twice");
        assert_eq!(of(serde_json::json!([{"calls": ["read"], "reason": " "}])), "the rule for [\"read\"] has no reason");
        assert!(serde_json::from_str::<Profile>(r#"{"default": "ENOSYS", "rules": [], "extra": 1}"#).is_err());
    }

    proptest! {
        /// A call is allowed exactly when its rule says so, whatever the other rules are.
        #[test]
        fn compiled_filter_agrees_with_the_profile(nr in 0_u32..480, args in proptest::array::uniform6(any::<u64>()), small in proptest::array::uniform6(0_u64..48)) {
            for held in all() {
                for args in [args, small] {
                    let found = run(&held.code, held.arch.audit(), nr, args);
                    prop_assert_eq!(found == ALLOW, allowed(&held, nr, args), "{}", held.whose);
                }
            }
        }
    }

    fn allowed(held: &Compiled, nr: u32, args: [u64; 6]) -> bool {
        let rule = held.profile.rules.iter().find(|rule| rule.calls.iter().any(|call| number(call, held.arch).unwrap() == nr));
        rule.is_some_and(|rule| rule.alternative(args).is_some())
    }
}
