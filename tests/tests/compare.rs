//! `torbox audit --compare podman-run`, with the real podman: the same attempts, side by side.
//!
//! What is open in a plain container was measured before and is named here, so that an audit that sees nothing fails. All of it
//! happens in a network namespace of this test, without a way out.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeMap;
use std::process::Command;

use torbox_tests::boxed::{Installed, Who, kept_dir};

/// What a container of podman's defaults lets through.
const OPEN: [(&str, &[&str]); 5] = [
    ("G1", &["net.interfaces", "net.routes.v4", "net.addresses.v4", "net.route-to.v4"]),
    (
        "G2",
        &[
            "socket.inet.stream", "socket.inet.dgram", "socket.inet.ping", "socket.inet.udplite", "socket.netlink.route", "socket.netlink.sock-diag",
            "socket.netlink.uevent", "socket.netlink.generic", "call.keyctl", "call.mount", "ioctl.TIOCSTI", "unshare.user-mnt", "abi.i386",
        ],
    ),
    ("G6", &["host.proc.cmdline", "host.proc.version", "host.proc.cpuinfo", "host.proc.meminfo", "host.etc.resolv.conf", "host.mounts", "host.clock", "namespace.time"]),
    ("G7", &["write", "run.tmp", "file.bound", "host-path.sys.class.net"]),
    ("G8", &["status.NoNewPrivs", "status.CapEff", "namespace.user", "identity.root", "identity.map"]),
];

/// What even such a container holds back: were it open too, the comparison would be with something else.
const HELD: [&str; 5] = ["call.io_uring_setup", "call.bpf", "socket.packet.raw", "device.dev.kvm", "service.docker"];

#[test]
fn g1_g2_g6_g7_g8_what_a_plain_container_lets_through_a_box_does_not() {
    torbox_tests::require!("root", "podman", "unshare");
    let _alone = torbox_tests::lock::named("mutations").unwrap();
    let kept = Installed::new(Who::Root, &kept_dir().unwrap()).unwrap();
    kept.build_images().unwrap();
    let mut audit = Command::new("unshare");
    audit.arg("--net").arg(kept.program()).arg("--dir").arg(kept.dir());
    audit.args(["audit", "--name", "compare", "--browser", "firefox-esr", "--compare", "podman-run"]);
    let done = audit.output().unwrap();
    let (text, errors) = (String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap());
    assert_eq!(done.status.code(), Some(0), "{text}{errors}");
    assert!(!text.contains("open in torbox"), "{text}");
    let open: BTreeMap<&str, Vec<&str>> = text.lines().filter_map(|line| line.strip_prefix("open in podman run, ")?.split_once(": ")).map(|(guarantee, ids)| (guarantee, ids.split(", ").collect())).collect();
    for (guarantee, ids) in OPEN {
        let found = open.get(guarantee).cloned().unwrap_or_default();
        assert!(ids.iter().all(|id| found.contains(id)), "{guarantee}: {ids:?} are not all in {found:?}");
    }
    assert!(open.values().flatten().all(|id| !HELD.contains(id)), "{text}");
}
