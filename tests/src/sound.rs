//! A sound server of the test's own without a sound card: its one sink throws away what it plays, and can be listened to.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::display::{current_root, enclosed};
use crate::process;
use crate::testnet::daemon::stop;
use crate::user::TestUser;
use crate::wait;

/// Samples of a second, of one channel.
const RATE: u16 = 48_000;
/// How long it may take to start.
const START: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// pulseaudio(1).
    PulseAudio,
    /// pipewire(1), with wireplumber(1) and pipewire-pulse(1).
    PipeWire,
}

/// A running sound server; dropping it ends it.
#[derive(Debug)]
pub struct SoundServer<'a> {
    child: Child,
    user: &'a TestUser,
    dir: TempDir,
}

impl<'a> SoundServer<'a> {
    /// Starts one of `user`, and returns when it takes clients.
    pub fn start(kind: Kind, user: &'a TestUser) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("torbox-sound-").permissions(fs::Permissions::from_mode(0o700)).tempdir()?;
        user.give(dir.path())?;
        let (uid, gid) = user.ids();
        // It asks who its user is.
        fs::write(dir.path().join("passwd"), format!("root:x:0:0::/:\nuser:x:{uid}:{gid}::/run:\n"))?;
        let mut command = match kind {
            Kind::PulseAudio => {
                let mut command = tool(user, &dir, "pulseaudio")?;
                command.args(["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--realtime=no", "--high-priority=no", "--load=module-null-sink"]);
                command.arg("--load=module-native-protocol-unix auth-cookie-enabled=0");
                command
            }
            // The others end where they do not find the first, which says nothing when it listens: they wait for a line.
            Kind::PipeWire => {
                let mut command = tool(user, &dir, "dbus-run-session")?;
                command.args(["--config-file=/usr/share/dbus-1/session.conf", "--", "/usr/bin/sh", "-c", "pipewire & read line; wireplumber & exec pipewire-pulse"]);
                command
            }
        };
        let log = File::create(dir.path().join("log"))?;
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut server = Self { child: command.spawn().with_context(|| format!("cannot run {kind:?}"))?, user, dir };
        let until = Instant::now() + START;
        let mut words = server.child.stdin.take().context("no pipe")?;
        let listens = || (kind == Kind::PulseAudio || server.dir.path().join("pipewire-0").exists()).then_some(());
        let up = wait::retry(PAUSE, until, listens).and_then(|()| writeln!(words).ok()).and_then(|()| wait::retry(PAUSE, until, || server.clients().ok()));
        up.with_context(|| format!("{kind:?} does not answer:\n{}", wait::text_so_far(&server.dir.path().join("log"))))?;
        Ok(server)
    }

    /// As `PULSE_SERVER` takes it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("pulse/native")
    }

    /// Those who play and those who record, as it knows them: `pactl list`.
    pub fn clients(&self) -> Result<[String; 2]> {
        let list = |what| -> Result<String> { Ok(String::from_utf8(process::output(tool(self.user, &self.dir, "pactl")?.args(["list", what]))?)?.trim().to_owned()) };
        Ok([list("sink-inputs")?, list("source-outputs")?])
    }

    /// Listens for so long to what is played: how strong the tone of `hertz` is, from 0 for nothing to 1 for that tone alone.
    pub fn hears(&self, hertz: f64, time: Duration) -> Result<f64> {
        let mut command = tool(self.user, &self.dir, "parec")?;
        command.args(["--device=@DEFAULT_MONITOR@", "--format=s16le", "--channels=1", "--latency-msec=50"]).arg(format!("--rate={RATE}"));
        let mut recorder = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot run parec")?;
        let length = usize::from(RATE) * 2 * usize::try_from(time.as_millis())? / 1000;
        let mut samples = vec![0; length];
        // A monitor says silence too, so this comes to an end.
        let read = recorder.stdout.take().context("no pipe")?.read_exact(&mut samples);
        stop(&mut recorder);
        read.context("parec")?;
        Ok(share(&samples.as_chunks().0.iter().map(|pair| f64::from(i16::from_le_bytes(*pair))).collect::<Vec<_>>(), hertz))
    }
}

/// One of its programs, in the current root file system.
fn tool(user: &TestUser, dir: &TempDir, program: &str) -> Result<Command> {
    let mut command = enclosed(&current_root(program)?, user, dir.path(), &dir.path().join("passwd"));
    command.arg(program).env("HOME", "/run").env("PULSE_SERVER", "unix:/run/pulse/native");
    Ok(command)
}

impl Drop for SoundServer<'_> {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// The part of the energy of `samples` that is in the tone of `hertz`.
fn share(samples: &[f64], hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / f64::from(RATE);
    let (mut sine, mut cosine, mut energy, mut count) = (0.0, 0.0, 0.0, 0.0);
    for (sample, angle) in samples.iter().zip(std::iter::successors(Some(0.0), |angle| Some(angle + step))) {
        sine += sample * f64::sin(angle);
        cosine += sample * f64::cos(angle);
        energy += sample * sample;
        count += 1.0;
    }
    if energy == 0.0 { 0.0 } else { 2.0 * (sine * sine + cosine * cosine) / (count * energy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_told_from_others_and_from_silence() {
        let tone = |hertz: f64| (0..RATE).map(|at| 1000.0 * f64::sin(std::f64::consts::TAU * hertz * f64::from(at) / f64::from(RATE))).collect::<Vec<_>>();
        assert!(share(&tone(440.0), 440.0) > 0.99 && share(&tone(523.0), 440.0) < 0.01);
        assert_eq!(share(&[0.0; 480], 440.0), 0.0);
    }
}
