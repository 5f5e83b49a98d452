//! Surfaces and their parts (wl_compositor, wl_subcompositor): what was committed, drawn from copies of this process.

use super::desk::{Desk, Id};
use super::memory::BufferData;
use super::pixels::{Picture, Rect};
use std::sync::{Arc, Mutex, PoisonError};
use wayland_server::backend::ClientId;
use wayland_server::protocol::{wl_buffer, wl_callback, wl_compositor, wl_region, wl_subcompositor, wl_subsurface, wl_surface};
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource};

/// Surfaces at once.
const SURFACES: usize = 1024;
/// Callbacks, and rectangles of a region, of one surface.
const MANY: usize = 256;
/// Bytes of all pictures.
const BYTES: usize = 256 << 20;

/// What a surface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    None,
    /// A window's.
    Window,
    /// A menu's.
    Menu,
    /// A part of another, at this place.
    Part {
        of: Id,
        at: (i32, i32),
    },
}

/// Where a surface takes the pointer, as what was added and subtracted, in order.
pub(super) type Region = Vec<(Fold, Rect)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Add,
    Subtract,
}

/// What a client changes with its next commit.
#[derive(Default)]
struct Pending {
    buffer: Option<Option<wl_buffer::WlBuffer>>,
    damage: Rect,
    scale: Option<i32>,
    input: Option<Option<Region>>,
    frames: Vec<wl_callback::WlCallback>,
}

impl Pending {
    /// What came later, over what came before.
    fn merge(&mut self, later: Self) {
        if let Some(buffer) = later.buffer {
            release(self.buffer.replace(buffer));
        }
        self.damage = self.damage.union(later.damage);
        self.scale = later.scale.or(self.scale);
        self.input = later.input.or(self.input.take());
        self.frames.extend(later.frames);
    }
}

fn release(buffer: Option<Option<wl_buffer::WlBuffer>>) {
    if let Some(Some(buffer)) = buffer {
        buffer.release();
    }
}

pub(super) struct Surface {
    pub(super) handle: wl_surface::WlSurface,
    pub(super) role: Role,
    picture: Option<Picture>,
    scale: i32,
    input: Option<Region>,
    /// Its parts and itself, from the lowest.
    stack: Vec<Id>,
    frames: Vec<wl_callback::WlCallback>,
    pending: Pending,
    /// A part's commits wait for its parent's.
    waits: bool,
    held: Pending,
    next_at: Option<(i32, i32)>,
}

impl Surface {
    fn new(id: Id, handle: wl_surface::WlSurface) -> Self {
        let (pending, held) = (Pending::default(), Pending::default());
        Self { handle, role: Role::None, picture: None, scale: 1, input: None, stack: vec![id], frames: Vec::new(), pending, waits: true, held, next_at: None }
    }

    /// In units of windows; nothing if it shows nothing.
    pub(super) fn size(&self) -> Option<(i32, i32)> {
        self.picture.as_ref().map(|picture| (picture.size().0 / self.scale, picture.size().1 / self.scale))
    }

    pub(super) const fn picture(&self) -> Option<&Picture> {
        self.picture.as_ref()
    }

    fn takes(&self, place: (i32, i32)) -> bool {
        let inside = self.size().is_some_and(|size| Rect::of(size).contains(place));
        let taken = |region: &Region| region.iter().rev().find(|(_, rect)| rect.contains(place)).is_some_and(|(fold, _)| *fold == Fold::Add);
        inside && self.input.as_ref().is_none_or(taken)
    }

    /// Takes over what was committed; what has changed, in units of windows.
    fn apply(&mut self, pending: Pending) -> Rect {
        if let Some(input) = pending.input {
            self.input = input;
        }
        self.scale = pending.scale.unwrap_or(self.scale);
        self.frames.extend(pending.frames);
        self.frames.truncate(MANY);
        let scale = self.scale;
        let Some(buffer) = pending.buffer else { return Rect::default() };
        let old = self.size().map(Rect::of).unwrap_or_default();
        match buffer {
            Some(buffer) => self.copy(&buffer, pending.damage),
            None => self.picture = None,
        }
        let new = self.size().map(Rect::of).unwrap_or_default();
        if old == new { grown(pending.damage, scale).intersection(new) } else { old.union(new) }
    }

    /// The client has its buffer back at once.
    fn copy(&mut self, handle: &wl_buffer::WlBuffer, damage: Rect) {
        if let Some(Some(buffer)) = handle.data::<BufferData>() {
            let same = self.picture.as_ref().is_some_and(|picture| (picture.size(), picture.alpha) == (buffer.size, buffer.alpha));
            let mut picture = self.picture.take().filter(|_| same).unwrap_or_else(|| Picture::new(buffer.size, buffer.alpha));
            buffer.read(if same { damage } else { Rect::of(buffer.size) }, &mut picture);
            self.picture = Some(picture);
        }
        handle.release();
    }
}

