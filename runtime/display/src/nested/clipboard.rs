//! The clipboard (wl_data_device_manager): between the browser's own windows always; from the user's into the browser when the
//! user pastes, that is when a client with the keyboard asks within moments of a key or a button. Nothing goes out but what the user takes
//! out ([`Desk::take_out`]), on a served page or with `torbox copy`: of what a client without the X server's trust offers, other programs get
//! nothing. Nothing is dragged in or out.

use super::desk::{Desk, Wish};
use crate::config;
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::time::{Duration, Instant};
use wayland_server::backend::ClientId;
use wayland_server::protocol::{wl_data_device, wl_data_device_manager, wl_data_offer, wl_data_source};
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource};

/// How long after a key or a button a client may take the user's clipboard.
const MOMENTS: Duration = Duration::from_secs(2);
/// How long a client may take to read what it was told.
const SETTLED: Duration = Duration::from_millis(500);
/// What the user's clipboard is offered as.
const TEXT: [&str; 3] = ["text/plain;charset=utf-8", "UTF8_STRING", "text/plain"];
/// Who can wait for the user's clipboard at once.
const WAITING: usize = 8;
/// Bytes that the user can take out at once, and how long the browser may take to give them.
const TAKEN: usize = 1 << 20;
const GIVES: Duration = Duration::from_secs(2);
/// Devices, sources, offers' types and readers at once.
const MANY: usize = 64;

/// What can be pasted.
pub(super) struct Clipboard {
    /// Which way the user lets a text go.
    ways: config::Clipboard,
    devices: Vec<wl_data_device::WlDataDevice>,
    /// What the browser copied last, as long as the user copied nothing elsewhere.
    own: Option<wl_data_source::WlDataSource>,
    /// Counts what the browser copied.
    copies: u32,
    /// Who had the user's clipboard when the browser was last turned to.
    owner: u32,
    acted: Option<Instant>,
    /// When a client was last told what the user's clipboard holds.
    answered: Option<Instant>,
    /// Who waits for the user's clipboard.
    readers: Vec<OwnedFd>,
    /// Who is being told.
    told: Vec<(OwnedFd, Vec<u8>)>,
    /// What the user takes out.
    taken: Option<Taken>,
}

/// What comes of what the browser copied.
struct Taken {
    exit: Exit,
    /// None where nothing was copied, or no text.
    from: Option<OwnedFd>,
    text: Vec<u8>,
    since: Instant,
}

/// Which way the user takes out what the browser copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// What shows the windows.
    Host,
    /// Whoever started the display.
    Output,
}

/// Whose an offer is.
enum Source {
    Browser(wl_data_source::WlDataSource),
    User,
}

impl Clipboard {
    pub(super) fn new(ways: config::Clipboard) -> Self {
        let (devices, readers, told) = (Vec::new(), Vec::new(), Vec::new());
        Self { ways, devices, own: None, copies: 0, owner: 0, acted: None, answered: None, readers, told, taken: None }
    }

    fn is_asked_for(&self) -> bool {
        self.ways.lets_in() && self.acted.is_some_and(|acted| acted.elapsed() < MOMENTS)
    }

    /// Writes what can be written without waiting.
    pub(super) fn tell(&mut self) {
        self.told.retain_mut(|(reader, rest)| {
            loop {
                match write(&*reader, rest) {
                    Ok(count) if count > 0 && count < rest.len() => drop(rest.drain(..count)),
                    Err(Errno::AGAIN) => break true,
                    _ => break false,
                }
            }
        });
    }

    /// Whether [`Self::tell`] or [`Self::taken`] has more to do.
    pub(super) const fn is_busy(&self) -> bool {
        !self.told.is_empty() || self.taken.is_some()
    }

    /// What the browser copied last, by its number; none if the user copied something elsewhere since.
    pub(super) fn own(&self) -> Option<u32> {
        self.own.as_ref().map(|_| self.copies)
    }

