//! Pictures from memory that a client shares (wl_shm). They are read, never mapped: a client that cuts its file short
//! gets zeros shown, and kills nobody. pread(2).

use super::desk::Desk;
use super::pixels::{Alpha, PIXEL, Picture, Rect};
use rustix::fd::OwnedFd;
use rustix::io::pread;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use wayland_server::backend::ClientId;
use wayland_server::protocol::{wl_buffer, wl_shm, wl_shm_pool};
use wayland_server::{Client, DataInit, Dispatch, DisplayHandle, GlobalDispatch, New, Resource, WEnum};

/// The longest side of a picture, in pixels.
const LONGEST: i32 = 16_384;
/// Pools at once: each holds a descriptor.
const POOLS: usize = 256;

/// A file with pictures.
pub(super) struct Pool {
    file: OwnedFd,
    size: AtomicI32,
}

/// A picture in a pool.
pub(super) struct Buffer {
    pool: Arc<Pool>,
    offset: u64,
    pub(super) size: (i32, i32),
    stride: usize,
    pub(super) alpha: Alpha,
}

impl Buffer {
    fn new(pool: &Arc<Pool>, offset: i32, size: (i32, i32), stride: i32, format: WEnum<wl_shm::Format>) -> Option<Self> {
        let alpha = match format {
            WEnum::Value(wl_shm::Format::Argb8888) => Alpha::Used,
            WEnum::Value(wl_shm::Format::Xrgb8888) => Alpha::Ignored,
            _ => return None,
        };
        let (width, height) = size;
        let wide = width.checked_mul(i32::try_from(PIXEL).ok()?)?;
        let end = i64::from(stride) * i64::from(height) + i64::from(offset);
        let fits = offset >= 0
            && (1..=LONGEST).contains(&width)
            && (1..=LONGEST).contains(&height)
            && stride >= wide
            && end <= i64::from(pool.size.load(Ordering::Relaxed));
        fits.then(|| Some(Self { pool: Arc::clone(pool), offset: u64::try_from(offset).ok()?, size, stride: usize::try_from(stride).ok()?, alpha }))?
    }

    /// Copies `rect` into `picture`, which has its size.
    pub(super) fn read(&self, rect: Rect, picture: &mut Picture) {
        let (rows, columns) = picture.cut(rect);
        for y in rows {
            let place = self.offset + (y * self.stride + columns.start * PIXEL) as u64;
            fill(&self.pool.file, picture.row_mut(y, columns.clone()), place);
        }
    }
}

/// What is not in the file is zero.
fn fill(file: &OwnedFd, mut bytes: &mut [u8], mut place: u64) {
    while !bytes.is_empty() {
        match pread(file, &mut *bytes, place) {
            Ok(count) if count > 0 => {
                place += count as u64;
                bytes = bytes.get_mut(count..).unwrap_or_default();
            }
            _ => return bytes.fill(0),
        }
    }
}

impl GlobalDispatch<wl_shm::WlShm, ()> for Desk {
    fn bind(_: &mut Self, _: &DisplayHandle, _: &Client, new: New<wl_shm::WlShm>, (): &(), init: &mut DataInit<'_, Self>) {
        let shm = init.init(new, ());
        for format in [wl_shm::Format::Argb8888, wl_shm::Format::Xrgb8888] {
            shm.format(format);
        }
    }
}

impl Dispatch<wl_shm::WlShm, ()> for Desk {
    fn request(desk: &mut Self, client: &Client, shm: &wl_shm::WlShm, request: wl_shm::Request, (): &(), _: &DisplayHandle, init: &mut DataInit<'_, Self>) {
        let wl_shm::Request::CreatePool { id, fd, size } = request else { return };
        desk.pools += 1;
        init.init(id, Arc::new(Pool { file: fd, size: AtomicI32::new(size) }));
        if size <= 0 {
            shm.post_error(wl_shm::Error::InvalidStride, "a pool without bytes");
        }
        if desk.pools > POOLS {
            desk.too_much(client);
        }
    }
}

impl Dispatch<wl_shm_pool::WlShmPool, Arc<Pool>> for Desk {
    fn request(
        _: &mut Self,
        _: &Client,
        pool: &wl_shm_pool::WlShmPool,
        request: wl_shm_pool::Request,
        data: &Arc<Pool>,
        _: &DisplayHandle,
        init: &mut DataInit<'_, Self>,
    ) {
        match request {
            wl_shm_pool::Request::CreateBuffer { id, offset, width, height, stride, format } => {
                let buffer = Buffer::new(data, offset, (width, height), stride, format);
                let known = buffer.is_some();
                init.init(id, buffer);
                if !known {
                    pool.post_error(
                        wl_shm::Error::InvalidStride,
                        "a picture that does not lie in its pool, is too large, or has a format that was not offered",
                    );
                }
            }
            // A pool never shrinks.
            wl_shm_pool::Request::Resize { size } => drop(data.size.fetch_max(size, Ordering::Relaxed)),
            _ => {}
        }
    }

    fn destroyed(desk: &mut Self, _: ClientId, _: &wl_shm_pool::WlShmPool, _: &Arc<Pool>) {
        desk.pools = desk.pools.saturating_sub(1);
    }
}

/// What is bound to a `wl_buffer`: nothing if its client was told that it is wrong.
pub(super) type BufferData = Option<Buffer>;

impl Dispatch<wl_buffer::WlBuffer, BufferData> for Desk {
    fn request(_: &mut Self, _: &Client, _: &wl_buffer::WlBuffer, _: wl_buffer::Request, _: &BufferData, _: &DisplayHandle, _: &mut DataInit<'_, Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::write;

    fn pool(bytes: &[u8], size: i32) -> Arc<Pool> {
        let file = memfd_create("pool", MemfdFlags::CLOEXEC).unwrap();
        write(&file, bytes).unwrap();
        Arc::new(Pool { file, size: AtomicI32::new(size) })
    }

    #[test]
    fn a_picture_lies_in_its_pool_or_is_none() {
        let pool = pool(&[], 64);
        let argb = WEnum::Value(wl_shm::Format::Argb8888);
        let is = |offset, size, stride, format| Buffer::new(&pool, offset, size, stride, format).is_some();
        assert!(is(0, (4, 4), 16, argb) && is(32, (4, 2), 16, argb));
        let wrong =
            [(1, (4, 4), 16), (0, (4, 4), 15), (-1, (1, 1), 4), (0, (0, 4), 16), (0, (4, -4), 16), (0, (i32::MAX, 1), i32::MAX), (0, (4, i32::MAX), i32::MAX)];
        for (offset, size, stride) in wrong {
            assert!(!is(offset, size, stride, argb), "{offset} {size:?} {stride}");
        }
        assert!(!is(0, (4, 4), 16, WEnum::Value(wl_shm::Format::Nv12)) && !is(0, (4, 4), 16, WEnum::Unknown(7)));
    }

    #[test]
    fn what_a_client_cut_off_is_zero() {
        let bytes: Vec<u8> = (1..=20).collect();
        let buffer = Buffer::new(&pool(&bytes, 32), 0, (2, 2), 16, WEnum::Value(wl_shm::Format::Xrgb8888)).unwrap();
        let mut picture = Picture::new((2, 2), Alpha::Ignored);
        buffer.read(Rect::of((2, 2)), &mut picture);
        assert_eq!(picture.row(0, 0..2), &bytes[..8]);
        assert_eq!(picture.row(1, 0..2), [17, 18, 19, 20, 0, 0, 0, 0]);
    }
}
