//! torbox on AArch64, whose programs, profiles and images nobody here could run otherwise: in a virtual machine that is one, with a
//! real browser and tor. Made by `make test-arm64`, which compiles for it.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use torbox_tests::boxed::kept_dir;
use torbox_tests::testnet::{Options, TestNet, helper};
use torbox_tests::vm::Guest;
use torbox_tests::{lock, require};

const USER: u32 = 1000;
/// Where `make test-arm64` puts what it compiled, and the images.
const MADE: &str = "arm64-torbox";

/// A user's audit in the browser's place, and then the browser itself. What its processes that show pages are held by is printed while they are there.
const SCRIPT: &str = r#"
connect
torbox() { HOME=/home/tester /usr/bin/setpriv --reuid 1000 --regid 1000 --clear-groups /usr/bin/torbox --dir /home/tester/torbox "$@" --browser firefox-esr --torrc /etc/torrc; }
act machine uname -m
act audit torbox audit
torbox run --verbose --display served http://page.torbox.test/arm64 2>&1 &
for second in $(seq 300); do
  sleep 1
  for process in $(pgrep -f " tab$"); do echo "PAGE $(grep Seccomp_filters /proc/$process/status | cut -f 2) $(readlink /proc/$process/ns/net)"; done
done
poweroff -f
"#;

/// Every attempt to get out fails, and the browser shows a page with its own sandbox inside torbox's.
#[test]
#[ignore = "make test-arm64 compiles what it needs"]
fn a_box_holds_on_aarch64_and_shows_the_page() {
    require!("root", "qemu-system-aarch64", "mkfs.ext4", "busybox");
    let _alone = lock::heavy().unwrap();
    let made = kept_dir().unwrap().join(MADE);
    let guest = Guest::arm64().unwrap();
    for (from, to) in [("torbox", "/usr/bin/torbox"), ("init", "/usr/libexec/torbox/init"), ("gate", "/usr/libexec/torbox/gate"), ("display", "/usr/libexec/torbox/display")] {
        guest.install(&made.join(from), Some(to)).unwrap();
    }
    guest.add_user("tester", USER).unwrap();
    guest.make_dir("/home/tester/torbox", USER).unwrap();
    guest.take(&made.join("images/data"), "/home/tester/torbox/data", USER).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let net = TestNet::up(&Options::new(&temporary.path().join("net"), &helper().unwrap())).unwrap();
    guest.write("/etc/torrc", &fs::read_to_string(&net.state().client_torrc).unwrap(), 0o644).unwrap();
    let log = net.web_log();
    let mark = log.mark();
    let came = || log.since(mark).unwrap().into_iter().any(|request| request.path == "/arm64" && net.exit_of(&request).is_some());
    let said = guest.run_until(SCRIPT, Some(&net.client()), |said| came() && said.contains("\nPAGE 2 ")).unwrap();
    let kept = kept_dir().unwrap().join("arm64.log");
    fs::write(&kept, &said).unwrap();
    assert!(said.contains("\naarch64\n") && said.contains("\nEND audit 0\n"), "{}: {said}", kept.display());
    assert!(came() && said.contains("the box holds: ") && said.contains("\nPAGE 2 "), "{}: {said}", kept.display());
}
