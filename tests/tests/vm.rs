//! torbox on a machine with the unified hierarchy of control groups: memory and process limits of root's boxes and of a user's, where
//! they are delegated and where not; and with AppArmor. This machine need have neither, so a virtual one is booted.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::{lock, require};
use torbox_tests::vm::Guest;

const USER: u32 = 1000;

/// Mounts what a machine has (the shell finds its own commands through proc(5)), makes a group that is the user's, and calls torbox. What a call printed stands between
/// `BEGIN name` and `END name code`.
const SCRIPT: &str = r#"#!/bin/busybox sh
export PATH=/usr/bin:/bin
/bin/busybox mount -t proc proc /proc; mount -t devtmpfs dev /dev; mount -t sysfs sys /sys; mount -t tmpfs -o mode=1777 tmp /tmp; mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
groups=/sys/fs/cgroup
echo "+memory +pids" > $groups/cgroup.subtree_control
mkdir -p $groups/user/shell $groups/other
chown -R 1000:1000 $groups/user
act() { name=$1; shift; echo "BEGIN $name"; "$@" 2>&1; echo "END $name $?"; }
torbox="torbox --dir /home/tester/torbox"
box="--browser firefox-esr --torrc /etc/torrc"
as_user() { sh -c "echo \$\$ > $groups/$1/cgroup.procs; HOME=/home/tester exec /usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups $torbox $2 $box"; }
mount -t securityfs securityfs /sys/kernel/security
cat /etc/refusal > /sys/kernel/security/apparmor/.load
act refused as_user user/shell probe
cat /etc/profile > /sys/kernel/security/apparmor/.replace
act profiles cat /sys/kernel/security/apparmor/profiles
act user as_user user/shell probe
act audit as_user user/shell "audit --json"
act left ls $groups/user
act undelegated as_user other "plan --display none"
act delegated as_user user/shell "plan --display none"
act root $torbox probe $box
# A box that stays: its audit stands still. It is joined as a program in the browser's place would be, with its limits.
as_user user/shell "audit --json --name hog" > /tmp/hog 2>&1 &
hog=$!
until audit=$(pgrep -f "^/usr/libexec/torbox/init audit"); do sleep 0.1; done
kill -STOP $audit
act label cat /proc/$(pgrep -o -f "^torbox .* --name hog")/attr/current
group=$groups$(cut -d: -f3 /proc/$audit/cgroup)
inside() { sh -c "echo \$\$ > $group/cgroup.procs && exec /usr/bin/nsenter --target $audit --all --root --wd=/ --setuid 1000 --setgid 1000 /proc/self/fd/0/busybox sh -c '$1'" < /bin; }
# Each keeps what it took, until it is killed or what it writes to ends.
inside 'for hog in 1 2 3; do { dd if=/dev/zero bs=2000M count=1; echo $? >&2; } | sleep 999 & done; wait' > /tmp/eaters 2>&1 &
eaters=$!
until grep -q "oom_kill [1-9]" $group/memory.events; do sleep 0.2; done
act answers true
kill $(pgrep -f "^sleep 999")
wait $eaters
act eaters cat /tmp/eaters
act full inside "dd if=/dev/zero of=/home/user/hog bs=1M count=1000; rm /home/user/hog"
for year in 2040 2001; do act $year date -s $year-01-01; done
kill -CONT $audit
act hog wait $hog
act said cat /tmp/hog
# What is killed with its groups full leaves nothing that the next box of that name minds, or keeps.
as_user user/shell "audit --json --name killed" > /tmp/killed 2>&1 &
until pgrep -f "^/usr/libexec/torbox/init audit" > /tmp/found; do sleep 0.1; done
act filled ls $groups/user
kill -KILL $(pgrep -o -f "^torbox .* --name killed")
act again as_user user/shell "probe --name killed"
act still ls $groups/user
act groups ls $groups
poweroff -f
"#;

/// A profile of AppArmor's that allows all but what torbox's own is there for.
const REFUSING: &str = "abi <abi/4.0>,\ninclude <tunables/global>\nprofile torbox /usr/bin/torbox { file, capability, signal, unix, mount, pivot_root, network, }\n";

/// What call `name` printed, and its exit code.
fn outcome<'a>(said: &'a str, name: &str) -> (&'a str, &'a str) {
    let (_, rest) = said.split_once(&format!("BEGIN {name}\n")).unwrap_or_else(|| panic!("no {name} in:\n{said}"));
    let (printed, rest) = rest.split_once(&format!("END {name} ")).unwrap_or_else(|| panic!("no end of {name} in:\n{said}"));
    (printed, rest.lines().next().unwrap_or_default())
}

