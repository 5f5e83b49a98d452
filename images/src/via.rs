//! Fetching through a SOCKS proxy (RFC 1928), over TCP or over an AF_UNIX socket, for those who cannot or do not want to
//! reach the servers themselves.
//!
//! It never asks this machine's resolver for a name that is fetched from, and has no way past the proxy.

use crate::{error::Error, system::{Socket, connect}};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, TcpStream, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use ureq::{
    Agent,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, RustlsConnector, Transport},
    },
};

/// A SOCKS proxy that resolves names: `socks5h://HOST:PORT`, or `socks5h:///path/of/socket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// A host and its port.
    Tcp(String),
    /// An AF_UNIX socket.
    Unix(PathBuf),
}

impl FromStr for Via {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Name { value: text.to_owned(), expected: "a proxy: socks5h://HOST:PORT or socks5h:///path/of/socket" };
        let place = text.strip_prefix("socks5h://").ok_or_else(invalid)?;
        if place.starts_with('/') {
            return Ok(Self::Unix(place.into()));
        }
        let (host, port) = place.rsplit_once(':').ok_or_else(invalid)?;
        let well_formed = !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok_and(|port| port != 0);
        if well_formed { Ok(Self::Tcp(place.to_owned())) } else { Err(invalid()) }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(place) => write!(f, "socks5h://{place}"),
            Self::Unix(path) => write!(f, "socks5h://{}", path.display()),
        }
    }
}

impl Via {
    /// An HTTP client all of whose connections go through the proxy.
    pub(crate) fn agent(&self, config: Config) -> Agent {
        Agent::with_parts(config, Dial(self.clone()).chain(RustlsConnector::default()), NoNames)
    }

    fn open(&self, patience: Option<Duration>) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => connect(path).map(Stream::Unix),
            Self::Tcp(place) => {
                let address = place.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
                TcpStream::connect_timeout(&address, patience.unwrap_or(Duration::from_secs(20))).map(Stream::Tcp)
            }
        }
    }
}

/// Resolves nothing: the proxy does.
#[derive(Debug)]
struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Opens connections through the proxy.
#[derive(Debug)]
struct Dial(Via);

impl Connector<()> for Dial {
    type Out = Pipe;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Pipe>, ureq::Error> {
        let authority = details.uri.authority().ok_or(ureq::Error::HostNotFound)?;
        let port = authority.port_u16().unwrap_or(if details.needs_tls() { 443 } else { 80 });
        let patience = details.timeout.not_zero().map(|left| *left);
        let mut stream = self.0.open(patience)?;
        stream.limit(patience)?;
        handshake(&mut stream, None, authority.host(), port)?;
        Ok(Some(Pipe::new(stream, details)))
    }
}

/// The one connection that there is, to a proxy that keeps apart what has another user (tor(1), `IsolateSOCKSAuth`).
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) stream: Mutex<Option<Socket>>,
    pub(crate) user: &'static str,
}

impl Held {
    /// An HTTP client that makes one connection, through the proxy.
    pub(crate) fn agent(self, config: Config) -> Agent {
        Agent::with_parts(config, self.chain(RustlsConnector::default()), NoNames)
    }
}

impl Connector<()> for Held {
    type Out = Pipe;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Pipe>, ureq::Error> {
        let authority = details.uri.authority().ok_or(ureq::Error::HostNotFound)?;
        let held = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stream = Stream::Unix(held.ok_or(ureq::Error::ConnectionFailed)?);
        stream.limit(details.timeout.not_zero().map(|left| *left))?;
        handshake(&mut stream, Some(self.user), authority.host(), authority.port_u16().unwrap_or(443))?;
        Ok(Some(Pipe::new(stream, details)))
    }
}

/// Asks the proxy for a connection to `host`, as `user` with no secret (RFC 1929) or as nobody.
fn handshake(stream: &mut (impl Read + Write), user: Option<&str>, host: &str, port: u16) -> io::Result<()> {
    let wanted = if user.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, wanted])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method)?;
    if method != [5, wanted] {
        return Err(io::Error::other("the proxy is no SOCKS5 proxy, or wants a password"));
    }
    if let Some(user) = user {
        let length = u8::try_from(user.len()).map_err(|_| io::Error::other("the user's name is too long for SOCKS5"))?;
        // tor takes no empty password.
        stream.write_all(&[&[1, length], user.as_bytes(), &[1, b'-']].concat())?;
        let mut taken = [0; 2];
        stream.read_exact(&mut taken)?;
        if taken != [1, 0] {
            return Err(io::Error::other("the proxy does not take the user"));
        }
    }
    let mut request = vec![5, 1, 0];
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(address)) => request.extend([1].into_iter().chain(address.octets())),
        Ok(IpAddr::V6(address)) => request.extend([4].into_iter().chain(address.octets())),
        Err(_) => {
            let length = u8::try_from(host.len()).map_err(|_| io::Error::other("the host's name is too long for SOCKS5"))?;
            request.extend([3, length].iter().chain(host.as_bytes()));
        }
    }
    request.extend(port.to_be_bytes());
    stream.write_all(&request)?;
    read_reply(stream)
}

