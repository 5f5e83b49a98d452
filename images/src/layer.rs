//! A file tree as a layer: a tar archive whose bytes depend on the tree alone, gzipped (OCI image specification, layer.md).
//!
//! Sorted by path, root-owned, without extended headers; compressed in members of fixed size (RFC 1952, 2.2) so that the
//! bytes do not depend on how many threads did it.

use crate::{
    digest::{Digest, Digesting},
    error::Error,
    parallel,
    tree::{Entry, Node, Tree, TreePath},
};
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    sync::{Arc, Mutex},
    thread,
};

const MEMBER: usize = 4 << 20;

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// Digest of the compressed bytes.
    pub(crate) digest: Digest,
    /// Length of the compressed bytes.
    pub(crate) size: u64,
    /// Digest of the tar archive.
    pub(crate) diff_id: Digest,
}

/// Writes `tree` to a new file at `path`.
pub(crate) fn write(tree: &Tree, path: &Path) -> Result<Written, Error> {
    let file = File::create_new(path).map_err(Error::io("create", path))?;
    let (file, written) = write_to(tree, file, parallel::threads()).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("write", path))?;
    Ok(written)
}

fn write_to<W: Write>(tree: &Tree, out: W, workers: usize) -> io::Result<(W, Written)> {
    thread::scope(|scope| {
        let (send, receive) = sync_channel::<Job>(workers);
        let receive = Arc::new(Mutex::new(receive));
        for _ in 0..workers {
            let receive = Arc::clone(&receive);
            scope.spawn(move || work(&receive));
        }
        let members = Members { out: Digesting::new(out), pending: Vec::with_capacity(MEMBER), queue: VecDeque::new(), ahead: 2 * workers, jobs: send };
        let mut archive = tar::Builder::new(Digesting::new(members));
        for (path, entry) in tree.iter() {
            append(&mut archive, path, entry)?;
        }
        let (members, diff_id, _) = archive.into_inner()?.finish();
        let (out, digest, size) = members.finish()?.finish();
        Ok((out, Written { digest, size, diff_id }))
    })
}

fn append(archive: &mut tar::Builder<impl Write>, path: &TreePath, entry: &Entry) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(entry.mtime);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    let dir = format!("{}/", path.as_str());
    match &entry.node {
        Node::Dir | Node::SharedDir => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(if entry.node == Node::Dir { 0o755 } else { 0o1777 });
            archive.append_data(&mut header, dir, io::empty())
        }
        Node::Symlink { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, path.as_str(), target)
        }
        Node::File { mode, data } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(mode.bits());
            header.set_size(data.len() as u64);
            archive.append_data(&mut header, path.as_str(), &data[..])
        }
    }
}

/// A member to compress, and where to send it.
type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().map(|jobs| jobs.recv());
        let Ok(Ok((data, reply))) = job else { return };
        // The other end is gone only when writing failed, which is told there.
        _ = reply.send(compress(&data));
    }
}

fn compress(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(Vec::with_capacity(data.len() / 2), Compression::new(6));
    encoder.write_all(data)?;
    encoder.finish()
}

/// Cuts what is written into members, has them compressed, and writes them in order.
struct Members<W> {
    out: Digesting<W>,
    pending: Vec<u8>,
    queue: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    /// How many may be in the queue.
    ahead: usize,
    jobs: SyncSender<Job>,
}

impl<W: Write> Members<W> {
    fn submit(&mut self) -> io::Result<()> {
        if self.queue.len() >= self.ahead {
            self.collect()?;
        }
        let data = std::mem::replace(&mut self.pending, Vec::with_capacity(MEMBER));
        let (reply, result) = channel();
        self.jobs.send((data, reply)).map_err(|_| worker_gone())?;
        self.queue.push_back(result);
        Ok(())
    }

    /// Writes the oldest member that is not written yet.
    fn collect(&mut self) -> io::Result<()> {
        let Some(result) = self.queue.pop_front() else { return Ok(()) };
        self.out.write_all(&result.recv().map_err(|_| worker_gone())??)
    }

    fn finish(mut self) -> io::Result<Digesting<W>> {
        self.submit()?;
        while !self.queue.is_empty() {
            self.collect()?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = MEMBER - self.pending.len();
        let taken = data.get(..data.len().min(room)).unwrap_or_default();
        self.pending.extend_from_slice(taken);
        if self.pending.len() == MEMBER {
            self.submit()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worker_gone() -> io::Error {
    io::Error::other("a compressing thread ended early")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Mode;
    use std::io::Read;

    fn tree(size: usize) -> Tree {
        let mut tree = Tree::default();
        let path = |text: &str| TreePath::new(text).unwrap();
        let data: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        tree.insert(path("usr/b"), Node::File { mode: Mode::Executable, data: Arc::from(data) }, 9);
        tree.insert(path("usr/a"), Node::Symlink { target: "b".into() }, 9);
        tree.insert(path("tmp"), Node::SharedDir, 9);
        tree.insert(path(&format!("usr/{}", "long/".repeat(40))), Node::Dir, 9);
        tree
    }

    #[test]
    fn a_layer_reads_back_and_has_the_digests_told() {
        let (bytes, written) = write_to(&tree(2 * MEMBER + 5), Vec::new(), 2).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (written.digest, written.size));
        let mut tar = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut tar).unwrap();
        assert_eq!(Digest::of(&tar), written.diff_id);
        let mut archive = tar::Archive::new(&tar[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 9));
            seen.push((entry.path().unwrap().display().to_string(), header.mode().unwrap()));
        }
        assert_eq!(seen[..2], [("tmp/".to_owned(), 0o1777), ("usr/".to_owned(), 0o755)]);
        assert!(seen.contains(&("usr/a".to_owned(), 0o777)) && seen.contains(&("usr/b".to_owned(), 0o755)));
        assert_eq!(seen.len(), 4 + 40);
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_whatever_the_number_of_threads() {
        let with = |workers, size| write_to(&tree(size), Vec::new(), workers).unwrap();
        let one = with(1, 3 * MEMBER);
        for workers in [2, 3, 16] {
            assert!(one == with(workers, 3 * MEMBER), "{workers}");
        }
        assert_ne!(one.1.digest, with(1, 3 * MEMBER + 1).1.digest);
    }
}
