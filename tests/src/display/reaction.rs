//! How long after a button goes down what lies below it changes on the screen: XTEST, then DamageNotify (damageproto). Never by polling.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use x11rb::connection::Connection as _;
use x11rb::protocol::damage::{ConnectionExt as _, ReportLevel};
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat, Window};
use x11rb::rust_connection::RustConnection;

use super::xvfb::screen;
use super::{Input, Xvfb};
use crate::wait;

/// A hand and an eye.
#[derive(Debug)]
pub struct Reaction {
    connection: RustConnection,
    root: Window,
    input: Input,
}

impl Reaction {
    /// Of what is shown on `server`.
    pub fn of(server: &Xvfb) -> Result<Self> {
        let connection = server.connect()?;
        connection.damage_query_version(1, 1)?.reply().context("the X server has no DAMAGE extension")?;
        let root = screen(&connection)?.root;
        let damage = connection.generate_id()?;
        connection.damage_create(damage, root, ReportLevel::RAW_RECTANGLES)?.check()?;
        Ok(Self { connection, root, input: server.input()? })
    }

    /// Presses the left button at this place and lets go, and waits until its colour is another; `None` when `deadline` passes first.
    pub fn to_button(&self, x: i16, y: i16, deadline: Instant) -> Result<Option<Duration>> {
        let before = self.colour(x, y)?;
        let begun = Instant::now();
        self.input.button(1, x, y)?;
        loop {
            let mut drawn = false;
            while self.connection.poll_for_event()?.is_some() {
                drawn = true;
            }
            if drawn && self.colour(x, y)? != before {
                return Ok(Some(begun.elapsed()));
            }
            if !drawn && !wait::readable(self.connection.stream().as_fd(), deadline)? {
                return Ok(None);
            }
        }
    }

    fn colour(&self, x: i16, y: i16) -> Result<Vec<u8>> {
        Ok(self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, x, y, 1, 1, !0)?.reply()?.data)
    }
}
