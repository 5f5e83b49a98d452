//! torbox on a machine with the unified hierarchy of control groups: memory and process limits of root's boxes and of a user's, where
//! they are delegated and where not; with AppArmor; and with a clock that jumps. This machine need have neither, and its clock is not the tests', so
//! a virtual one is booted.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::testnet::{Options, TestNet, helper};
use torbox_tests::{lock, require};
use torbox_tests::vm::Guest;

const USER: u32 = 1000;

/// Makes a group that is the user's, and calls torbox.
const SCRIPT: &str = r#"
groups=/sys/fs/cgroup
echo "+memory +pids" > $groups/cgroup.subtree_control
mkdir -p $groups/user/shell $groups/other
chown -R 1000:1000 $groups/user
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

/// A guest in which torbox is installed, and has its images, for `tester`.
fn guest_with_torbox() -> Guest {
    let kept = Installed::new(Who::Root, &kept_dir().unwrap()).unwrap();
    kept.build_images().unwrap();
    let guest = Guest::new().unwrap();
    guest.install(kept.program(), Some("/usr/bin/torbox")).unwrap();
    ["newuidmap", "newgidmap", "setpriv", "nsenter", "pgrep"].iter().for_each(|name| guest.install(&require::program(name).unwrap(), Some(&format!("/usr/bin/{name}"))).unwrap());
    for program in ["init", "gate", "display"] {
        let from = kept.program().ancestors().nth(2).unwrap().join("libexec/torbox").join(program);
        guest.install(Path::new(&from), Some(&format!("/usr/libexec/torbox/{program}"))).unwrap();
    }
    guest.add_user("tester", USER).unwrap();
    guest.make_dir("/home/tester/torbox", USER).unwrap();
    guest.take(&kept.dir().join("data"), "/home/tester/torbox/data", USER).unwrap();
    guest
}

/// The box is verified, which includes its limits, or it would not start: its exit code tells.
#[test]
fn g8_limits_hold_where_control_groups_are_delegated() {
    require!("root", "qemu-system-x86_64", "mkfs.ext4", "busybox");
    let _alone = lock::heavy().unwrap();
    let guest = guest_with_torbox();
    guest.write("/etc/torrc", "DisableNetwork 1\n", 0o644).unwrap();
    let profile = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/apparmor")).unwrap();
    guest.compile_profile(&profile, "/etc/profile").unwrap();
    guest.compile_profile(REFUSING, "/etc/refusal").unwrap();
    let said = guest.run(SCRIPT, None).unwrap();

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

/// A user's box on the network of the host's namespace. Pages are asked for at the gate's socket, as the browser does it.
const JUMPS: &str = r#"
connect
torbox() { HOME=/home/tester /usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups /usr/bin/torbox --dir /home/tester/torbox "$@"; }
page() { curl --silent --show-error --max-time ${2:-150} --proxy socks5h://localhost/proc/$gate/root/run/torbox/browser/socks http://page.torbox.test/$1; }
torbox run --verbose --display served --browser firefox-esr --torrc /etc/torrc about:blank > /tmp/said 2>&1 &
box=$!
for second in $(seq 200); do grep -q "connected to the Tor network" /tmp/said && break; kill -0 $box 2> /dev/null || break; sleep 1; done
gate=$(pgrep -o -f "^/usr/libexec/torbox/gate ")
act before page before
date -s @$(($(date +%s) + 10800))
act hours page hours
act status-hours torbox status
date -s @$(($(date +%s) + 259200))
# tor looks at the clock once a second, and uses what circuits it has until then.
lost() { for try in $(seq 60); do grep -q "no longer connected" /tmp/said && return; page still 5; sleep 1; done; return 1; }
act lost lost
act days page days 30
act status-days torbox status
date -s @$(($(date +%s) - 270000))
act after page after
act status-after torbox status
act stop torbox stop
act box wait $box
act said cat /tmp/said
act left ps
poweroff -f
"#;

/// By hours, which nobody notices; by days, with which no circuit can be built and nothing goes out, and torbox says why; and back.
#[test]
fn a_clock_may_jump_under_a_connected_tor() {
    require!("root", "qemu-system-x86_64", "mkfs.ext4", "busybox", "curl");
    let _alone = lock::heavy().unwrap();
    let guest = guest_with_torbox();
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let net = TestNet::up(&Options::new(&temporary.path().join("net"), &helper().unwrap())).unwrap();
    guest.write("/etc/torrc", &fs::read_to_string(&net.state().client_torrc).unwrap(), 0o644).unwrap();
    guest.install(&require::program("curl").unwrap(), Some("/usr/bin/curl")).unwrap();
    let log = net.web_log();
    let mark = log.mark();
    let said = guest.run(JUMPS, Some(&net.client())).unwrap();
    for name in ["before", "hours", "lost", "after", "stop", "box"] {
        assert_eq!(outcome(&said, name).1, "0", "{name}: {said}");
    }
    assert_ne!(outcome(&said, "days").1, "0", "{said}");
    let came = log.since(mark).unwrap().into_iter().filter(|request| request.path != "/still");
    let came: Vec<_> = came.map(|request| (request.path.clone(), net.exit_of(&request).is_some())).collect();
    assert_eq!(came, ["/before", "/hours", "/after"].map(|path| (path.to_owned(), true)), "{said}");
    let status = |name| outcome(&said, name).0.lines().find_map(|line| line.trim_start().strip_prefix("tor ")).map(str::trim_start).unwrap_or_default();
    assert_eq!((status("status-hours"), status("status-after")), ("connected", "connected"), "{said}");
    // tor itself does not always say by how much.
    assert!(status("status-days").starts_with("no longer connected: ") && status("status-days").contains("the clock of this machine"), "{said}");
    let told = ["connected to the Tor network\n", "no longer connected: ", "hint: set the clock", "connected to the Tor network again\n"];
    let places = told.map(|text| outcome(&said, "said").0.find(text).unwrap_or_else(|| panic!("no {text:?} in:\n{said}")));
    assert!(places.is_sorted(), "{said}");
    assert!(!outcome(&said, "left").0.contains("torbox"), "{said}");
}
