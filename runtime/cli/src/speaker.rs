//! `torbox __speaker`: plays what a box's browser plays, to the user's sound server, as a program that only plays.
//!
//! Samples come out of a FIFO of the browser's container, and nothing goes into it. The process connects to the server (PulseAudio, or PipeWire in its
//! place) before there is a box; then it joins the box, opens the FIFO, and gives up all but the two. Nothing that the box says is read:
//! its bytes are samples, whatever they are. How fast they are taken is all that the box learns of the machine.

use crate::error::CliError;
use crate::helper::{Helper, Inside};
use crate::system;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
use pulseaudio::protocol::stream::{BufferAttr, StreamFlags};
use pulseaudio::protocol::{self, AuthParams, AuthReply, ChannelMap, ChannelVolume, Command, CorkStreamParams, CreatePlaybackStreamReply, PlaybackStreamParams, Prop, Props, ProtocolError, Request, SampleFormat, SampleSpec, SetClientNameReply};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// Hidden subcommand of the process that plays.
pub(crate) const SPEAKER: &str = "__speaker";
/// How a box's sound comes, as the image's `/etc/pulse/sound.pa` makes it.
const SAMPLES: SampleSpec = SampleSpec { format: SampleFormat::S16Le, channels: 2, sample_rate: 48_000 };
/// Bytes of a second of it.
const SECOND: u32 = 48_000 * 4;
/// Bytes of what a server may ask for that does not go by the user alone; zeros where there is none.
const COOKIE: usize = 256;
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After how much silence the server is told that there is nothing to play, in milliseconds: its device may then rest.
const IDLE: u16 = 1000;
/// Bytes of a message of the server's that are read: none of those that matter is longer.
const MESSAGE: u32 = 1 << 16;

/// What it says when it can play.
const READY: &str = "ready";

/// The process that plays.
pub(crate) struct Speaker(Helper);

impl Speaker {
    /// Starts it; it is then connected to the user's sound server.
    pub(crate) fn start() -> Result<Self, CliError> {
        let failed = |source| CliError::System("start the process that plays the box's sound", source);
        let (helper, said) = Helper::start(SPEAKER).map_err(failed)?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).map_err(failed)?;
        match line.trim_end() {
            READY => Ok(Self(helper)),
            reason => Err(CliError::NoSound(reason.to_owned())),
        }
    }

    /// Sends it to play what this browser plays. A browser without sound is one all the same.
    pub(crate) fn send(&mut self, browser: Inside) {
        self.0.tell(&browser).ok();
    }
}

