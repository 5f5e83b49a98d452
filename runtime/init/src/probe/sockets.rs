//! G2: sockets of the family AF_UNIX and no others. socket(2), socketpair(2), address_families(7).

use super::Guarantee::G2;
use super::{Finding, Probe, refused};
use nix::errno::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with, socketpair};

const STREAM: u32 = 1;
const DGRAM: u32 = 2;
const RAW: u32 = 3;
const SEQPACKET: u32 = 5;
/// A type that no family has: a request for it that gets as far as the kernel's code is answered with EINVAL, and loads no module.
const NO_TYPE: u32 = 15;

/// Name, family, type, protocol: sockets with which something could be sent or learnt.
const SOCKETS: [(&str, u16, u32, u32); 31] = [
    ("inet.stream", 2, STREAM, 0),
    ("inet.dgram", 2, DGRAM, 0),
    ("inet.raw", 2, RAW, 1),
    ("inet.ping", 2, DGRAM, 1),
    ("inet.mptcp", 2, STREAM, 262),
    ("inet.udplite", 2, DGRAM, 136),
    ("inet.sctp", 2, STREAM, 132),
    ("inet6.stream", 10, STREAM, 0),
    ("inet6.dgram", 10, DGRAM, 0),
    ("inet6.raw", 10, RAW, 58),
    ("inet6.ping", 10, DGRAM, 58),
    ("inet6.mptcp", 10, STREAM, 262),
    ("netlink.route", 16, RAW, 0),
    ("netlink.sock-diag", 16, RAW, 4),
    ("netlink.xfrm", 16, RAW, 6),
    ("netlink.selinux", 16, RAW, 7),
    ("netlink.audit", 16, RAW, 9),
    ("netlink.fib-lookup", 16, RAW, 10),
    ("netlink.connector", 16, RAW, 11),
    ("netlink.netfilter", 16, RAW, 12),
    ("netlink.uevent", 16, DGRAM, 15),
    ("netlink.generic", 16, RAW, 16),
    ("netlink.crypto", 16, RAW, 21),
    ("packet.raw", 17, RAW, 0),
    ("packet.dgram", 17, DGRAM, 0),
    ("vsock.stream", 40, STREAM, 0),
    ("vsock.dgram", 40, DGRAM, 0),
    ("vsock.seqpacket", 40, SEQPACKET, 0),
    ("alg.seqpacket", 38, SEQPACKET, 0),
    ("xdp.raw", 44, RAW, 0),
    ("smc.stream", 43, STREAM, 0),
];

/// Families that a machine may have or load: asked for with a type that does not exist.
const FAMILIES: [(&str, u16); 35] = [
    ("ax25", 3), ("ipx", 4), ("appletalk", 5), ("netrom", 6), ("bridge", 7), ("atmpvc", 8), ("x25", 9), ("rose", 11), ("decnet", 12), ("netbeui", 13),
    ("security", 14), ("key", 15), ("ash", 18), ("econet", 19), ("atmsvc", 20), ("rds", 21), ("sna", 22), ("irda", 23), ("pppox", 24), ("wanpipe", 25),
    ("llc", 26), ("ib", 27), ("mpls", 28), ("can", 29), ("tipc", 30), ("bluetooth", 31), ("iucv", 32), ("rxrpc", 33), ("isdn", 34), ("phonet", 35),
    ("ieee802154", 36), ("caif", 37), ("nfc", 39), ("kcm", 41), ("qipcrtr", 42),
];

/// Families of pairs, which socketpair(2) makes.
const PAIRS: [(&str, u16); 3] = [("inet", 2), ("netlink", 16), ("tipc", 30)];

pub(super) fn probes() -> Vec<Probe> {
    let made = SOCKETS.map(|(name, family, kind, protocol)| {
        Probe::new(format!("socket.{name}"), G2, format!("make a socket {name}"), move || socket(family, kind, protocol))
    });
    let asked = FAMILIES.map(|(name, family)| Probe::new(format!("family.{name}"), G2, format!("ask for a socket of the family {name}"), move || socket(family, NO_TYPE, 0)));
    let pairs = PAIRS.map(|(name, family)| Probe::new(format!("pair.{name}"), G2, format!("make a pair of sockets of the family {name}"), move || pair(family)));
    made.into_iter().chain(asked).chain(pairs).collect()
}

fn socket(family: u16, kind: u32, protocol: u32) -> Finding {
    let protocol = std::num::NonZeroU32::new(protocol).map(Protocol::from_raw);
    let made = socket_with(AddressFamily::from_raw(family), SocketType::from_raw(kind), SocketFlags::CLOEXEC, protocol);
    refused(made.map_err(|error| Errno::from_raw(error.raw_os_error())))
}

fn pair(family: u16) -> Finding {
    let made = socketpair(AddressFamily::from_raw(family), SocketType::STREAM, SocketFlags::CLOEXEC, None);
    refused(made.map_err(|error| Errno::from_raw(error.raw_os_error())))
}
