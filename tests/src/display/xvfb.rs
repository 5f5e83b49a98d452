//! An X server without a screen, Xvfb(1), with a cookie of its own (Xsecurity(7), MIT-MAGIC-COOKIE-1).

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use x11rb::protocol::xproto::{AtomEnum, ConnectionExt, ImageFormat, Screen, Window};
use x11rb::rust_connection::{DefaultStream, RustConnection};

use super::{Input, Picture, SIZE, Watch};
use crate::process::{self, ProcessId};
use crate::testnet::daemon::stop;
use crate::wait;

const COOKIE: &str = "MIT-MAGIC-COOKIE-1";
/// Any host and any display (Xau.h).
const FAMILY_WILD: u16 = 65535;
/// A host by its name.
const FAMILY_LOCAL: u16 = 256;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Xvfb {
    child: Child,
    number: u32,
    cookie: [u8; 16],
    dir: TempDir,
}

impl Xvfb {
    /// Starts a server on the first free display number and returns when it takes clients.
    pub fn start() -> Result<Self> {
        Self::start_with(SIZE, &[])
    }

    /// The same with a screen of another size, of which no pictures are taken.
    pub fn start_of(size: (u16, u16)) -> Result<Self> {
        Self::start_with(size, &[])
    }

    /// A server that knows no untrusted clients.
    pub fn start_trusting() -> Result<Self> {
        Self::start_with(SIZE, &["-extension", "SECURITY"])
    }

    fn start_with((width, height): (u16, u16), more: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("torbox-xvfb-").tempdir()?;
        let mut cookie = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut cookie)?;
        let server_auth = dir.path().join("server");
        // The number is not known yet, so the server's own copy names none.
        write_private(&server_auth, &entry(FAMILY_WILD, b"", b"", &cookie))?;
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", &format!("{width}x{height}x24"), "-nolisten", "tcp"]).args(more);
        // Without -noreset the server forgets every cookie that was made in it when its last client leaves.
        command.args(["-noreset", "-auth"]).arg(&server_auth).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(dir.path().join("log"))?);
        let mut child = command.spawn().context("cannot run Xvfb")?;
        match read_number(&mut child) {
            Ok(number) => {
                let server = Self { child, number, cookie, dir };
                server.write_auth(&server.auth_file(), None)?;
                Ok(server)
            }
            Err(error) => {
                stop(&mut child);
                Err(error).with_context(|| format!("Xvfb: {}", wait::text_so_far(&dir.path().join("log")).trim()))
            }
        }
    }

    /// `:N`, for `DISPLAY`.
    #[must_use]
    pub fn display(&self) -> String {
        format!(":{}", self.number)
    }

    /// The server.
    #[must_use]
    pub fn process(&self) -> ProcessId {
        ProcessId(self.child.id())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/.X11-unix/X{}", self.number))
    }

    /// A file for `XAUTHORITY`, readable by the caller alone.
    #[must_use]
    pub fn auth_file(&self) -> PathBuf {
        self.dir.path().join("Xauthority")
    }

    /// Writes an authority file for this server to `file`, given to the user and group named if any.
    pub fn write_auth(&self, file: &Path, owner: Option<(u32, u32)>) -> Result<()> {
        let host = rustix::system::uname().nodename().to_bytes().to_vec();
        write_private(file, &entry(FAMILY_LOCAL, &host, self.number.to_string().as_bytes(), &self.cookie))?;
        if let Some((uid, gid)) = owner {
            chown(file, Some(uid), Some(gid)).with_context(|| format!("cannot give away {}", file.display()))?;
        }
        Ok(())
    }

    /// The data of the cookie that opens it.
    #[must_use]
    pub fn cookie(&self) -> &[u8] {
        &self.cookie
    }

    /// A trusted connection to it.
    pub fn connect(&self) -> Result<RustConnection> {
        let socket = UnixStream::connect(self.socket()).context("cannot reach the X server")?;
        let (stream, _peer) = DefaultStream::from_unix_stream(socket)?;
        let (name, cookie) = (COOKIE.into(), self.cookie.to_vec());
        RustConnection::connect_to_stream_with_auth_info(stream, 0, name, cookie).context("the X server refused the cookie")
    }

    /// What it shows now.
    pub fn picture(&self) -> Result<Picture> {
        let connection = self.connect()?;
        let root = screen(&connection)?.root;
        let image = connection.get_image(ImageFormat::Z_PIXMAP, root, 0, 0, SIZE.0, SIZE.1, !0)?.reply()?;
        Picture::from_zpixmap(SIZE.0, SIZE.1, &image.data)
    }

    /// Saves what it shows now as a PNG file.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        self.picture()?.save(file)
    }

    /// Looks out for a window from now on; to be called before the program that will open it is started.
    pub fn watch(&self) -> Result<Watch> {
        Watch::start(self.connect()?)
    }

    /// Gives its keyboard this layout (setxkbmap(1)).
    pub fn set_layout(&self, layout: &str) -> Result<()> {
        let mut command = Command::new("setxkbmap");
        command.args(["-layout", layout]).env("DISPLAY", self.display()).env("XAUTHORITY", self.auth_file());
        process::output(&mut command).context("cannot set the layout").map(drop)
    }

    /// The window on it whose title begins so, and its size.
    pub fn window(&self, title: &str) -> Result<Option<(Window, (u16, u16))>> {
        let connection = self.connect()?;
        for window in connection.query_tree(screen(&connection)?.root)?.reply()?.children {
            // One that is gone by now has none.
            let Ok(name) = connection.get_property(false, window, AtomEnum::WM_NAME, AtomEnum::STRING, 0, 64)?.reply() else { continue };
            if name.value.starts_with(title.as_bytes()) {
                let size = connection.get_geometry(window)?.reply()?;
                return Ok(Some((window, (size.width, size.height))));
            }
        }
        Ok(None)
    }

    /// A hand on its mouse and keyboard.
    pub fn input(&self) -> Result<Input> {
        Input::new(self.connect()?)
    }
}

impl Drop for Xvfb {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The first screen of the server.
pub(super) fn screen(connection: &RustConnection) -> Result<&Screen> {
    use x11rb::connection::Connection as _;
    connection.setup().roots.first().context("the X server has no screen")
}

fn read_number(child: &mut Child) -> Result<u32> {
    let out = child.stdout.take().context("no standard output")?;
    if !wait::readable(out.as_fd(), Instant::now() + Duration::from_secs(20))? {
        bail!("it named no display in 20 s");
    }
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    line.trim().parse().with_context(|| format!("it named {line:?} as its display"))
}

/// One entry of an authority file: five fields, lengths big-endian (Xau's file format).
fn entry(family: u16, address: &[u8], number: &[u8], cookie: &[u8]) -> Vec<u8> {
    let counted = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes(), bytes].concat();
    [family.to_be_bytes().to_vec(), counted(address), counted(number), counted(COOKIE.as_bytes()), counted(cookie)].concat()
}

fn write_private(file: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut out = fs::OpenOptions::new();
    let mut out = out.write(true).create(true).truncate(true).mode(0o600).open(file).with_context(|| format!("cannot make {}", file.display()))?;
    out.write_all(bytes).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_entry() {
        let seen = entry(FAMILY_LOCAL, b"h", b"7", &[0xaa, 0xbb]);
        let wanted = [&[1, 0, 0, 1, b'h', 0, 1, b'7', 0, 18], COOKIE.as_bytes(), &[0, 2, 0xaa, 0xbb]].concat();
        assert_eq!(seen, wanted);
    }
}