/// The process: says that it can play, is told whose sound, and ends with torbox or with the server.
pub(crate) fn main() -> ExitCode {
    let mut server = match Server::connect() {
        Ok(server) => server,
        Err(reason) => {
            println!("{reason}");
            return ExitCode::FAILURE;
        }
    };
    println!("{READY}");
    let mut line = String::new();
    // Past the buffer of the standard library, which poll(2) does not know of, there is nothing: a second line is never said.
    let told = io::stdin().lock().read_line(&mut line).is_ok_and(|count| count > 0);
    let Some(browser) = serde_json::from_str(&line).ok().filter(|_| told) else { return ExitCode::SUCCESS };
    match system::open_sound(browser).map_err(Box::from).and_then(|sound| server.play(&sound)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torbox: the box is not heard any more: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The connection to the user's sound server, with one stream, which rests.
struct Server {
    socket: BufReader<UnixStream>,
    version: u16,
    channel: u32,
    /// Bytes that it has room for.
    room: u32,
    rests: bool,
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Server {
    fn connect() -> Result<Self, String> {
        let path = pulseaudio::socket_path_from_env().ok_or("no sound server of this machine's is named: neither by PULSE_SERVER nor by XDG_RUNTIME_DIR")?;
        let failed = |error: &dyn std::fmt::Display| format!("the sound server at {}: {error}", path.display());
        let socket = UnixStream::connect(&path).map_err(|error| failed(&error))?;
        socket.set_read_timeout(Some(PATIENCE)).and_then(|()| socket.set_write_timeout(Some(PATIENCE))).map_err(|error| failed(&error))?;
        let mut cookie = pulseaudio::cookie_path_from_env().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        cookie.resize(COOKIE, 0);
        Self::open(socket, cookie).map_err(|error| failed(&error))
    }

    fn open(socket: UnixStream, cookie: Vec<u8>) -> Result<Self, ProtocolError> {
        let mut server = Self { socket: BufReader::new(socket), version: protocol::MAX_VERSION, channel: 0, room: 0, rests: true };
        let mut who = Vec::new();
        let auth = Command::Auth(AuthParams { version: protocol::MAX_VERSION, supports_shm: false, supports_memfd: false, cookie });
        protocol::encode_command_message(&mut who, 0, &auth, server.version)?;
        // A server that goes by the user may ask the kernel for it too late (unix(7), `SO_PASSCRED`).
        let user = [ControlMessage::ScmCredentials(&UnixCredentials::new())];
        sendmsg::<()>(server.socket.get_ref().as_raw_fd(), &[IoSlice::new(&who)], &user, MsgFlags::MSG_NOSIGNAL, None).map_err(io::Error::from)?;
        let (_, auth): (_, AuthReply) = protocol::read_reply_message(&mut server.socket, server.version)?;
        server.version = auth.version.min(protocol::MAX_VERSION);
        let mut about = Props::new();
        about.set(Prop::ApplicationName, CString::from(c"torbox"));
        let _: SetClientNameReply = server.ask(&Command::SetClientName(about))?;
        let mut about = Props::new();
        about.set(Prop::MediaName, CString::from(c"the browser of a box"));
        let stream: CreatePlaybackStreamReply = server.ask(&Command::CreatePlaybackStream(PlaybackStreamParams {
            sample_spec: SAMPLES,
            channel_map: ChannelMap::stereo(),
            buffer_attr: BufferAttr { target_length: SECOND / 10, pre_buffering: SECOND / 20, minimum_request_length: SECOND / 50, ..BufferAttr::default() },
            cvolume: Some(ChannelVolume::norm(SAMPLES.channels)),
            props: about,
            flags: StreamFlags { start_corked: true, adjust_latency: true, ..StreamFlags::default() },
            ..PlaybackStreamParams::default()
        }))?;
        (server.channel, server.room) = (stream.channel, stream.requested_bytes);
        Ok(server)
    }

    fn ask<T: protocol::CommandReply>(&mut self, command: &Command) -> Result<T, ProtocolError> {
        self.tell(command)?;
        protocol::read_reply_message(&mut self.socket, self.version).map(|(_, reply)| reply)
    }

    fn tell(&mut self, command: &Command) -> Result<(), ProtocolError> {
        protocol::write_command_message(self.socket.get_mut(), 0, command, self.version)
    }

    /// Plays `sound` until torbox ends.
    fn play(&mut self, sound: &File) -> Result<(), Fault> {
        let (mut samples, end) = (vec![0; 1 << 14], io::stdin());
        loop {
            let listens = if self.room > 0 { PollFlags::POLLIN } else { PollFlags::empty() };
            let mut fds = [PollFd::new(self.socket.get_ref().as_fd(), PollFlags::POLLIN), PollFd::new(sound.as_fd(), listens), PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            let patience = if self.rests { PollTimeout::NONE } else { PollTimeout::from(IDLE) };
            let count = match poll(&mut fds, patience) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let [server, sounds, ended] = fds.map(|fd| fd.any().unwrap_or(true));
            if ended {
                return Ok(());
            }
            if count == 0 {
                self.rest(true)?;
            }
            if server {
                self.hear()?;
            }
            if sounds {
                let length = samples.len().min(usize::try_from(self.room)?);
                let count = match (&*sound).read(samples.get_mut(..length).unwrap_or_default()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    other => other?,
                };
                protocol::write_memblock(self.socket.get_mut(), self.channel, samples.get(..count).unwrap_or_default(), 0)?;
                self.room = self.room.saturating_sub(u32::try_from(count)?);
                self.rest(false)?;
            }
        }
    }

    fn rest(&mut self, rests: bool) -> Result<(), ProtocolError> {
        if self.rests == rests {
            return Ok(());
        }
        self.rests = rests;
        self.tell(&Command::CorkPlaybackStream(CorkStreamParams { channel: self.channel, cork: rests }))
    }

    /// Reads what the server says: of interest is how much it has room for, and that it takes no more.
    fn hear(&mut self) -> Result<(), Fault> {
        loop {
            let about = protocol::read_descriptor(&mut self.socket)?;
            if about.length > MESSAGE {
                return Err("the sound server says too much".into());
            }
            let mut message = vec![0; usize::try_from(about.length)?];
            self.socket.read_exact(&mut message)?;
            match Command::read_tag_prefixed(&mut Cursor::new(message), self.version) {
                Ok((_, Command::Request(Request { channel, length }))) if channel == self.channel => self.room = self.room.saturating_add(length),
                Ok((_, Command::PlaybackStreamKilled(channel))) if channel == self.channel => return Err("the sound server plays it no more".into()),
                // What this torbox does not know does not concern it.
                _ => {}
            }
            if self.socket.buffer().is_empty() {
                return Ok(());
            }
        }
    }
}