    /// What the user took out, once it is there as a whole. Of a browser that is too slow, or has too much, it is nothing.
    pub(super) fn taken(&mut self) -> Option<(Exit, String)> {
        let taken = self.taken.as_mut()?;
        let mut buffer = vec![0; 1 << 14];
        let whole = loop {
            let Some(from) = &taken.from else { break true };
            match read(from, buffer.as_mut_slice()) {
                Ok(0) => break true,
                Ok(count) if taken.text.len() + count <= TAKEN => taken.text.extend(buffer.iter().take(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if taken.since.elapsed() < GIVES => return None,
                _ => break false,
            }
        };
        let Taken { exit, text, .. } = self.taken.take()?;
        let text = if whole { String::from_utf8_lossy(&text).into_owned() } else { String::new() };
        (whole || exit == Exit::Output).then_some((exit, text))
    }
}

impl Desk {
    /// The user's clipboard belongs to this window of the X server: what the browser copied before is older.
    pub(super) fn clipboard_is_of(&mut self, owner: u32) {
        if std::mem::replace(&mut self.clipboard.owner, owner) != owner {
            self.clipboard.own = None;
        }
    }

    /// Offers a client what it can paste.
    pub(super) fn offer_clipboard(&self, client: &Client) {
        for device in self.clipboard.devices.iter().filter(|device| device.client().is_some_and(|own| own.id() == client.id())) {
            let (source, types) = match &self.clipboard.own {
                Some(own) => (Source::Browser(own.clone()), own.data::<Types>().map(Types::all).unwrap_or_default()),
                None if self.clipboard.ways.lets_in() => (Source::User, TEXT.map(str::to_owned).to_vec()),
                None => {
                    device.selection(None);
                    continue;
                }
            };
            let Ok(offer) = client.create_resource::<wl_data_offer::WlDataOffer, Source, Self>(&self.handle, device.version(), source) else { continue };
            device.data_offer(&offer);
            types.into_iter().for_each(|kind| offer.offer(kind));
            device.selection(Some(&offer));
        }
    }

    /// What the user's clipboard holds.
    pub(super) fn pasted(&mut self, text: &[u8]) {
        for reader in self.clipboard.readers.drain(..) {
            let waits_not = fcntl_getfl(&reader).and_then(|flags| fcntl_setfl(&reader, flags | OFlags::NONBLOCK));
            if waits_not.is_ok() {
                self.clipboard.told.push((reader, text.to_vec()));
            }
        }
        self.clipboard.tell();
        self.clipboard.answered = Some(Instant::now());
    }

    /// The user wants what the browser copied, as text, elsewhere. Whoever started the display is always answered, a page only with a text.
    pub(super) fn take_out(&mut self, exit: Exit) {
        if self.clipboard.taken.as_ref().is_some_and(|taken| taken.exit == Exit::Output) {
            return;
        }
        let from = if self.clipboard.ways.lets_out() { self.copied_text() } else { None };
        if from.is_some() || exit == Exit::Output {
            self.clipboard.taken = Some(Taken { exit, from, text: Vec::new(), since: Instant::now() });
        }
    }

    /// Where the browser writes the text that it copied.
    fn copied_text(&self) -> Option<OwnedFd> {
        use std::os::fd::AsFd as _;
        let own = self.clipboard.own.as_ref()?;
        let types = own.data::<Types>().map(Types::all).unwrap_or_default();
        let kind = TEXT.into_iter().find(|kind| types.iter().any(|own| own == kind))?;
        let (from, to) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
        fcntl_getfl(&from).and_then(|flags| fcntl_setfl(&from, flags | OFlags::NONBLOCK)).ok()?;
        own.send(kind.to_owned(), to.as_fd());
        Some(from)
    }

    /// The user pressed something in the browser. A client keeps what it was told for as long as an offer stands: some time after it
    /// was told something there is a new one, for which it asks anew. At once would be too soon, because that ends its reading.
    pub(super) fn user_acted(&mut self) {
        self.clipboard.acted = Some(Instant::now());
        if self.clipboard.own.is_none() && self.clipboard.answered.is_some_and(|answered| answered.elapsed() > SETTLED) {
            self.clipboard.answered = None;
            self.offer_to_focused();
        }
    }

    /// Offers whoever has the keyboard what there is now.
    pub(super) fn offer_to_focused(&self) {
        self.focused().iter().for_each(|client| self.offer_clipboard(client));
    }

    fn copied(&mut self, client: &Client, source: Option<wl_data_source::WlDataSource>) {
        if !self.has_keyboard(client) {
            return source.iter().for_each(wl_data_source::WlDataSource::cancelled);
        }
        self.clipboard.copies = self.clipboard.copies.wrapping_add(1);
        // Firefox says the same one twice.
        if let Some(old) = std::mem::replace(&mut self.clipboard.own, source).filter(|old| self.clipboard.own.as_ref() != Some(old)) {
            old.cancelled();
        }
        self.offer_clipboard(client);
    }
}

/// The types of a source.
#[derive(Default)]
struct Types(std::sync::Mutex<Vec<String>>);

impl Types {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn add(&self, kind: String) {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if all.len() < MANY {
            all.push(kind);
        }
    }
}

impl GlobalDispatch<wl_data_device_manager::WlDataDeviceManager, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wl_data_device_manager::WlDataDeviceManager>, (): &(), init: &mut DataInit<'_, Self>) {
        init.init(new, ());
    }
}