/// From pixels of a picture to units of windows.
const fn grown(rect: Rect, scale: i32) -> Rect {
    let (x, y) = (rect.x.div_euclid(scale), rect.y.div_euclid(scale));
    Rect::new(x, y, rect.right().div_euclid(scale).saturating_add(1).saturating_sub(x), rect.bottom().div_euclid(scale).saturating_add(1).saturating_sub(y))
}

impl Desk {
    pub(super) fn surface(&self, id: Id) -> Option<&Surface> {
        self.surfaces.get(&id)
    }

    /// Gives a surface a role, which it keeps.
    pub(super) fn give(&mut self, id: Id, role: Role) -> bool {
        let free = self.surfaces.get(&id).is_some_and(|surface| surface.role == Role::None || surface.role == role);
        if let Some(surface) = self.surfaces.get_mut(&id).filter(|_| free) {
            surface.role = role;
        }
        free
    }

    fn commit(&mut self, id: Id) {
        let waits = self.waits(id);
        let Some(surface) = self.surfaces.get_mut(&id) else { return };
        let pending = std::mem::take(&mut surface.pending);
        surface.held.merge(pending);
        if !waits {
            self.apply(id);
            self.committed(id);
        }
    }

    /// Whether a part, or what it is a part of, waits for its parent.
    fn waits(&self, id: Id) -> bool {
        let mut id = id;
        for _ in 0..SURFACES {
            match self.surfaces.get(&id) {
                Some(Surface { role: Role::Part { .. }, waits: true, .. }) => return true,
                Some(Surface { role: Role::Part { of, .. }, .. }) => id = *of,
                _ => return false,
            }
        }
        true
    }

    fn apply(&mut self, id: Id) {
        let Some(surface) = self.surfaces.get_mut(&id) else { return };
        let held = std::mem::take(&mut surface.held);
        let damage = surface.apply(held);
        let parts: Vec<_> = surface.stack.iter().copied().filter(|part| *part != id).collect();
        self.damage(id, damage);
        for part in parts {
            self.move_part(part);
            if self.surfaces.get(&part).is_some_and(|part| part.waits) {
                self.apply(part);
            }
        }
        if self.bytes() > BYTES {
            self.too_much_of(id);
        }
    }

    fn bytes(&self) -> usize {
        self.surfaces.values().filter_map(Surface::picture).map(Picture::len).sum()
    }

    fn move_part(&mut self, id: Id) {
        let all = self.surface(id).and_then(Surface::size).map(Rect::of).unwrap_or_default();
        let Some(Surface { role: Role::Part { at, .. }, next_at, .. }) = self.surfaces.get_mut(&id) else { return };
        let Some(next) = next_at.take().filter(|next| next != at) else { return };
        let old = std::mem::replace(at, next);
        self.damage(id, all);
        self.damage(id, all.shifted((old.0.saturating_sub(next.0), old.1.saturating_sub(next.1))));
    }

    /// The surface at the bottom of a tree, and where `id` lies in its coordinates.
    pub(super) fn root(&self, id: Id) -> (Id, (i32, i32)) {
        let (mut id, mut place) = (id, (0_i32, 0_i32));
        for _ in 0..SURFACES {
            let Some(Surface { role: Role::Part { of, at }, .. }) = self.surfaces.get(&id) else { break };
            (id, place) = (*of, (place.0.saturating_add(at.0), place.1.saturating_add(at.1)));
        }
        (id, place)
    }

    /// Everything of the tree of `id`, from the lowest, with its place.
    pub(super) fn tree(&self, id: Id) -> Vec<(Id, (i32, i32))> {
        let mut all = Vec::new();
        self.walk(id, (0, 0), 16, &mut all);
        all
    }

    fn walk(&self, id: Id, place: (i32, i32), depth: usize, all: &mut Vec<(Id, (i32, i32))>) {
        let Some(surface) = self.surfaces.get(&id).filter(|_| depth > 0 && all.len() < SURFACES) else { return };
        for part in &surface.stack {
            match self.surfaces.get(part).map(|part| part.role) {
                _ if *part == id => all.push((id, place)),
                Some(Role::Part { at, .. }) => self.walk(*part, (place.0.saturating_add(at.0), place.1.saturating_add(at.1)), depth - 1, all),
                _ => {}
            }
        }
    }

