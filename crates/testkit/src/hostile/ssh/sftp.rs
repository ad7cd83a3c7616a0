//! An SFTP server of one account (draft-ietf-secsh-filexfer-02), honest until a script twists its answers.

use std::{collections::BTreeMap, io};

use super::packet::{Line, string, take_string, take_u32};

/// `SSH_FXP_*`.
pub mod kind {
    #![expect(missing_docs, reason = "the draft's own names")]
    pub const INIT: u8 = 1;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const STAT: u8 = 17;
    pub const EXTENDED: u8 = 200;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
}

/// What goes to the client in answer to a request.
pub enum Answer {
    /// This packet.
    Say(Vec<u8>),
    /// This packet under a length that is not its own.
    Lie(u32, Vec<u8>),
    /// This packet, over and over.
    Endless(Vec<u8>),
    /// Nothing, ever.
    Silence,
}

impl Answer {
    pub(super) fn say(self, line: &mut Line, channel: u32) -> io::Result<()> {
        let framed = |length: u32, packet: &[u8]| [&length.to_be_bytes()[..], packet].concat();
        let honest = |packet: &[u8]| framed(u32::try_from(packet.len()).unwrap_or(u32::MAX), packet);
        match self {
            Self::Say(packet) => send(line, channel, &honest(&packet)),
            Self::Lie(length, packet) => send(line, channel, &framed(length, &packet)),
            Self::Endless(packet) => {
                let packet = honest(&packet);
                let many = packet.repeat(1 + 30_000 / packet.len().max(1));
                loop {
                    send(line, channel, &many)?;
                }
            }
            Self::Silence => line.silence(),
        }
    }
}

/// Without a look at the client's window.
fn send(line: &mut Line, channel: u32, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.chunks(30_000) {
        line.send(&[&[94][..], &channel.to_be_bytes(), &string(chunk)].concat())?;
    }
    Ok(())
}

/// The next request of what has come, with its type first and its number behind it.
pub(super) fn take_request(pending: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(u32::from_be_bytes(*pending.first_chunk::<4>()?)).ok()?;
    if pending.len() < 4 + length {
        return None;
    }
    let rest = pending.split_off(4 + length);
    Some(std::mem::replace(pending, rest).split_off(4))
}

/// A packet in answer to `request`.
#[must_use]
pub fn reply(kind: u8, request: &[u8], body: &[u8]) -> Vec<u8> {
    let id = request.get(1..5).unwrap_or_default();
    [&[kind][..], id, body].concat()
}

/// `SSH_FXP_STATUS` with this code and these words.
#[must_use]
pub fn status(request: &[u8], code: u32, words: &str) -> Vec<u8> {
    let body = [&code.to_be_bytes()[..], &string(words.as_bytes()), &string(b"")].concat();
    reply(kind::STATUS, request, &body)
}

/// Attributes of a thing of so many bytes with this mode.
#[must_use]
pub fn attrs(size: u64, mode: u32) -> Vec<u8> {
    let numbers = [OWN, OWN, mode, 1_700_000_000, 1_700_000_000].map(u32::to_be_bytes);
    [&15_u32.to_be_bytes()[..], &size.to_be_bytes(), &numbers.concat()].concat()
}

/// Who the account is.
const OWN: u32 = 50001;

/// The account's files, by their paths; its handles are paths.
#[derive(Default)]
pub struct Files {
    /// Content and mode.
    pub files: BTreeMap<String, (Vec<u8>, u32)>,
    /// How many requests came.
    pub requests: usize,
}

impl Files {
    pub(super) fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        self.requests += 1;
        self.try_answer(request)
            .unwrap_or_else(|_| status(request, 5, "bad message"))
    }

    fn try_answer(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let kind_of = request.first().copied().unwrap_or_default();
        if kind_of == kind::INIT {
            let extensions = ["posix-rename@openssh.com", "1", "fsync@openssh.com", "1"]
                .map(|text| string(text.as_bytes()));
            return Ok([&[2, 0, 0, 0, 3][..], &extensions.concat()].concat());
        }
        let mut rest = request.get(5..).unwrap_or_default();
        let mut text = || Ok::<_, io::Error>(String::from_utf8_lossy(take_string(&mut rest)?).into_owned());
        let path = text()?;
        let there = |files: &Self| files.files.get(&path).cloned();
        let done = || status(request, 0, "");
        let missing = || status(request, 2, "no such file");
        Ok(match kind_of {
            kind::LSTAT | kind::STAT | kind::FSTAT => match there(self) {
                Some((bytes, mode)) => {
                    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    reply(kind::ATTRS, request, &attrs(size, 0o100_000 | mode))
                }
                None if path == "." || path == "/tmp" => reply(kind::ATTRS, request, &attrs(0, 0o041_777)),
                None => missing(),
            },
            kind::OPEN => {
                let flags = take_u32(&mut rest)?;
                if flags & 8 != 0 {
                    self.files.insert(path.clone(), (Vec::new(), 0o400));
                } else if there(self).is_none() {
                    return Ok(missing());
                }
                reply(kind::HANDLE, request, &string(path.as_bytes()))
            }
            kind::OPENDIR => reply(kind::HANDLE, request, &string(path.as_bytes())),
            kind::READ => {
                let at =
                    usize::try_from(u64::from(take_u32(&mut rest)?) << 32 | u64::from(take_u32(&mut rest)?));
                let bytes = there(self).map(|(bytes, _)| bytes).unwrap_or_default();
                match bytes.get(at.unwrap_or(usize::MAX)..) {
                    Some(part) if !part.is_empty() => reply(kind::DATA, request, &string(part)),
                    _ => status(request, 1, "end of file"),
                }
            }
            kind::WRITE => {
                take_u32(&mut rest)?;
                take_u32(&mut rest)?;
                let more = take_string(&mut rest)?;
                if let Some((bytes, _)) = self.files.get_mut(&path) {
                    bytes.extend_from_slice(more);
                }
                done()
            }
            kind::REMOVE => match self.files.remove(&path) {
                Some(_) => done(),
                None => missing(),
            },
            kind::EXTENDED if path == "posix-rename@openssh.com" => {
                let (from, to) = (text()?, text()?);
                match self.files.remove(&from) {
                    Some(thing) => {
                        self.files.insert(to, thing);
                        done()
                    }
                    None => missing(),
                }
            }
            kind::READDIR => status(request, 1, "end of file"),
            kind::CLOSE | kind::SETSTAT | kind::FSETSTAT | kind::EXTENDED => done(),
            _ => status(request, 8, "unsupported"),
        })
    }
}
