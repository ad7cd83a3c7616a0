//! Packets, keys and the key exchange of RFC 4253, the serving side.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{AeadInOut, Nonce},
};
use p256::{
    PublicKey, SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer},
};
use sha2::{Digest, Sha256};

const BANNER: &str = "SSH-2.0-OpenSSH_9.9";
const TAG: usize = 16;

/// The largest packet taken from a client.
const MAX_PACKET: usize = 256 * 1024;

/// Nobody waits for a client longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection, encrypted.
pub struct Line {
    stream: TcpStream,
    seal: Half,
    open: Half,
}

/// One direction's key and counter (OpenSSH's PROTOCOL, section 1.6; RFC 5647, section 7.1).
struct Half {
    cipher: Aes256Gcm,
    iv: [u8; 12],
}

impl Half {
    fn nonce(&mut self) -> Nonce<Aes256Gcm> {
        let nonce = Nonce::<Aes256Gcm>::from(self.iv);
        let (_, counter) = self.iv.split_at_mut(4);
        for byte in counter.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        nonce
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// RFC 4251, section 5.
#[must_use]
pub fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// The number at the head of `rest`, which is moved on.
///
/// # Errors
/// There is none.
pub fn take_u32(rest: &mut &[u8]) -> io::Result<u32> {
    let (number, after) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| invalid("no number"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

/// The string at the head of `rest`, which is moved on.
///
/// # Errors
/// There is none.
pub fn take_string<'a>(rest: &mut &'a [u8]) -> io::Result<&'a [u8]> {
    let length = usize::try_from(take_u32(rest)?).unwrap_or(usize::MAX);
    let (text, after) = rest
        .split_at_checked(length)
        .ok_or_else(|| invalid("no string"))?;
    *rest = after;
    Ok(text)
}

/// A positive number, without leading zeros and with one where it would look negative.
fn mpint(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    let bytes = bytes.get(start..).unwrap_or_default();
    match bytes.first() {
        Some(first) if *first >= 0x80 => string(&[&[0], bytes].concat()),
        _ => string(bytes),
    }
}

/// A host key in its wire encoding.
pub(super) fn public(pair: &SigningKey) -> Vec<u8> {
    let point = pair.verifying_key().to_sec1_point(false);
    [
        string(b"ecdsa-sha2-nistp256"),
        string(b"nistp256"),
        string(point.as_bytes()),
    ]
    .concat()
}

/// `SSH_MSG_KEXINIT` with one algorithm of each kind.
fn offer() -> Vec<u8> {
    let lists = [
        "ecdh-sha2-nistp256",
        "ecdsa-sha2-nistp256",
        "aes256-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-256",
        "none",
        "none",
        "",
        "",
    ];
    let lists: Vec<u8> = lists.iter().flat_map(|list| string(list.as_bytes())).collect();
    [&[20][..], &[7; 16], &lists, &[0; 5]].concat()
}

fn plain(message: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (message.len() + 5 + 4) % 8) % 8;
    let length = u32::try_from(message.len() + 1 + padding).unwrap_or(u32::MAX);
    let pad = u8::try_from(padding).unwrap_or_default();
    [&length.to_be_bytes()[..], &[pad], message, &vec![0; padding]].concat()
}

fn unpadded(packet: &[u8]) -> io::Result<Vec<u8>> {
    let (padding, content) = packet.split_first().ok_or_else(|| invalid("an empty packet"))?;
    let end = content.len().checked_sub(usize::from(*padding));
    let content = end.and_then(|end| content.get(..end));
    content.map(<[u8]>::to_vec).ok_or_else(|| invalid("padding"))
}

fn read_plain(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut packet = vec![0; bounded(u32::from_be_bytes(length))?];
    stream.read_exact(&mut packet)?;
    unpadded(&packet)
}

fn bounded(length: u32) -> io::Result<usize> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_PACKET {
        return Err(invalid("too long a packet"));
    }
    Ok(length)
}