    /// What of the tree of `id` takes the pointer at `place`, and where that is in its own coordinates.
    pub(super) fn under(&self, id: Id, place: (i32, i32)) -> Option<(Id, (i32, i32))> {
        let local = |at: (i32, i32)| (place.0.saturating_sub(at.0), place.1.saturating_sub(at.1));
        let found = self.tree(id).into_iter().rev().find(|(part, at)| self.surface(*part).is_some_and(|surface| surface.takes(local(*at))));
        found.map(|(part, at)| (part, local(at)))
    }

    /// Draws the tree of `id` with its corner at `place`.
    pub(super) fn draw(&self, id: Id, place: (i32, i32), canvas: &mut Picture, clip: Rect) {
        for (part, at) in self.tree(id) {
            let Some(surface) = self.surface(part) else { continue };
            if let Some(picture) = surface.picture() {
                canvas.draw(picture, usize::try_from(surface.scale).unwrap_or(1), (place.0.saturating_add(at.0), place.1.saturating_add(at.1)), clip);
            }
        }
    }

    /// Tells all clients that their pictures have been shown.
    pub(super) fn shown(&mut self) {
        let now = self.now();
        for callback in self.surfaces.values_mut().flat_map(|surface| surface.frames.drain(..)) {
            callback.done(now);
        }
    }

    /// Whether anyone waits for [`Self::shown`].
    pub(super) fn is_awaited(&self) -> bool {
        self.surfaces.values().any(|surface| !surface.frames.is_empty())
    }

    fn forget(&mut self, id: Id) {
        let damage = self.surface(id).and_then(Surface::size).map(Rect::of).unwrap_or_default();
        self.damage(id, damage);
        self.unmapped(id);
        self.surfaces.remove(&id);
        for surface in self.surfaces.values_mut() {
            surface.stack.retain(|part| *part != id);
            if matches!(surface.role, Role::Part { of, .. } if of == id) {
                surface.role = Role::None;
            }
        }
    }
}

impl GlobalDispatch<wl_compositor::WlCompositor, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wl_compositor::WlCompositor>, (): &(), init: &mut DataInit<'_, Self>) {
        init.init(new, ());
    }
}

impl Dispatch<wl_compositor::WlCompositor, ()> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wl_compositor::WlCompositor,
        request: wl_compositor::Request,
        (): &(),
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_compositor::Request::CreateSurface { id } => {
                let own = desk.next_id();
                let handle = init.init(id, own);
                desk.surfaces.insert(own, Surface::new(own, handle));
                if desk.surfaces.len() > SURFACES {
                    desk.too_much(client);
                }
            }
            wl_compositor::Request::CreateRegion { id } => drop(init.init(id, SharedRegion::default())),
            _ => {}
        }
    }
}

/// A region that its client still changes.
type SharedRegion = Arc<Mutex<Region>>;

impl Dispatch<wl_region::WlRegion, SharedRegion> for Desk {
    fn request(
        desk: &mut Self,
        client: &Client,
        _: &wl_region::WlRegion,
        request: wl_region::Request,
        region: &SharedRegion,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        let step = match request {
            wl_region::Request::Add { x, y, width, height } => (Fold::Add, Rect::new(x, y, width, height)),
            wl_region::Request::Subtract { x, y, width, height } => (Fold::Subtract, Rect::new(x, y, width, height)),
            _ => return,
        };
        let mut region = region.lock().unwrap_or_else(PoisonError::into_inner);
        region.push(step);
        if region.len() > MANY {
            region.clear();
            desk.too_much(client);
        }
    }
}

