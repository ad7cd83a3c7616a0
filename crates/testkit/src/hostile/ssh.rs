//! SSH servers that mean ill: the serving side of the protocol without any manners of its own.
//!
//! A [`Server`] speaks just enough to be logged in to (RFC 4253, RFC 4252, RFC 4254): P-256 for keys and signatures,
//! AES-256-GCM between. It lets every key in and holds back nothing it is told to say, at any stage. What an SFTP server
//! answers is made by [`sftp::Files`], which scripts twist.

pub mod packet;
pub mod sftp;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use p256::ecdsa::SigningKey;

use self::{
    packet::{Line, string},
    sftp::{Answer, Files},
};

const SERVICE_REQUEST: u8 = 5;
const USERAUTH_REQUEST: u8 = 50;
const CHANNEL_OPEN: u8 = 90;
const WINDOW_ADJUST: u8 = 93;
const CHANNEL_DATA: u8 = 94;
const CHANNEL_EOF: u8 = 96;
const CHANNEL_CLOSE: u8 = 97;
const CHANNEL_REQUEST: u8 = 98;

/// What the server does out of the ordinary.
#[derive(Clone, Copy)]
pub struct Script {
    /// In place of the answer to a request to log in; `Ok(false)` leaves it to the server. The flag says whether the
    /// request was signed.
    pub login: fn(&mut Line, signed: bool) -> io::Result<bool>,
    /// What becomes of an SFTP answer: the request with its type first, and what an honest server would say.
    pub answer: fn(&mut Files, request: &[u8], honest: Vec<u8>) -> Answer,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            login: |_, _| Ok(false),
            answer: |_, _, honest| Answer::Say(honest),
        }
    }
}

/// A listener that plays a script to everybody until the process ends.
pub struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    logins: Arc<AtomicUsize>,
    public: Vec<u8>,
}

impl Server {
    /// Listens on a free port of 127.0.0.1. `keys` are the bytes its host keys are made of: one for each connection,
    /// the last for all that follow.
    ///
    /// # Errors
    /// No port is free, or a byte is no key.
    pub fn start(keys: &'static [u8], script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut pairs = Vec::new();
        for byte in keys {
            pairs.push(SigningKey::from_slice(&[*byte; 32]).map_err(io::Error::other)?);
        }
        let first = pairs.first().ok_or(io::ErrorKind::InvalidInput)?;
        let server = Self {
            address: listener.local_addr()?,
            connections: Arc::default(),
            logins: Arc::default(),
            public: packet::public(first),
        };
        let (connections, logins) = (Arc::clone(&server.connections), Arc::clone(&server.logins));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let pair = pairs.get(number).or(pairs.last()).cloned();
                let logins = Arc::clone(&logins);
                // its errors are the client's doing
                std::thread::spawn(move || pair.map(|pair| serve(stream, &pair, script, &logins)));
            }
        });
        Ok(server)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its first host key as `known_hosts` has it: type and base64.
    #[must_use]
    pub fn known(&self) -> String {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        format!("ecdsa-sha2-nistp256 {}", BASE64_STANDARD.encode(&self.public))
    }

    /// How many connections it has had.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many requests to log in it has had.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }
}

/// One connection from its banner to its end.
fn serve(stream: TcpStream, pair: &SigningKey, script: Script, logins: &AtomicUsize) -> io::Result<()> {
    let mut line = Line::open(stream, pair)?;
    let mut files = Files::default();
    // how the client calls each channel of ours, and what of a request has come over it
    let mut channels: HashMap<u32, (u32, Vec<u8>)> = HashMap::new();
    loop {
        let message = line.receive()?;
        let (kind, body) = message.split_first().ok_or(io::ErrorKind::InvalidData)?;
        match *kind {
            SERVICE_REQUEST => line.send(&[&[6], body].concat())?,
            USERAUTH_REQUEST => {
                logins.fetch_add(1, Ordering::SeqCst);
                log_in(&mut line, script, body)?;
            }
            CHANNEL_OPEN => {
                let mut rest = body;
                packet::take_string(&mut rest)?;
                let theirs = packet::take_u32(&mut rest)?;
                let ours = u32::try_from(channels.len()).unwrap_or_default();
                channels.insert(ours, (theirs, Vec::new()));
                let numbers = [theirs, ours, 1 << 24, 1 << 15].map(u32::to_be_bytes).concat();
                line.send(&[&[91][..], &numbers].concat())?;
            }
            CHANNEL_REQUEST => {
                let mut rest = body;
                let ours = packet::take_u32(&mut rest)?;
                packet::take_string(&mut rest)?;
                let wants_answer = rest.first() == Some(&1);
                if let (true, Some((theirs, _))) = (wants_answer, channels.get(&ours)) {
                    let theirs = theirs.to_be_bytes();
                    line.send(&[&[99][..], &theirs].concat())?;
                }
            }
            CHANNEL_DATA => {
                let mut rest = body;
                let ours = packet::take_u32(&mut rest)?;
                let data = packet::take_string(&mut rest)?;
                let Some((theirs, pending)) = channels.get_mut(&ours) else {
                    continue;
                };
                pending.extend_from_slice(data);
                while let Some(request) = sftp::take_request(pending) {
                    let honest = files.answer(&request);
                    let answer = (script.answer)(&mut files, &request, honest);
                    answer.say(&mut line, *theirs)?;
                }
            }
            CHANNEL_EOF | CHANNEL_CLOSE => {
                let ours = packet::take_u32(&mut &*body)?;
                if let Some((theirs, _)) = channels.get(&ours) {
                    line.send(&[&[*kind][..], &theirs.to_be_bytes()].concat())?;
                }
            }
            WINDOW_ADJUST => {}
            // goodbye
            1 => return Ok(()),
            _ => {}
        }
    }
}

/// Lets in whoever signs.
fn log_in(line: &mut Line, script: Script, body: &[u8]) -> io::Result<()> {
    let mut rest = body;
    packet::take_string(&mut rest)?;
    packet::take_string(&mut rest)?;
    let method = packet::take_string(&mut rest)?;
    let signed = method == b"publickey" && rest.first() == Some(&1);
    if (script.login)(line, signed)? {
        return Ok(());
    }
    if signed {
        line.send(&[52])
    } else if method == b"publickey" {
        // yes, that key would do
        line.send(&[&[60][..], rest.get(1..).unwrap_or_default()].concat())
    } else {
        line.send(&refusal("publickey", false))
    }
}

/// `SSH_MSG_USERAUTH_FAILURE`.
#[must_use]
pub fn refusal(methods: &str, partial: bool) -> Vec<u8> {
    [&[51][..], &string(methods.as_bytes()), &[u8::from(partial)]].concat()
}

/// `SSH_MSG_USERAUTH_BANNER`.
#[must_use]
pub fn banner(text: &[u8]) -> Vec<u8> {
    [&[53][..], &string(text), &string(b"")].concat()
}

/// `SSH_MSG_USERAUTH_INFO_REQUEST` with so many prompts.
#[must_use]
pub fn prompts(count: usize) -> Vec<u8> {
    let number = u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
    let one = [&string(b"?")[..], &[0]].concat();
    let head = [string(b""), string(b""), string(b"")].concat();
    [&[60][..], &head, &number, &one.repeat(count)].concat()
}
