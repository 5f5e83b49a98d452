//! The files of a box in an engine: handed over by init, which the engine runs beside the browser in its container and under its profile.
//!
//! Nobody can join a container that may be in another machine. Whoever took the browser over can say what init says: of a download that is no more than
//! its content, and everything is bounded and judged here. What goes in is written by the container's root, without capabilities, so that
//! the browser, which is somebody else, can neither change it nor meddle with who writes it.

use super::create::{Input, Output};
use super::endpoint::{Client, Contact, PATIENCE, block_on, bounded};
use super::error::EngineError;
use crate::files::{Directory, Download, Exchange, FilesError, SAME, limit, numbered, safe_name, write_new};
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use std::fs::File;
use std::io::{self, Read, Write};
use tokio::io::AsyncWriteExt;
use torbox_plan::engine::{container_name, label};
use torbox_plan::{BoxName, Handed, Role, paths};

/// Who owns the directory of what goes in.
const ROOT: &str = "0:0";
/// Of a longer list the rest is not read.
const MAX_LIST: usize = 1 << 22;
/// Of what init complains of, how much is shown.
const MAX_SAID: usize = 200;
const CHUNK: usize = 1 << 16;

/// The browser's container of a box.
#[derive(Debug)]
pub struct Files {
    contact: Contact,
    container: String,
}

impl Files {
    /// That of box `name`, which must carry `claim`.
    ///
    /// # Errors
    /// The engine does not answer, or has no such container.
    pub fn of(contact: &Contact, name: &BoxName, claim: &str) -> Result<Self, EngineError> {
        block_on(async {
            let container = container_name(name, Role::Browser);
            let client = Client::connect(contact).await?;
            let told = bounded("tell of the browser's container", PATIENCE, client.docker.inspect_container(&container, None)).await?;
            let labels = told.config.and_then(|config| config.labels).unwrap_or_default();
            let own = labels.get(label::CLAIM).is_some_and(|of| of == claim);
            let id = told.id.filter(|_| own).ok_or(EngineError::Foreign { kind: "container", name: container })?;
            Ok(Self { contact: contact.clone(), container: id })
        })
    }

    /// Runs init in the container, as its own user or as `user`.
    async fn talk(&self, user: Option<&str>, words: &[&str]) -> Result<Talk, FilesError> {
        let client = Client::connect(&self.contact).await?;
        let cmd = [paths::INIT.as_str()].iter().chain(words).map(|&word| word.to_owned()).collect();
        let config = ExecConfig { attach_stdin: Some(true), attach_stdout: Some(true), attach_stderr: Some(true), user: user.map(str::to_owned), cmd: Some(cmd), ..ExecConfig::default() };
        let exec = bounded("run init in the browser's container", PATIENCE, client.docker.create_exec(&self.container, config)).await?;
        match bounded("run init in the browser's container", PATIENCE, client.docker.start_exec(&exec.id, None)).await? {
            StartExecResults::Attached { output, input } => Ok(Talk { output, input, read: Vec::new(), complaint: Vec::new() }),
            StartExecResults::Detached => Err(FilesError::Broken { name: String::new(), said: String::new() }),
        }
    }

