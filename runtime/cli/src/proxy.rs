//! The way out of a network that lets tor out through a proxy, or to some ports, alone. torrc(5): `Socks5Proxy`, `HTTPSProxy`,
//! `Socks4Proxy`, `ReachableAddresses`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;
use thiserror::Error;

/// The longest name and password (RFC 1929).
const MOST: usize = 255;

/// Why something is no proxy.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum NoProxy {
    #[error("it begins with none of socks5://, http:// and socks4://")]
    Scheme,
    #[error("ADDRESS:PORT is missing, where ADDRESS is an IP address: a name would be looked up outside of Tor")]
    Address,
    #[error("USER:PASSWORD are 1 to 255 printable characters each, without spaces, quotes, # and \\")]
    Login,
    #[error("a socks4 proxy takes no USER:PASSWORD")]
    NoLogin,
}

/// Why something is no list of ports.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("ports are numbers from 1 to 65535, with commas between them")]
pub(crate) struct NoPorts;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Socks5,
    Http,
    Socks4,
}

/// A proxy between tor and its network.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    scheme: Scheme,
    address: SocketAddr,
    login: Option<(String, String)>,
}

impl Proxy {
    /// Whether it looks names up: SOCKS4 is told addresses alone.
    pub(crate) fn takes_names(&self) -> bool {
        self.scheme != Scheme::Socks4
    }
}

/// Without what its owner must know.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Proxy").field("scheme", &self.scheme).field("address", &self.address).finish_non_exhaustive()
    }
}

impl FromStr for Proxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        let (scheme, rest) = text.split_once("://").ok_or(NoProxy::Scheme)?;
        let scheme = match scheme {
            "socks5" => Scheme::Socks5,
            "http" => Scheme::Http,
            "socks4" => Scheme::Socks4,
            _ => return Err(NoProxy::Scheme),
        };
        let (login, address) = rest.rsplit_once('@').map_or((None, rest), |(login, address)| (Some(login), address));
        let address = address.strip_suffix('/').unwrap_or(address).parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or(NoProxy::Address)?;
        let login = login.map(|login| login.split_once(':').filter(|(user, password)| is_word(user) && is_word(password)).ok_or(NoProxy::Login)).transpose()?;
        if scheme == Scheme::Socks4 && login.is_some() {
            return Err(NoProxy::NoLogin);
        }
        Ok(Self { scheme, address, login: login.map(|(user, password)| (user.to_owned(), password.to_owned())) })
    }
}

/// What tor takes as one word, on one line.
fn is_word(text: &str) -> bool {
    (1..=MOST).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '#' | '\\'))
}

/// The ports that a firewall lets out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ports(Vec<u16>);

impl FromStr for Ports {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let port = |text: &str| text.trim().parse().ok().filter(|port| *port != 0).ok_or(NoPorts);
        text.split(',').map(port).collect::<Result<_, _>>().map(Self)
    }
}

/// What tor is told of both; nothing where there is neither.
pub(crate) fn torrc(proxy: Option<&Proxy>, ports: Option<&Ports>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    if let Some(Proxy { scheme, address, login }) = proxy {
        let (option, login) = match (scheme, login) {
            (Scheme::Socks5, Some((user, password))) => ("Socks5Proxy", format!("Socks5ProxyUsername {user}\nSocks5ProxyPassword {password}\n")),
            (Scheme::Http, Some((user, password))) => ("HTTPSProxy", format!("HTTPSProxyAuthenticator {user}:{password}\n")),
            (Scheme::Socks5, None) => ("Socks5Proxy", String::new()),
            (Scheme::Http, None) => ("HTTPSProxy", String::new()),
            (Scheme::Socks4, _) => ("Socks4Proxy", String::new()),
        };
        write!(text, "{option} {address}\n{login}").ok();
    }
    if let Some(Ports(ports)) = ports {
        let all: Vec<_> = ports.iter().map(|port| format!("*:{port}")).collect();
        writeln!(text, "ReachableAddresses {}", all.join(",")).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(proxy: &str) -> Result<String, NoProxy> {
        proxy.parse().map(|proxy| torrc(Some(&proxy), None))
    }

    #[test]
    fn tor_is_told_of_a_proxy() {
        for (proxy, lines) in [
            ("socks5://192.0.2.1:1080", "Socks5Proxy 192.0.2.1:1080\n"),
            ("socks5://me:a:b@c@[2001:db8::1]:1080/", "Socks5Proxy [2001:db8::1]:1080\nSocks5ProxyUsername me\nSocks5ProxyPassword a:b@c\n"),
            ("http://me:secret@192.0.2.1:3128", "HTTPSProxy 192.0.2.1:3128\nHTTPSProxyAuthenticator me:secret\n"),
            ("socks4://192.0.2.1:1080", "Socks4Proxy 192.0.2.1:1080\n"),
        ] {
            assert_eq!(told(proxy).as_deref(), Ok(lines), "{proxy}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for (wrong, why) in [
            ("192.0.2.1:1080", NoProxy::Scheme),
            ("https://192.0.2.1:1080", NoProxy::Scheme),
            ("socks5://proxy.example:1080", NoProxy::Address),
            ("socks5://192.0.2.1", NoProxy::Address),
            ("socks5://192.0.2.1:0", NoProxy::Address),
            ("socks5://192.0.2.1:1080\nLog debug file /x", NoProxy::Address),
            ("socks5://me@192.0.2.1:1080", NoProxy::Login),
            ("socks5://me:@192.0.2.1:1080", NoProxy::Login),
            ("socks5://me:a b@192.0.2.1:1080", NoProxy::Login),
            ("socks5://me:a\nLog@192.0.2.1:1080", NoProxy::Login),
            ("socks5://me:a#@192.0.2.1:1080", NoProxy::Login),
            ("socks4://me:a@192.0.2.1:1080", NoProxy::NoLogin),
        ] {
            assert_eq!(told(wrong), Err(why), "{wrong:?}");
        }
        let secret: Proxy = "http://me:secret@192.0.2.1:3128".parse().unwrap();
        assert!(!format!("{secret:?}").contains("secret"));
    }

    #[test]
    fn tor_is_told_of_ports() {
        assert_eq!(torrc(None, Some(&"80, 443".parse().unwrap())), "ReachableAddresses *:80,*:443\n");
        for wrong in ["", "0", "80,", "80;443", "65536", "80\nLog"] {
            assert_eq!(wrong.parse::<Ports>(), Err(NoPorts), "{wrong:?}");
        }
        assert_eq!(torrc(None, None), "");
    }
}