/// The memory limits of the containers in a plan.
fn limits(plan: &str) -> Vec<Option<u64>> {
    let plan: Value = serde_json::from_str(plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
    plan["containers"].as_array().unwrap().iter().map(|container| container["cgroup"]["limits"]["memory"].as_u64()).collect()
}

/// Where AppArmor refuses user namespaces, torbox says so; with torbox's own profile in its place the calls that follow succeed.
fn apparmor_lets_torbox_in(said: &str) {
    let (printed, code) = outcome(said, "refused");
    assert!(code == "6" && printed.contains("cannot enter the runtime's namespaces: Permission denied") && printed.contains("/etc/apparmor.d/torbox"), "{said}");
    assert_eq!(outcome(said, "profiles"), ("torbox (unconfined)\n", "0"), "{said}");
    assert_eq!(outcome(said, "label"), ("torbox (unconfined)\n", "0"), "{said}");
}

/// Who wants more memory than the box has is killed, and whoever writes more than a place holds is told so; the machine goes on, whose clock then jumps
/// decades to and fro, and the box ends in order.
fn a_hog_is_cut_off_and_a_clock_may_jump(said: &str) {
    assert!(outcome(said, "eaters").0.lines().any(|code| code == "137") && outcome(said, "answers").1 == "0", "{said}");
    assert!(outcome(said, "full").0.contains("No space left on device"), "{said}");
    assert!(outcome(said, "2040").0.contains(" 2040") && outcome(said, "2001").0.contains(" 2001"), "{said}");
    assert_eq!(outcome(said, "hog").1, "0", "{said}");
    let left = outcome(said, "still").0;
    assert!(!left.contains("torbox"), "{left}");
}

/// The box is verified, which includes its limits, or it would not start: its exit code tells.
#[test]
fn g8_limits_hold_where_control_groups_are_delegated() {
    require!("root", "qemu-system-x86_64", "mkfs.ext4", "busybox");
    let _alone = lock::heavy().unwrap();
    let kept = Installed::new(Who::Root, &kept_dir().unwrap()).unwrap();
    kept.build_images().unwrap();
    let guest = Guest::new().unwrap();
    guest.install(kept.program(), Some("/usr/bin/torbox")).unwrap();
    ["newuidmap", "newgidmap", "setpriv", "nsenter", "pgrep"].iter().for_each(|name| guest.install(&require::program(name).unwrap(), Some(&format!("/usr/bin/{name}"))).unwrap());
    for program in ["init", "gate", "display"] {
        let from = kept.program().ancestors().nth(2).unwrap().join("libexec/torbox").join(program);
        guest.install(Path::new(&from), Some(&format!("/usr/libexec/torbox/{program}"))).unwrap();
    }
    for (file, text) in [("/etc/passwd", "root:x:0:0::/root:/bin/sh\ntester:x:1000:1000::/home/tester:/bin/sh\n"), ("/etc/group", "root:x:0:\ntester:x:1000:\n"),
        ("/etc/subuid", "tester:100000:65536\n"), ("/etc/subgid", "tester:100000:65536\n"), ("/etc/torrc", "DisableNetwork 1\n")] {
        guest.write(file, text, 0o644).unwrap();
    }
    let profile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/apparmor")).unwrap();
    guest.compile_profile(&profile, "/etc/profile").unwrap();
    guest.compile_profile(REFUSING, "/etc/refusal").unwrap();
    guest.make_dir("/home/tester/torbox", USER).unwrap();
    guest.take(&kept.dir().join("data"), "/home/tester/torbox/data", USER).unwrap();
    let said = guest.run(SCRIPT).unwrap();

    apparmor_lets_torbox_in(&said);
    for name in ["user", "root", "again"] {
        let (printed, code) = outcome(&said, name);
        assert_eq!(code, "0", "{name}: {printed}\n{said}");
    }
    assert_eq!(outcome(&said, "audit").1, "0", "{}", outcome(&said, "audit").0);
    a_hog_is_cut_off_and_a_clock_may_jump(&said);
    assert!(limits(outcome(&said, "delegated").0).iter().all(Option::is_some), "{said}");
    assert!(limits(outcome(&said, "undelegated").0).iter().all(Option::is_none), "{said}");
    let left = |name| outcome(&said, name).0.lines().filter(|line| line.contains("torbox")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(left("filled").len(), 1, "{said}");
    assert_eq!((left("left"), left("still"), left("groups")), (vec![], vec![], vec![]));
    assert!(!said.contains("cannot delete"), "{said}");
}
