//! A SOCKS5 proxy on loopback that knows a few names, and notes every name that it is asked for.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

#[derive(Clone)]
pub struct Proxy {
    /// Names, and the `host:port` on loopback that they lead to.
    names: Arc<BTreeMap<String, String>>,
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn new(names: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|(name, url)| ((*name).to_owned(), url.trim_start_matches("http://").to_owned()));
        Self { names: Arc::new(names.collect()), asked: Arc::default() }
    }

    /// Listens on a port; returns `socks5h://...`.
    pub fn on_tcp(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = self.clone();
        thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|client| proxy.serve(client.try_clone().unwrap(), client)));
        format!("socks5h://{address}")
    }

    /// Listens on an AF_UNIX socket.
    pub fn on_unix(&self, path: &Path) -> String {
        let listener = UnixListener::bind(path).unwrap();
        let proxy = self.clone();
        thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|client| proxy.serve(client.try_clone().unwrap(), client)));
        format!("socks5h://{}", path.display())
    }

    fn serve(&self, reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) {
        let proxy = self.clone();
        thread::spawn(move || drop(proxy.relay(reader, writer)));
    }

    fn relay(&self, mut reader: impl Read + Send + 'static, mut writer: impl Write) -> io::Result<()> {
        reader.read_exact(&mut [0; 3])?;
        writer.write_all(&[5, 0])?;
        let mut head = [0; 5];
        reader.read_exact(&mut head)?;
        let mut rest = vec![0; usize::from(head[4]) + 2];
        reader.read_exact(&mut rest)?;
        let (name, port) = rest.split_at(rest.len() - 2);
        let name = format!("{}:{}", String::from_utf8_lossy(name), u16::from_be_bytes([port[0], port[1]]));
        self.asked.lock().unwrap().push(name.clone());
        let Some(place) = self.names.get(&name).filter(|_| head[..4] == [5, 1, 0, 3]) else {
            return writer.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]);
        };
        let mut server = TcpStream::connect(place)?;
        server.set_read_timeout(Some(Duration::from_secs(20)))?;
        writer.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let mut upstream = server.try_clone()?;
        thread::spawn(move || io::copy(&mut reader, &mut upstream).and_then(|_| upstream.shutdown(Shutdown::Write)));
        io::copy(&mut server, &mut writer).map(drop)
    }
}
