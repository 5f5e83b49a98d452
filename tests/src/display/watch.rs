//! The moment a window appears, told by X events: MapNotify, then DamageNotify (damageproto). Never by polling.

use std::collections::BTreeMap;
use std::time::Instant;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use x11rb::connection::Connection as _;
use x11rb::protocol::Event;
use x11rb::protocol::damage::{ConnectionExt as _, NotifyEvent, ReportLevel};
use x11rb::protocol::xproto::{ChangeWindowAttributesAux, ConnectionExt as _, EventMask, ImageFormat, Window};
use x11rb::rust_connection::RustConnection;

use super::xvfb::screen;
use crate::wait;

/// Smaller windows are a toolkit's helpers, not what a user sees.
const LEAST_SIDE: u16 = 100;

/// When a window became visible.
#[derive(Clone, Copy, Debug)]
pub struct Appeared {
    /// The window.
    pub window: Window,
    /// When the server mapped it.
    pub mapped: Instant,
    /// When the server first drew in it, be it only its background.
    pub drawn: Instant,
    /// When it first showed more than one colour: something to see.
    pub painted: Instant,
}

/// A look-out that began when it was made, so that nothing is missed between starting a program and waiting for its window.
#[derive(Debug)]
pub struct Watch {
    connection: RustConnection,
    candidates: BTreeMap<Window, Candidate>,
}

#[derive(Debug, Default)]
struct Candidate {
    mapped: Option<Instant>,
    drawn: Option<Instant>,
    colour: Option<[u8; 3]>,
}

impl Watch {
    pub(super) fn start(connection: RustConnection) -> Result<Self> {
        connection.damage_query_version(1, 1)?.reply().context("the X server has no DAMAGE extension")?;
        let root = screen(&connection)?.root;
        let mask = ChangeWindowAttributesAux::new().event_mask(EventMask::SUBSTRUCTURE_NOTIFY);
        connection.change_window_attributes(root, &mask)?.check()?;
        Ok(Self { connection, candidates: BTreeMap::new() })
    }

    /// The first window of a visible size that shows something; `None` when `deadline` passes first. Times are those at which the
    /// events were read, in the order in which the server sent them.
    pub fn first_window(&mut self, deadline: Instant) -> Result<Option<Appeared>> {
        loop {
            self.connection.flush()?;
            while let Some(event) = self.connection.poll_for_event()? {
                if let Some(appeared) = self.take(&event)? {
                    return Ok(Some(appeared));
                }
                self.connection.flush()?;
            }
            if !wait::readable(self.connection.stream().as_fd(), deadline)? {
                return Ok(None);
            }
        }
    }

    fn take(&mut self, event: &Event) -> Result<Option<Appeared>> {
        let now = Instant::now();
        match event {
            Event::CreateNotify(e) if !e.override_redirect => self.follow(e.window)?,
            Event::DestroyNotify(e) => drop(self.candidates.remove(&e.window)),
            Event::MapNotify(e) if self.is_visible(e.window)? => {
                if let Some(candidate) = self.candidates.get_mut(&e.window) {
                    candidate.mapped.get_or_insert(now);
                }
            }
            Event::DamageNotify(e) => return self.drawn(e, now),
            // Anything else that happens to top-level windows is of no interest here.
            _ => {}
        }
        Ok(None)
    }

    /// Asks for damage before the window is mapped, so that the first drawing cannot be missed.
    fn follow(&mut self, window: Window) -> Result<()> {
        let damage = self.connection.generate_id()?;
        // A window that is gone already answers with an error, and is no candidate.
        if self.connection.damage_create(damage, window, ReportLevel::RAW_RECTANGLES)?.check().is_ok() {
            self.candidates.insert(window, Candidate::default());
        }
        Ok(())
    }

    fn is_visible(&self, window: Window) -> Result<bool> {
        let geometry = self.connection.get_geometry(window)?.reply();
        Ok(geometry.is_ok_and(|g| g.width >= LEAST_SIDE && g.height >= LEAST_SIDE))
    }

    fn drawn(&mut self, event: &NotifyEvent, now: Instant) -> Result<Option<Appeared>> {
        let window = event.drawable;
        let Some(Candidate { mapped: Some(mapped), drawn, colour }) = self.candidates.get_mut(&window) else { return Ok(None) };
        let drawn = *drawn.get_or_insert(now);
        let area = event.area;
        let image = self.connection.get_image(ImageFormat::Z_PIXMAP, window, area.x, area.y, area.width, area.height, !0)?;
        // The window may be gone, or partly off the screen, by the time the question arrives.
        let Ok(image) = image.reply() else { return Ok(None) };
        let mut pixels = image.data.chunks_exact(4).filter_map(|p| p.first_chunk::<3>().copied());
        let Some(first) = colour.or_else(|| pixels.next()) else { return Ok(None) };
        *colour = Some(first);
        let painted = pixels.any(|pixel| pixel != first);
        Ok(painted.then_some(Appeared { window, mapped: *mapped, drawn, painted: now }))
    }
}