/// RFC 1928, section 6.
fn read_reply(stream: &mut impl Read) -> io::Result<()> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [version, reply, _, kind, first] = head;
    if (version, reply) != (5, 0) {
        return Err(io::Error::other(format!("the proxy cannot reach the host: {}", reason(reply))));
    }
    let rest = match kind {
        1 => 3,
        4 => 15,
        3 => usize::from(first),
        _ => return Err(io::Error::other("the proxy's answer is not well formed")),
    };
    stream.read_exact(&mut vec![0; rest + 2])
}

const fn reason(reply: u8) -> &'static str {
    match reply {
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "no answer in time",
        _ => "general failure",
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(Socket),
}

impl Stream {
    /// How long a read or write may take from now on.
    fn limit(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)),
            Self::Unix(stream) => stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(data),
            Self::Unix(stream) => stream.write(data),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection through the proxy.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    buffers: LazyBuffers,
}

impl Pipe {
    fn new(stream: Stream, details: &ConnectionDetails<'_>) -> Self {
        Self { stream, buffers: LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size()) }
    }
}

impl Transport for Pipe {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.limit(timeout.for_write().not_zero().map(|left| *left))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output).map_err(|error| in_time(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.limit(timeout.for_read().not_zero().map(|left| *left))?;
        let read = self.stream.read(self.buffers.input_append_buf()).map_err(|error| in_time(error, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Each request has a connection of its own.
    fn is_open(&mut self) -> bool {
        false
    }
}

fn in_time(error: io::Error, timeout: NextTimeout) -> ureq::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_that_resolve_names_are_taken() {
        for good in ["socks5h://127.0.0.1:9050", "socks5h://localhost:9150", "socks5h:///run/tor/socks", "socks5h://[::1]:9050"] {
            assert_eq!(good.parse::<Via>().unwrap().to_string(), good);
        }
        for bad in ["", "socks5://127.0.0.1:9050", "http://127.0.0.1:1", "socks5h://127.0.0.1", "socks5h://:9050", "socks5h://a:b@c:1/", "socks5h://a:0", "socks5h://"] {
            assert!(bad.parse::<Via>().is_err(), "{bad:?}");
        }
    }

    /// What is sent, and whether `answers` were taken for a connection.
    fn ask(host: &str, answers: &[u8]) -> (Vec<u8>, bool) {
        ask_as(None, host, answers)
    }

    fn ask_as(user: Option<&str>, host: &str, answers: &[u8]) -> (Vec<u8>, bool) {
        struct Both<'a>(&'a [u8], Vec<u8>);
        impl Read for Both<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for Both<'_> {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.1.write(data)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut both = Both(answers, Vec::new());
        let done = handshake(&mut both, user, host, 443).is_ok();
        (both.1, done)
    }

    #[test]
    fn a_user_is_named_before_anything_is_asked_for() {
        let granted = [5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(ask_as(Some("own"), "a.example", &granted), (b"\x05\x01\x02\x01\x03own\x01-\x05\x01\x00\x03\x09a.example\x01\xbb".to_vec(), true));
        for (refused, sent) in [(&[5, 0][..], 3), (&[5, 255], 3), (&[5, 2, 1, 1], 10)] {
            let (said, done) = ask_as(Some("own"), "a.example", refused);
            assert!(!done && said.len() == sent, "{refused:?}: {said:?}");
        }
    }

    #[test]
    fn names_go_to_the_proxy_as_names() {
        let granted = [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(ask("a.example", &granted), (b"\x05\x01\x00\x05\x01\x00\x03\x09a.example\x01\xbb".to_vec(), true));
        assert_eq!(ask("[::1]", &granted).0.get(6), Some(&4));
        assert_eq!(ask("10.0.0.1", &granted).0.get(6), Some(&1));
        for refused in [&[5, 255][..], &[4, 0], &[5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0], &[5, 0, 5, 0, 0, 9, 0, 0, 0, 0, 0, 0], &[5, 0, 5, 0, 0, 1]] {
            assert!(!ask("a.example", refused).1, "{refused:?}");
        }
        assert!(!ask(&"a".repeat(256), &granted).1);
    }
}
