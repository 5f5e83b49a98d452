//! Where torbox is the client of engines alone: macOS and Windows. One thread waits for whatever happens, and each source of that has a
//! thread of its own, because their kernels have no one call that waits for all of them.

use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::process::ChildStdout;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// No engine runs on this kernel.
pub(crate) const fn processes() -> Option<u64> {
    None
}

/// The system does it by itself.
pub(crate) const fn give_back_memory() {}

/// This program.
pub(crate) fn program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Wakes the thread that waits. There is one: a process has one box.
pub mod bell {
    use super::{Condvar, Duration, Instant, Mutex, locked};

    static HELD: Mutex<()> = Mutex::new(());
    static RUNG: Condvar = Condvar::new();

    /// Something is otherwise than before; to be called afterwards.
    pub fn ring() {
        drop(locked(&HELD));
        RUNG.notify_all();
    }

    /// Waits until `is_so`, and no longer than `patience`; whether it is.
    pub fn wait(patience: Option<Duration>, is_so: impl Fn() -> bool) -> bool {
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut held = locked(&HELD);
        while !is_so() {
            held = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return false,
                Some(left) => RUNG.wait_timeout(held, left).map_or_else(|error| error.into_inner().0, |(held, _)| held),
                None => RUNG.wait(held).unwrap_or_else(std::sync::PoisonError::into_inner),
            };
        }
        true
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process of torbox's own says, as it comes.
pub struct Incoming(Arc<Mutex<Arrived>>);

/// What nobody took yet.
#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    ended: bool,
}

impl Incoming {
    /// Of a process that was just started.
    pub(crate) fn new(mut said: ChildStdout) -> Self {
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let arriving = Arc::clone(&arrived);
        thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = said.read(&mut buffer) {
                locked(&arriving).bytes.extend(buffer.get(..count).unwrap_or_default());
                bell::ring();
            }
            locked(&arriving).ended = true;
            bell::ring();
        });
        Self(arrived)
    }

    /// Whether there is something, or its end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let arrived = locked(&self.0);
        arrived.ended || !arrived.bytes.is_empty()
    }

    /// The next of it; nothing at its end. Waits for as long as `patience`, and then says [`ErrorKind::TimedOut`].
    pub(crate) fn read(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        if bell::wait(Some(patience), || self.is_ready()) { Ok(std::mem::take(&mut locked(&self.0).bytes)) } else { Err(ErrorKind::TimedOut.into()) }
    }

    /// Whether all that could say something ends within `patience`.
    pub(crate) fn ends(&self, patience: Duration) -> bool {
        bell::wait(Some(patience), || locked(&self.0).ended)
    }
}
