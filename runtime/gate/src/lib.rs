//! The gate: the only thing a compromised browser can talk to.
//!
//! It stands between a browser and tor: SOCKS5 in, SOCKS5 out; control protocol in, answers of its own out. Its client is
//! taken for hostile and patient. [`socks`] and [`control`] turn bytes into typed values or refusals and have no I/O;
//! [`upstream`] and [`control::question`] word anew what tor is told; the one loop in [`server`] moves bytes.
//!
//! It never forwards a byte of a handshake or of a control line, never makes a socket that is not AF_UNIX, never writes a
//! file, never looks a name up, and never logs where a stream goes. RFC 1928, RFC 1929, tor's control-spec.
//!
//! # Policy
//!
//! What follows is the policy as data, compiled in; what no rule names is refused.
//! <!-- policy -->
//!
//! ## SOCKS: authentication
//! - `username-password` (0x02) is allowed: Tor Browser isolates sites by it: the name is the site, the password a nonce
//! - `none` (0x00) is refused: a stream without credentials shares its circuit with every other; --require-auth no allows it for browsers that cannot authenticate
//!
//! ## SOCKS: commands
//! - `CONNECT` (0x01) is allowed: every page load is one
//! - `BIND` (0x02) is refused: nothing in a box listens, and tor does not offer it
//! - `UDP-ASSOCIATE` (0x03) is refused: tor carries no UDP
//! - `RESOLVE` (0xF0) is allowed: looks a name up at the exit; without it a wrapped program falls back to the machine's resolver
//! - `RESOLVE_PTR` (0xF1) is refused: Tor Browser never sends it
//!
//! ## SOCKS: user names that begin with
//! - `<torS0X>` is refused: tor reads credentials of this form as instructions to itself
//!
//! ## SOCKS: host names that end in
//! - `localhost` is refused: loopback by name (RFC 6761)
//! - `localdomain` is refused: loopback by name in old hosts files
//! - `local` is refused: multicast DNS names of the local network (RFC 6762)
//! - `internal` is refused: reserved for private networks and cloud metadata services
//! - `home.arpa` is refused: names of home networks (RFC 8375)
//! - `exit` is refused: tor's notation for choosing an exit: the client would mark itself
//! - `noconnect` is refused: tor's internal test notation
//!
//! ## SOCKS: IPv4 literals, first match wins
//! - `0.0.0.0/8` is refused: this host on this network (RFC 791)
//! - `10.0.0.0/8` is refused: private (RFC 1918)
//! - `100.64.0.0/10` is refused: carrier's shared address space (RFC 6598)
//! - `127.0.0.0/8` is refused: loopback
//! - `169.254.0.0/16` is refused: link-local, and cloud metadata services
//! - `172.16.0.0/12` is refused: private (RFC 1918)
//! - `192.0.0.0/24` is refused: protocol assignments (RFC 6890)
//! - `192.168.0.0/16` is refused: private (RFC 1918)
//! - `198.18.0.0/15` is refused: benchmark networks (RFC 2544)
//! - `224.0.0.0/4` is refused: multicast
//! - `240.0.0.0/4` is refused: reserved, and broadcast
//! - `0.0.0.0/0` is allowed: the public internet
//!
//! ## SOCKS: IPv6 literals, first match wins
//! - `::ffff:0:0/96` is refused: IPv4 in disguise (mapped): would pass by the rules for IPv4
//! - `2001::/32` is refused: Teredo: an IPv4 address in disguise
//! - `2002::/16` is refused: 6to4: an IPv4 address in disguise
//! - `2000::/3` is allowed: global unicast: the public internet
//! - `::/0` is refused: everything else: unspecified, loopback, NAT64, unique local, link-local, site-local, multicast
//!
//! ## SOCKS: limits
//! - `streams` 512: connections on the SOCKS side at once; a browser keeps at most 256 of its own accord
//! - `handshakes` 128: connections whose handshake is not complete; one more ends the oldest, so that silent ones never shut out others
//! - `handshake_bytes` 1100: all that one connection may send before its handshake is complete: the longest legal handshake has 1032 bytes
//! - `handshake_seconds` 10: a local client needs a millisecond
//! - `tor_seconds` 180: tor itself gives up on a stream after 120 seconds
//! - `connect_tries` 100: times 20 ms: how long tor's socket may be full before the client is told so
//! - `idle_seconds` 3600: a stream on which nothing moved for an hour is forgotten by exits and by most servers
//! - `password_bytes` 200: leaves room for the tag, so that what tor sees stays one-to-one with what the client sent
//! - `pipes` 256: pipes that stalled streams may hold; beyond it a stalled stream keeps a small buffer instead
//! - `turn_bytes` 1048576: what one stream may move before the next one has its turn
//!
//! ## Control: commands
//! - `PROTOCOLINFO` is allowed: how a client learns to authenticate; answered from constants
//! - `AUTHENTICATE` is allowed: with the secret of this box, compared in constant time; a failure ends the connection
//! - `QUIT` is allowed: ends the connection in an orderly way
//! - `SETEVENTS` is allowed: the circuit display listens to CIRC and STREAM
//! - `GETINFO` is allowed: a closed list of keys
//! - `GETCONF` is allowed: a closed list of options, each answered as if unset
//! - `SIGNAL` is allowed: NEWNYM alone
//! - `ONION_CLIENT_AUTH_ADD` is allowed: opens onion services that ask for a key; the key is checked, written anew and never made permanent
//! - `ONION_CLIENT_AUTH_REMOVE` is allowed: for keys added through this gate in this run
//! - `ONION_CLIENT_AUTH_VIEW` is allowed: shows the keys added through this gate in this run, from its own table
//!
//! ## Control: keys of GETINFO
//! - `version` is allowed: a constant
//! - `status/bootstrap-phase` is allowed: not begun, under way or done: finer steps tell a bridge from a guard
//! - `circuit-status` is allowed: circuits that carry streams of this box, entry hops replaced
//! - `ns/id/` is allowed: relays of such circuits that are not entry hops: their address and nothing else; the replaced hop has a constant
//! - `ip-to-country/` is allowed: addresses that ns/id/ has told; any other is ??
//! - `net/listeners/socks` is allowed: a constant
//!
//! ## Control: options of GETCONF
//! - `Bridge` is allowed: asked for every new first hop; always unset
//! - `UseBridges` is allowed: always unset
//! - `ClientTransportPlugin` is allowed: asked before a bridge is fetched; always unset
//!
//! ## Control: events
//! - `CIRC` is allowed: only BUILT and CLOSED, of circuits that carry streams of this box
//! - `STREAM` is allowed: only SENTCONNECT and SUCCEEDED, of streams of this box
//! - `SIGNAL` is allowed: accepted and never sent: Python's stem does not start without it
//! - `CONF_CHANGED` is allowed: accepted and never sent, likewise
//! - `STATUS_SERVER` is allowed: accepted and never sent, likewise
//! - `NEWCONSENSUS` is allowed: accepted and never sent: nyx does not start without it
//! - `NEWDESC` is allowed: accepted and never sent: nyx does not start without it
//! - `BW` is allowed: accepted and never sent: nyx draws with it; what tor moves for others is not told
//! - `STATUS_CLIENT` is allowed: accepted and never sent: Tor Browser asks for it together with CIRC and STREAM where it takes tor for its own
//! - `NOTICE` is allowed: accepted and never sent: likewise; tor's log names relays and paths
//! - `WARN` is allowed: accepted and never sent: likewise
//! - `ERR` is allowed: accepted and never sent: likewise
//!
//! ## Control: signals
//! - `NEWNYM` is allowed: new identity: a new tag, every open stream ended, and tor told to use fresh circuits
//!
//! ## Control: constants
//! - `tor_version` `0.4.9.0`: the host's version is nobody's business; clients need one to parse
//! - `socks_listener` `127.0.0.1:9150`: what Tor Browser's own tor answers
//! - `hidden_fingerprint` `0000000000000000000000000000000000000000`: stands for every entry hop; no relay has it
//! - `hidden_address` `0.0.0.0`: the address of that relay: of no country, and nobody's
//! - `time_created` `2000-01-01T00:00:00.000000`: when any circuit was made: nyx cannot do without, and when tor made it is not told
//!
//! ## Control: limits
//! - `sessions` 8: control connections at once; Tor Browser opens one
//! - `line_bytes` 1024: the longest legal command has fewer than 256
//! - `output_bytes` 65536: answers that a client has not read; beyond it the connection ends
//! - `unauthenticated_seconds` 30: a local client authenticates at once
//! - `questions` 32: questions to tor that await their answer, of all connections together
//! - `question_seconds` 30: tor answers at once or is gone
//! - `onion_keys` 64: keys that one run may add
//! - `circuits_per_hour` 240: who sees enough circuits learns which relay never appears in them; more streams than this go unshown
//! - `circuits` 1024: circuits of tor that the gate remembers in order to show some
//! - `relays` 1024: relays that the gate remembers having shown
//! - `newnym_seconds` 1: each one ends every stream and makes tor build anew
//! - `tor_line_bytes` 16384: tor's longest line of the kinds that the gate asks for is far shorter
//!
//! ## System calls after start
//! - `accept4`: takes connections from its own listeners
//! - `socket` with argument 0 = 1: AF_UNIX alone, for the connections to tor
//! - `connect`: to tor's sockets: the others of its mount namespace are its own
//! - `epoll_ctl`: one for each new connection, and when one stalls
//! - `epoll_pwait`: the only place where it waits
//! - `recvfrom`: small messages, handshakes and control lines
//! - `sendto`: likewise
//! - `splice`: bulk, without copying
//! - `pipe2`: what splice needs between two sockets
//! - `fcntl` with argument 1 = 1031: F_SETPIPE_SZ
//! - `fcntl` with argument 1 = 1: F_GETFD: a build with assertions checks each descriptor before it closes it
//! - `shutdown`: passes a half-close on
//! - `read`: the lifeline, and tor's cookie
//! - `write`: standard error
//! - `close`: every connection ends
//! - `brk`: memory
//! - `mmap` with bits 0x4 of argument 2 = 0: memory, never executable
//! - `munmap`: memory
//! - `mremap`: memory
//! - `madvise`: memory given back
//! - `clock_gettime`: deadlines, where the clock is not mapped into the process
//! - `rt_sigreturn`: the return from the guard of the stack
//! - `rt_sigprocmask`: a panic blocks signals on its way to abort
//! - `sigaltstack`: the end of the main thread gives its signal stack back
//! - `exit_group`: the end
//! - `openat` with bits 0x3 of argument 2 = 0, while the cookie is awaited: only if tor's cookie was not there at start: read-only, and Landlock leaves its directory alone
//! <!-- end of policy -->

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::allow_attributes,
        reason = "a test that panics fails, which is what it is for"
    )
)]

pub mod address;
mod admin;
pub mod cage;
pub mod config;
pub mod control;
mod cookie;
mod counters;
pub mod domain;
pub mod ending;
#[doc(hidden)]
pub mod fuzz;
mod hub;
pub mod policy;
mod relay;
pub mod server;
mod slab;
pub mod socket;
pub mod socks;
mod spin;
mod stream;
pub mod tag;
pub mod upstream;
mod wire;
