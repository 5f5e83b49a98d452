//! What a client says first to an X server ("Connection Setup" in the X protocol): byte order, version, and what opens the server.
//!
//! The client's own key never goes on: in its place stands the one that the display was given, so that the server treats every
//! client as that key says, whatever else would let it in (xhost(1)). What follows is passed on as it is.

use crate::judge::{Passed, Stream};
use crate::policy::Way;

/// What opens an X server: the name of a method and its data (Xsecurity(7)). Both empty for a server that asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cookie {
    name: Vec<u8>,
    data: Vec<u8>,
}

/// Not the beginning of a connection of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSetup;

/// Bytes before the client's key.
const HEADER: usize = 12;
/// The longest name, and the longest data, of a client's key; real ones have some 20 bytes.
const MOST: usize = 256;
/// How a client of this machine says that its numbers are this machine's.
const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

impl Cookie {
    /// Reads the file that the runtime supplies: the method's name, a newline, its data.
    pub(crate) fn parse(file: &[u8]) -> Self {
        let mut fields = file.splitn(2, |byte| *byte == b'\n').map(<[u8]>::to_vec);
        Self { name: fields.next().unwrap_or_default(), data: fields.next().unwrap_or_default() }
    }

    /// The method's name, and its data.
    pub(crate) fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        (self.name.clone(), self.data.clone())
    }

    /// The whole setup request of a client with these first six bytes.
    fn setup(&self, begin: [u8; 6]) -> Vec<u8> {
        let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or_default().to_ne_bytes();
        let mut setup = [&begin[..], &length(&self.name), &length(&self.data), &[0, 0]].concat();
        for field in [&self.name, &self.data] {
            setup.extend(field);
            setup.resize(setup.len().next_multiple_of(4), 0);
        }
        setup
    }
}

/// The beginning of a connection.
pub(crate) enum Setup {
    /// The client has not said all of it.
    Awaited(Cookie),
    /// It is over.
    Done,
}

impl Setup {
    /// Of a connection to a server that `cookie` opens.
    pub(crate) const fn new(cookie: Cookie) -> Self {
        Self::Awaited(cookie)
    }

    /// Passes on what is held, the client's once its beginning is whole, with the cookie in place of its key.
    pub(crate) fn pass(&mut self, way: Way, held: &mut Stream, passed: &mut Passed) -> Result<(), NoSetup> {
        if let (Self::Awaited(cookie), Way::Request) = (&*self, way) {
            let Some((begin, length)) = begin(&held.bytes)? else { return if held.descriptors.is_empty() { Ok(()) } else { Err(NoSetup) } };
            passed.bytes.extend(cookie.setup(begin));
            held.bytes.drain(..length);
            *self = Self::Done;
        }
        passed.bytes.append(&mut held.bytes);
        passed.descriptors.extend(held.descriptors.drain(..));
        Ok(())
    }
}

/// How a whole setup request begins, and how long it is.
fn begin(bytes: &[u8]) -> Result<Option<([u8; 6], usize)>, NoSetup> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let &[order, _, major_low, major_high, minor_low, minor_high, name_low, name_high, data_low, data_high, _, _] = header;
    let [name, data] = [[name_low, name_high], [data_low, data_high]].map(|length| usize::from(u16::from_ne_bytes(length)));
    if order != ORDER || name > MOST || data > MOST {
        return Err(NoSetup);
    }
    let length = HEADER + name.next_multiple_of(4) + data.next_multiple_of(4);
    Ok((bytes.len() >= length).then_some(([order, 0, major_low, major_high, minor_low, minor_high], length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie() -> Cookie {
        Cookie::parse(b"MIT-MAGIC-COOKIE-1\n0123\n56789abcdef")
    }

    fn pass(bytes: &[u8]) -> Result<Option<Vec<u8>>, NoSetup> {
        let mut held = Stream { bytes: bytes.to_vec(), ..Stream::default() };
        let (mut setup, mut passed) = (Setup::new(cookie()), Passed::default());
        setup.pass(Way::Request, &mut held, &mut passed)?;
        Ok(matches!(setup, Setup::Done).then_some(passed.bytes))
    }

    fn request(order: u8, name: &[u8], data: &[u8], more: &[u8]) -> Vec<u8> {
        let own = Cookie { name: name.to_vec(), data: data.to_vec() };
        [own.setup([order, 7, 11, 0, 0, 0]), more.to_vec()].concat()
    }

    #[test]
    fn the_clients_key_is_replaced() {
        let own = [&[ORDER, 0, 11, 0, 0, 0][..], &18_u16.to_ne_bytes(), &16_u16.to_ne_bytes(), &[0, 0], b"MIT-MAGIC-COOKIE-1\0\0", b"0123\n56789abcdef"].concat();
        for (name, data) in [(&b""[..], &b""[..]), (b"MIT-MAGIC-COOKIE-1", b"another cookie!!"), (b"x", b"abcde")] {
            let passed = pass(&request(ORDER, name, data, b"more")).unwrap().unwrap();
            assert_eq!(passed, [&own[..], b"more"].concat());
        }
    }

    #[test]
    fn a_part_is_waited_for_and_nonsense_refused() {
        let whole = request(ORDER, b"name", b"data", b"");
        for count in 0..whole.len() {
            assert_eq!(pass(&whole[..count]), Ok(None), "{count}");
        }
        let other = if ORDER == b'l' { b'B' } else { b'l' };
        for wrong in [request(other, b"", b"", b""), request(0, b"", b"", b""), request(ORDER, &[b'x'; MOST + 1], b"", b"")] {
            assert_eq!(pass(&wrong), Err(NoSetup));
        }
    }
}