impl Dispatch<wl_data_device_manager::WlDataDeviceManager, ()> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wl_data_device_manager::WlDataDeviceManager,
        request: wl_data_device_manager::Request,
        (): &(),
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_data_device_manager::Request::CreateDataSource { id } => drop(init.init(id, Types::default())),
            wl_data_device_manager::Request::GetDataDevice { id, .. } => {
                desk.clipboard.devices.push(init.init(id, ()));
                if desk.has_keyboard(client) {
                    desk.offer_clipboard(client);
                }
            }
            _ => {}
        }
        if desk.clipboard.devices.len() > MANY {
            desk.too_much(client);
        }
    }
}

impl Dispatch<wl_data_source::WlDataSource, Types> for Desk {
    fn request(
        _: &mut Self,
        _: &Client,
        _: &wl_data_source::WlDataSource,
        request: wl_data_source::Request,
        types: &Types,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        if let wl_data_source::Request::Offer { mime_type } = request {
            types.add(mime_type);
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, source: &wl_data_source::WlDataSource, _: &Types) {
        if desk.clipboard.own.as_ref() == Some(source) {
            desk.clipboard.own = None;
        }
    }
}

impl Dispatch<wl_data_device::WlDataDevice, ()> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wl_data_device::WlDataDevice,
        request: wl_data_device::Request,
        (): &(),
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_data_device::Request::SetSelection { source, .. } => desk.copied(client, source),
            // What is dragged is dropped at once.
            wl_data_device::Request::StartDrag { source, .. } => source.iter().for_each(wl_data_source::WlDataSource::cancelled),
            _ => {}
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, device: &wl_data_device::WlDataDevice, (): &()) {
        desk.clipboard.devices.retain(|other| other != device);
    }
}

impl Dispatch<wl_data_offer::WlDataOffer, Source> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wl_data_offer::WlDataOffer,
        request: wl_data_offer::Request,
        source: &Source,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        use std::os::fd::AsFd as _;
        let wl_data_offer::Request::Receive { mime_type, fd } = request else { return };
        match source {
            Source::Browser(source) => source.send(mime_type, fd.as_fd()),
            Source::User => {
                if desk.has_keyboard(client) && desk.clipboard.is_asked_for() && desk.clipboard.told.len() < MANY {
                    // Whoever has waited longest for an owner that does not answer gets nothing.
                    if desk.clipboard.readers.len() >= WAITING {
                        desk.clipboard.readers.remove(0);
                    }
                    desk.clipboard.readers.push(fd);
                    desk.wishes.push(Wish::Paste);
                }
            }
        }
    }
}