fn read_banner(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 255 {
        stream.read_exact(&mut byte)?;
        let [b] = byte;
        if b == b'\n' {
            break;
        }
        line.push(b);
    }
    Ok(line.trim_ascii_end().to_vec())
}

impl Line {
    /// Banners and the key exchange.
    pub(super) fn open(mut stream: TcpStream, pair: &SigningKey) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let ours = offer();
        stream.write_all(format!("{BANNER}\r\n").as_bytes())?;
        stream.write_all(&plain(&ours))?;
        let banner = read_banner(&mut stream)?;
        let theirs = read_plain(&mut stream)?;
        let begin = read_plain(&mut stream)?;
        let mut rest = begin.strip_prefix(&[30]).ok_or_else(|| invalid("no key"))?;
        let their_point = take_string(&mut rest)?;
        let secret = SecretKey::from_slice(&[9; 32]).map_err(io::Error::other)?;
        let public_key = PublicKey::from_sec1_bytes(their_point).map_err(io::Error::other)?;
        let shared = secret.diffie_hellman(&public_key);
        let our_point = secret.public_key().to_sec1_bytes();
        let (host_key, shared) = (public(pair), mpint(shared.raw_secret_bytes()));
        let hash = Sha256::digest(
            [
                string(&banner),
                string(BANNER.as_bytes()),
                string(&theirs),
                string(&ours),
                string(&host_key),
                string(their_point),
                string(&our_point),
                shared.clone(),
            ]
            .concat(),
        );
        let signature: Signature = pair.sign(&hash);
        let (r, s) = signature.split_bytes();
        let signed = [
            string(b"ecdsa-sha2-nistp256"),
            string(&[mpint(&r), mpint(&s)].concat()),
        ]
        .concat();
        let reply = [
            &[31][..],
            &string(&host_key),
            &string(&our_point),
            &string(&signed),
        ]
        .concat();
        stream.write_all(&plain(&reply))?;
        stream.write_all(&plain(&[21]))?;
        while read_plain(&mut stream)? != [21] {}
        let derive = |letter: u8| Sha256::digest([&shared[..], &hash, &[letter], &hash].concat());
        let half = |iv: u8, key: u8| {
            let mut start = [0; 12];
            start.iter_mut().zip(derive(iv)).for_each(|(to, from)| *to = from);
            Half {
                cipher: Aes256Gcm::new(&derive(key)),
                iv: start,
            }
        };
        Ok(Self {
            open: half(b'A', b'C'),
            seal: half(b'B', b'D'),
            stream,
        })
    }

    /// The client's next message.
    ///
    /// # Errors
    /// It closed, or sent nonsense.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut packet = vec![0; bounded(u32::from_be_bytes(length))? + TAG];
        self.stream.read_exact(&mut packet)?;
        let nonce = self.open.nonce();
        self.open
            .cipher
            .decrypt_in_place(&nonce, &length, &mut packet)
            .map_err(|_| invalid("a wrong tag"))?;
        unpadded(&packet)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The client closed.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let sealed = self.sealed(message)?;
        self.stream.write_all(&sealed)
    }

    fn sealed(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        let padding = 4 + (16 - (message.len() + 1 + 4) % 16) % 16;
        let mut packet = vec![u8::try_from(padding).unwrap_or_default()];
        packet.extend_from_slice(message);
        packet.resize(message.len() + 1 + padding, 0);
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_be_bytes();
        let nonce = self.seal.nonce();
        self.seal
            .cipher
            .encrypt_in_place(&nonce, &length, &mut packet)
            .map_err(|_| invalid("nothing to seal"))?;
        Ok([&length[..], &packet].concat())
    }

    /// Sends the message until the client has had enough.
    ///
    /// # Errors
    /// The client has had enough.
    pub fn endless(&mut self, message: &[u8]) -> io::Result<()> {
        loop {
            let mut many = Vec::new();
            for _ in 0..64 {
                many.extend(self.sealed(message)?);
            }
            self.stream.write_all(&many)?;
        }
    }

    /// Says nothing more, until the client loses its patience.
    ///
    /// # Errors
    /// It lost its patience.
    pub fn silence(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer)? > 0 {}
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
