//! G1: no network but loopback. proc_pid_net(5), udp(7).

use super::Guarantee::G1;
use super::{Finding, Probe, errno, none, text};
use std::net::UdpSocket;

/// Finds something of a network in this process's view of it.
type Search = fn() -> Vec<String>;

/// What to look for, and how.
const SEARCHES: [(&str, &str, Search); 10] = [
    ("net.interfaces", "find an interface besides loopback", interfaces),
    ("net.routes.v4", "find an IPv4 route", routes_v4),
    ("net.routes.v6", "find an IPv6 route", routes_v6),
    ("net.addresses.v4", "find an IPv4 address besides 127.0.0.0/8", addresses_v4),
    ("net.addresses.v6", "find an IPv6 address besides ::1", addresses_v6),
    ("net.neighbours", "find a neighbour's hardware address", || rows("/proc/self/net/arp", 0)),
    ("net.multicast", "find a multicast membership on an interface besides loopback", multicast),
    ("net.tcp", "see TCP sockets of other programs", || [rows("/proc/self/net/tcp", 1), rows("/proc/self/net/tcp6", 1)].concat()),
    ("net.udp", "see UDP sockets of other programs", || [rows("/proc/self/net/udp", 1), rows("/proc/self/net/udp6", 1)].concat()),
    ("net.counters", "read counters of foreign traffic", counters),
];

/// Addresses set aside for documentation: nobody has them (RFC 5737, RFC 3849).
const NOWHERE: [(&str, &str, &str, &str); 2] = [
    ("net.route-to.v4", "get a route to an IPv4 address of the outside", "0.0.0.0:0", "192.0.2.1:53"),
    ("net.route-to.v6", "get a route to an IPv6 address of the outside", "[::]:0", "[2001:db8::1]:53"),
];

pub(super) fn probes() -> Vec<Probe> {
    let searches = SEARCHES.map(|(id, tries, search)| Probe::new(id, G1, tries, move || none(&search(), "none")));
    // The kernel walks the machine's whole table for each read of it, a large one where there is much memory.
    let searches = searches.map(|probe| if probe.id == "net.tcp" { probe.in_audits() } else { probe });
    let routes = NOWHERE.map(|(id, tries, from, to)| Probe::new(id, G1, tries, move || route(from, to)));
    searches.into_iter().chain(routes).collect()
}

/// Interfaces besides loopback.
pub(super) fn interfaces() -> Vec<String> {
    let table = text("/proc/self/net/dev");
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

/// First words of a table's rows, of which the column `column` names the row.
fn rows(path: &str, column: usize) -> Vec<String> {
    text(path).lines().skip(1).filter_map(|line| line.split_whitespace().nth(column)).map(str::to_owned).collect()
}

fn routes_v4() -> Vec<String> {
    rows("/proc/self/net/route", 0)
}

fn routes_v6() -> Vec<String> {
    let table = text("/proc/self/net/ipv6_route");
    table.lines().filter(|line| !line.ends_with(" lo")).filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

fn addresses_v4() -> Vec<String> {
    let table = text("/proc/self/net/fib_trie");
    let lines: Vec<&str> = table.lines().collect();
    let local = lines.windows(2).filter_map(|pair| match pair {
        [address, kind] if kind.contains("host LOCAL") => address.split("-- ").nth(1),
        _ => None,
    });
    local.filter(|address| !address.starts_with("127.")).map(str::to_owned).collect()
}

fn addresses_v6() -> Vec<String> {
    let table = text("/proc/self/net/if_inet6");
    table.lines().filter(|line| !line.ends_with(" lo")).filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

/// proc_pid_net(5), `igmp`: a line `2 : eth0 : ...` an interface.
fn multicast() -> Vec<String> {
    let table = text("/proc/self/net/igmp");
    let interfaces = table.lines().skip(1).filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    interfaces.filter_map(|line| line.split_whitespace().nth(1)).filter(|name| *name != "lo").map(str::to_owned).collect()
}

/// Octets received, of proc_pid_net(5), `netstat`: a line of names and one of values.
fn counters() -> Vec<String> {
    let table = text("/proc/self/net/netstat");
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Vec::new() };
    let octets = names.split(' ').zip(values.split(' ')).filter(|(name, value)| name.ends_with("Octets") && *value != "0");
    octets.map(|(name, value)| format!("{name} {value}")).collect()
}

/// connect(2) on a UDP socket asks for a route and sends nothing.
fn route(from: &str, to: &str) -> Finding {
    match UdpSocket::bind(from).and_then(|socket| socket.connect(to)) {
        Ok(()) => Finding::NotHeld("there is one".to_owned()),
        Err(error) => Finding::Held(errno(&error)),
    }
}