impl Dispatch<wl_surface::WlSurface, Id> for Desk {
    fn request(
        desk: &mut Self,
        _: &Client,
        handle: &wl_surface::WlSurface,
        request: wl_surface::Request,
        id: &Id,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        if let wl_surface::Request::Commit = request {
            return desk.commit(*id);
        }
        if let wl_surface::Request::Frame { callback } = request {
            let callback = init.init(callback, ());
            let asked = desk.surfaces.get_mut(id).map(|surface| &mut surface.pending.frames).filter(|frames| frames.len() < MANY);
            return asked.into_iter().for_each(|frames| frames.push(callback.clone()));
        }
        let Some(surface) = desk.surfaces.get_mut(id) else { return };
        let (scale, pending) = (surface.scale, &mut surface.pending);
        match request {
            // One that is never committed was never the display's: it is not released.
            wl_surface::Request::Attach { buffer, .. } => pending.buffer = Some(buffer),
            wl_surface::Request::Damage { x, y, width, height } => {
                let times = |number: i32| number.saturating_mul(pending.scale.unwrap_or(scale));
                pending.damage = pending.damage.union(Rect::new(times(x), times(y), times(width), times(height)));
            }
            wl_surface::Request::DamageBuffer { x, y, width, height } => pending.damage = pending.damage.union(Rect::new(x, y, width, height)),
            wl_surface::Request::SetInputRegion { region } => {
                let region = region.as_ref().and_then(|region| region.data::<SharedRegion>());
                pending.input = Some(region.map(|region| region.lock().unwrap_or_else(PoisonError::into_inner).clone()));
            }
            wl_surface::Request::SetBufferScale { scale: scale @ 1..=8 } => pending.scale = Some(scale),
            wl_surface::Request::SetBufferScale { .. } => handle.post_error(wl_surface::Error::InvalidScale, "a scale that no output has"),
            _ => {}
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, _: &wl_surface::WlSurface, id: &Id) {
        desk.forget(*id);
    }
}

impl Dispatch<wl_callback::WlCallback, ()> for Desk {
    fn request(_: &mut Self, _: &Client, _: &wl_callback::WlCallback, _: wl_callback::Request, (): &(), _: &DisplayHandle, _: &mut DataInit<'_, Self>) {}
}

impl GlobalDispatch<wl_subcompositor::WlSubcompositor, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wl_subcompositor::WlSubcompositor>, (): &(), init: &mut DataInit<'_, Self>) {
        init.init(new, ());
    }
}

impl Dispatch<wl_subcompositor::WlSubcompositor, ()> for Desk {
    fn request(
        desk: &mut Self,
        _: &Client,
        own: &wl_subcompositor::WlSubcompositor,
        request: wl_subcompositor::Request,
        (): &(),
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        let wl_subcompositor::Request::GetSubsurface { id, surface, parent } = request else { return };
        let ids = (surface.data::<Id>().copied(), parent.data::<Id>().copied());
        let (Some(part), Some(of)) = ids else { return drop(init.init(id, Id::default())) };
        init.init(id, part);
        // A surface below itself would be drawn for ever.
        let fits = desk.root(of).0 != part && desk.give(part, Role::Part { of, at: (0, 0) });
        match desk.surfaces.get_mut(&of).filter(|_| fits) {
            Some(parent) => parent.stack.push(part),
            None => own.post_error(wl_subcompositor::Error::BadSurface, "the surface has another role, or is its own parent"),
        }
    }
}

impl Dispatch<wl_subsurface::WlSubsurface, Id> for Desk {
    fn request(
        desk: &mut Self,
        _: &Client,
        _: &wl_subsurface::WlSubsurface,
        request: wl_subsurface::Request,
        id: &Id,
        _: &DisplayHandle,
        _: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_subsurface::Request::PlaceAbove { sibling } => desk.restack(*id, sibling.data::<Id>(), 1),
            wl_subsurface::Request::PlaceBelow { sibling } => desk.restack(*id, sibling.data::<Id>(), 0),
            wl_subsurface::Request::SetPosition { x, y } => desk.surfaces.get_mut(id).into_iter().for_each(|surface| surface.next_at = Some((x, y))),
            wl_subsurface::Request::SetSync => desk.surfaces.get_mut(id).into_iter().for_each(|surface| surface.waits = true),
            wl_subsurface::Request::SetDesync => desk.desync(*id),
            _ => {}
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, _: &wl_subsurface::WlSubsurface, id: &Id) {
        let damage = desk.surface(*id).and_then(Surface::size).map(Rect::of).unwrap_or_default();
        desk.damage(*id, damage);
        let Some(surface) = desk.surfaces.get_mut(id) else { return };
        surface.role = Role::None;
        for parent in desk.surfaces.iter_mut().filter(|(other, _)| *other != id).map(|(_, parent)| parent) {
            parent.stack.retain(|part| part != id);
        }
    }
}

impl Desk {
    /// Puts a part beside a sibling, or its parent.
    fn restack(&mut self, id: Id, beside: Option<&Id>, after: usize) {
        let Some(Role::Part { of, .. }) = self.surface(id).map(|surface| surface.role) else { return };
        let Some(parent) = self.surfaces.get_mut(&of) else { return };
        if !beside.is_some_and(|beside| *beside != id && parent.stack.contains(beside)) {
            return;
        }
        parent.stack.retain(|part| *part != id);
        let place = parent.stack.iter().position(|part| Some(part) == beside).unwrap_or_default();
        parent.stack.insert(place + after, id);
    }

    fn desync(&mut self, id: Id) {
        if let Some(surface) = self.surfaces.get_mut(&id) {
            surface.waits = false;
        }
        if !self.waits(id) {
            self.apply(id);
        }
    }
}
