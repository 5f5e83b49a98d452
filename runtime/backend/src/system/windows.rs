//! Windows, where engines listen on named pipes and their kernel is never this machine's.

use std::fs::{self, File};
use std::io;
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// No engine runs on this kernel.
pub(crate) const fn kernel() -> Option<String> {
    None
}

/// Pipes are no files, and have no user.
pub(crate) const fn owner(_: &Path) -> Option<u32> {
    None
}

/// Sockets of other systems' products are not used here.
pub(crate) const fn is_trusted(_: &Path) -> bool {
    false
}

/// Whether somebody listens on the pipe of this name: of one that is there nothing can be told, but not that it is not there.
pub(crate) fn has_pipe(name: &str) -> bool {
    fs::metadata(format!(r"\\.\pipe\{name}")).err().is_none_or(|error| error.kind() != io::ErrorKind::NotFound)
}

/// Both ends of a socket of [`local`]: what is read, what is written.
pub(crate) async fn connect(socket: &Path) -> io::Result<(impl AsyncRead + use<>, impl AsyncWrite + use<>)> {
    let place = local::Place::read(socket)?;
    let mut stream = TcpStream::connect(place.address()).await?;
    stream.write_all(place.asks()).await?;
    let mut answer = [0; local::WORD];
    stream.read_exact(&mut answer).await?;
    place.check(&answer)?;
    Ok(stream.into_split())
}

/// From the system's random source.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(io::Error::other)
}

/// A process group and an environment of its own: the console's Ctrl-C does not reach it. Without SystemRoot no process opens a socket.
pub(crate) fn alone(command: &mut Command) -> &mut Command {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    const NEEDED: &str = "SystemRoot";
    command.env_clear().envs(std::env::var_os(NEEDED).map(|value| (NEEDED, value))).creation_flags(CREATE_NEW_PROCESS_GROUP)
}

/// Sockets that the user of this machine alone can use. They are ports of the loopback, and a file says which, with what each side has to
/// say before anything else: who can read the file is let in, and nobody else, and who made it is believed, and nobody who took its port.
/// The file is as private as the directory in which it lies: the user's own.
pub mod local {
    use crate::secret::random_hex;
    use std::fs;
    use std::io::{self, ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::path::Path;
    use std::time::Duration;

    /// A connection.
    pub use std::net::TcpStream as Stream;

    /// Bytes of what each side says first.
    pub(crate) const WORD: usize = 64;
    /// How long it may take to say it.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// What the file says.
    #[derive(Clone)]
    pub(crate) struct Place {
        port: u16,
        asks: String,
        answers: String,
    }

    impl Place {
        /// A file that is only half there is none.
        pub(crate) fn read(path: &Path) -> io::Result<Self> {
            let text = fs::read_to_string(path)?;
            let mut words = text.split_whitespace();
            let port = words.next().and_then(|port| port.parse().ok());
            match (port, words.next(), words.next()) {
                (Some(port), Some(asks), Some(answers)) if [asks, answers].iter().all(|word| word.len() == WORD) => Ok(Self { port, asks: asks.to_owned(), answers: answers.to_owned() }),
                _ => Err(ErrorKind::NotFound.into()),
            }
        }

        pub(crate) fn address(&self) -> SocketAddr {
            (Ipv4Addr::LOCALHOST, self.port).into()
        }

        pub(crate) fn asks(&self) -> &[u8] {
            self.asks.as_bytes()
        }

        /// Another program that took the port since knows nothing of the file.
        pub(crate) fn check(&self, answer: &[u8]) -> io::Result<()> {
            if answer == self.answers.as_bytes() { Ok(()) } else { Err(ErrorKind::ConnectionRefused.into()) }
        }
    }

    /// Who listens.
    pub struct Listener {
        port: TcpListener,
        place: Place,
    }

    /// Listens on a port that the file `path` names, which is made and must not be there.
    ///
    /// # Errors
    /// It cannot.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let place = Place { port: port.local_addr()?.port(), asks: random_hex()?, answers: random_hex()? };
        let mut file = fs::File::create_new(path)?;
        write!(file, "{} {} {}", place.port, place.asks, place.answers)?;
        Ok(Listener { port, place })
    }

    impl Listener {
        /// The next who may come in; others are sent away.
        ///
        /// # Errors
        /// Nobody can come any more.
        pub fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
            loop {
                let (mut stream, from) = self.port.accept()?;
                if greet(&mut stream, &self.place).is_ok() {
                    return Ok((stream, from));
                }
            }
        }
    }

    fn greet(stream: &mut Stream, place: &Place) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut asked = [0; WORD];
        stream.read_exact(&mut asked)?;
        let differs = asked.iter().zip(place.asks()).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 {
            return Err(ErrorKind::PermissionDenied.into());
        }
        stream.set_read_timeout(None)?;
        stream.write_all(place.answers.as_bytes())
    }

    /// Connects to who listens by the file `path`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::ConnectionRefused`] where nobody does.
    pub fn connect(path: &Path) -> io::Result<Stream> {
        let place = Place::read(path)?;
        let mut stream = Stream::connect(place.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(place.asks())?;
        let mut answer = [0; WORD];
        // Whoever has the port now and knows no answer is nobody.
        stream.read_exact(&mut answer).map_err(|_| io::Error::from(ErrorKind::ConnectionRefused))?;
        place.check(&answer)?;
        stream.set_read_timeout(None)?;
        Ok(stream)
    }
}

/// A directory.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes sure that it is one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.is_dir() { Ok(Self(path.to_owned())) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// Makes a file that is not there yet; who may read it is said by the directory.
    pub(crate) fn create_new(&self, name: &str, _: u32) -> io::Result<File> {
        File::create_new(self.0.join(name))
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}