    async fn list(&self) -> Result<Vec<Download>, FilesError> {
        let mut talk = self.talk(None, &["downloads"]).await?;
        let mut found = Vec::new();
        let mut length = 0;
        while let Some(line) = talk.line().await? {
            length += line.len();
            let handed = Handed::parse(&line).filter(|_| length <= MAX_LIST).ok_or_else(|| talk.broken(paths::DOWNLOADS.as_str()))?;
            found.push(Download::new(handed.name, handed.mode, handed.size));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Into `file`, exactly as many bytes as are announced.
    async fn fetch(&self, download: &Download, file: &mut File) -> Result<(), FilesError> {
        let name = &download.safe_name;
        let mut talk = self.talk(None, &["send", &Handed::word(&download.name)]).await?;
        let announced = talk.line().await?.and_then(|line| line.parse::<u64>().ok()).filter(|length| *length <= limit());
        let mut left = announced.ok_or_else(|| talk.broken(name))?;
        while left > 0 {
            let bytes = talk.some().await?.ok_or_else(|| talk.broken(name))?;
            let taken = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&bytes);
            file.write_all(taken).map_err(|source| FilesError::at(name, source))?;
            left -= taken.len() as u64;
        }
        Ok(())
    }

    /// `length` bytes of `from` under `name`; whether that was free.
    async fn hand(&self, from: &File, length: u64, name: &str) -> Result<bool, FilesError> {
        let mut talk = self.talk(Some(ROOT), &["receive", &Handed::word(name.as_bytes()), &length.to_string()]).await?;
        match talk.line().await?.as_deref() {
            Some(Handed::READY) => {}
            Some(Handed::TAKEN) => return Ok(false),
            _ => return Err(talk.broken(name)),
        }
        let failed = |source: io::Error| FilesError::at(name, source);
        let (mut from, mut buffer, mut left) = (from.take(length), vec![0; CHUNK], length);
        while left > 0 {
            let bytes = from.read(&mut buffer).map_err(failed)?;
            if bytes == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            if !talk.say(buffer.get(..bytes).unwrap_or_default()).await {
                break;
            }
            left -= bytes as u64;
        }
        if talk.line().await?.as_deref() == Some(Handed::DONE) { Ok(true) } else { Err(talk.broken(name)) }
    }
}

impl Exchange for Files {
    fn downloads(&self) -> Result<Vec<Download>, FilesError> {
        block_on(self.list())
    }

    fn save(&self, download: &Download, to: &Directory) -> Result<String, FilesError> {
        download.allowed()?;
        write_new(to, &download.safe_name, 0o600, |file| block_on(self.fetch(download, file)))
    }

    fn put(&self, from: &File, name: &str) -> Result<String, FilesError> {
        let failed = |source: io::Error| FilesError::at(name, source);
        let length = from.metadata().map_err(failed)?.len();
        if length > limit() {
            return Err(failed(io::Error::other("it is longer than it may be")));
        }
        for number in 0..SAME {
            let name = numbered(&safe_name(name), number);
            if block_on(self.hand(from, length, &name))? {
                return Ok(name);
            }
        }
        Err(failed(io::Error::other("there are too many files of that name")))
    }
}

/// An init that hands something over.
struct Talk {
    output: Output,
    input: Input,
    /// What it said, and nobody read yet.
    read: Vec<u8>,
    /// The beginning of what it complained of.
    complaint: Vec<u8>,
}

impl Talk {
    /// Waits for more; whether there was any.
    async fn more(&mut self) -> Result<bool, FilesError> {
        let next = async { self.output.next().await.transpose() };
        match bounded("hand files over", PATIENCE, next).await? {
            Some(LogOutput::StdErr { message }) => self.complaint.extend(message.iter().take(MAX_SAID.saturating_sub(self.complaint.len()))),
            Some(said) => self.read.extend(said.into_bytes()),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// A line without its end; none at the end of all, and of what is no text or too long.
    async fn line(&mut self) -> Result<Option<String>, FilesError> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(String::from_utf8(line).ok().map(|line| line.trim_end().to_owned()));
            }
            if self.read.len() > CHUNK || !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Whatever it said next; none at the end.
    async fn some(&mut self) -> Result<Option<Vec<u8>>, FilesError> {
        while self.read.is_empty() {
            if !self.more().await? {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.read)))
    }

    /// Whether it took `bytes`; what it said last tells why not.
    async fn say(&mut self, bytes: &[u8]) -> bool {
        let said = async {
            self.input.write_all(bytes).await?;
            self.input.flush().await
        };
        tokio::time::timeout(PATIENCE, said).await.is_ok_and(|said| said.is_ok())
    }

    fn broken(&self, name: &str) -> FilesError {
        FilesError::Broken { name: name.to_owned(), said: String::from_utf8_lossy(&self.complaint).trim_end().to_owned() }
    }
}
