//! HTCondor daemons that mean ill, and one that only listens: what a client of CEDAR must survive; and SSH servers
//! ([`ssh`]).
//!
//! [`Peer`] accepts connections and plays a script over each of them with a [`Session`], the serving side of a
//! conversation without any manners of its own. [`relay::Relay`] stands between a client and a real daemon and
//! reads, changes, repeats or keeps back what they say to each other; where both let it, it agrees on a key with
//! each of them, so that it reads what they sealed.

pub mod ads;
pub mod credd;
pub mod credd_scripts;
pub mod keys;
pub mod relay;
pub mod scripts;
pub mod ssh;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use cedar::{
    classad::{Ad, Limits},
    security::SessionKey,
    wire::{Channel, Incoming, Mode, Outgoing},
};

use self::keys::Pair;

/// Nobody waits for a client longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The largest message taken from a client.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// The base IV of everything a hostile peer seals.
const IV: [u8; 16] = [0x5a; 16];

/// The serving side of one connection.
pub struct Session {
    stream: TcpStream,
    /// Its frames, digests and key.
    pub channel: Channel,
    /// The key pair it offers.
    pub pair: Pair,
    client_key: Option<String>,
    /// How many bytes may still be written before the connection is cut.
    left: Option<usize>,
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Session {
    /// Over an accepted connection; if `cut` is given, that is closed after so many bytes of ours.
    ///
    /// # Errors
    /// The connection is gone already.
    pub fn new(stream: TcpStream, cut: Option<usize>) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            channel: Channel::new(),
            pair: Pair::new(7),
            client_key: None,
            left: cut,
        })
    }

    /// The next message of the client.
    ///
    /// # Errors
    /// It closed, or sent nonsense.
    pub fn receive(&mut self) -> io::Result<Incoming> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.fill()?;
        }
    }

    /// The next message, if it has come.
    fn take(&mut self) -> io::Result<Option<Incoming>> {
        self.channel.message(MAX_MESSAGE).map_err(broken)
    }

    /// One read.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.channel.push(buffer.get(..n).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The client's first message: what it wants, and its public key.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn request(&mut self) -> io::Result<Ad> {
        let message = self.receive()?;
        let mut reader = message.reader();
        reader.int("the command").map_err(broken)?;
        let ad = Ad::decode(&mut reader, Limits::HANDSHAKE).map_err(broken)?;
        self.client_key = ad.text("ECDHPublicKey").map(str::to_owned);
        Ok(ad)
    }

    /// Puts bytes on the wire as they are.
    ///
    /// # Errors
    /// The client closed, or the cut was reached.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(left) = &mut self.left else {
            return self.stream.write_all(bytes);
        };
        let now = bytes.get(..*left).unwrap_or(bytes);
        *left -= now.len();
        self.stream.write_all(now)?;
        if now.len() < bytes.len() {
            self.stream.shutdown(Shutdown::Both)?;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }

    /// The bytes of a message of this payload, as this stream has them now.
    ///
    /// # Errors
    /// None in practice.
    pub fn framed(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        let message = Outgoing::new(self.channel.mode()).raw(payload);
        self.channel.send(&message).map_err(broken)
    }

    /// Sends a message of this payload.
    ///
    /// # Errors
    /// As [`raw`](Self::raw).
    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let bytes = self.framed(payload)?;
        self.raw(&bytes)
    }

    /// Sends an ad as a message of its own.
    ///
    /// # Errors
    /// As [`raw`](Self::raw).
    pub fn ad(&mut self, ad: &Ad) -> io::Result<()> {
        let message = ad.encode(Outgoing::new(self.channel.mode())).map_err(broken)?;
        self.send(message.bytes())
    }

    /// Seals the stream with the key agreed with the client.
    ///
    /// # Errors
    /// The client offered no key.
    pub fn seal(&mut self) -> io::Result<()> {
        let key = self.key()?;
        self.channel.seal(&key, IV);
        Ok(())
    }

    /// The key agreed with the client.
    ///
    /// # Errors
    /// The client offered no key.
    pub fn key(&self) -> io::Result<SessionKey> {
        let public = self.client_key.as_deref().unwrap_or_default();
        self.pair
            .agree(public)
            .ok_or_else(|| io::Error::other("the client offers no key"))
    }

    /// Says nothing more, until the client loses its patience.
    ///
    /// # Errors
    /// The client lost its patience.
    pub fn silence(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Writes `piece` until the client has had enough.
    ///
    /// # Errors
    /// The client has had enough.
    pub fn endless(&mut self, piece: &[u8]) -> io::Result<()> {
        let many = piece.repeat(1 + 65_536 / piece.len().max(1));
        loop {
            self.raw(&many)?;
        }
    }

    /// How strings look on this stream now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.channel.mode()
    }
}

/// A listener that plays a script over every connection, until it is dropped.
pub struct Peer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Peer {
    /// Listens on a free port of `ip`. The script gets the connection's number, from 0 on; its errors are the
    /// client's doing and end that connection only.
    ///
    /// # Errors
    /// The address is not ours.
    pub fn start(
        ip: Ipv4Addr,
        script: impl Fn(usize, TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let peer = Self {
            address: listener.local_addr()?,
            ended: Arc::default(),
            connections: Arc::default(),
        };
        let (ended, connections) = (peer.ended.clone(), peer.connections.clone());
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                std::thread::spawn(move || script(number, stream));
            }
        });
        Ok(peer)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has had.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // wakes the listener up; if that fails it has ended already
        drop(TcpStream::connect(self.address));
    }
}
