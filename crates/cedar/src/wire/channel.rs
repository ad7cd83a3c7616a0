//! One TCP connection's worth of framing: what to write for a message, what messages the bytes read hold.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    codec::{Incoming, Mode, Outgoing},
    frame::{HEADER, Header},
};
use crate::{
    Malformed, Unsendable,
    security::{Record, SessionKey},
};

/// Plaintext bytes of one frame of ours: well below what fits beside IV and tag, which 1 048 576 does not.
const CUT: usize = 1_000_000;

/// The framing state of one connection. It does no I/O: bytes read are [`push`](Self::push)ed, bytes to write are
/// returned.
pub struct Channel {
    inbound: Vec<u8>,
    /// Where the next frame begins in `inbound`: what lies before is dropped once per read, not once per frame, or a
    /// peer of one-byte frames would have us move everything behind each of them.
    read: usize,
    partial: Zeroizing<Vec<u8>>,
    sent: Tally,
    received: Tally,
    record: Option<Record>,
}

/// The payload of one frame.
#[derive(Debug)]
pub struct Chunk {
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether its message ends here.
    pub last: bool,
}

/// SHA-256 over every plaintext frame of one direction (cedar.md 1.2).
#[derive(Default)]
struct Tally(Option<Sha256>);

impl Tally {
    fn count(&mut self, bytes: &[u8]) {
        self.0.get_or_insert_default().update(bytes);
    }

    /// A direction that carried nothing counts as zeros, not as the digest of nothing.
    fn take(&mut self) -> [u8; 32] {
        self.0.take().map_or([0; 32], |digest| digest.finalize().into())
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self::new()
    }
}

impl Channel {
    /// For a connection just made.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inbound: Vec::new(),
            read: 0,
            partial: Zeroizing::default(),
            sent: Tally::default(),
            received: Tally::default(),
            record: None,
        }
    }

    /// How strings look on this stream now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.record.is_some() {
            Mode::Sealed
        } else {
            Mode::Plain
        }
    }

    /// The bytes to write for `message`.
    ///
    /// # Errors
    /// [`Unsendable::Mode`] if it was built for a stream in the other mode: this is what keeps a credential, which
    /// is only ever built sealed, off a plain stream. [`Unsendable::Exhausted`].
    pub fn send(&mut self, message: &Outgoing) -> Result<Vec<u8>, Unsendable> {
        if message.mode() != self.mode() {
            return Err(Unsendable::Mode {
                built: message.mode().word(),
                is: self.mode().word(),
            });
        }
        let mut wire = Vec::with_capacity(message.bytes().len() + 64);
        let mut cuts = message.bytes().chunks(CUT).peekable();
        while let Some(payload) = cuts.next() {
            let last = cuts.peek().is_none();
            match &mut self.record {
                Some(record) => record.seal(last, payload, &mut wire)?,
                None => {
                    let start = wire.len();
                    wire.extend_from_slice(
                        &Header {
                            last,
                            length: payload.len(),
                        }
                        .encode(),
                    );
                    wire.extend_from_slice(payload);
                    self.sent.count(wire.get(start..).unwrap_or_default());
                }
            }
        }
        Ok(wire)
    }

    /// Forgets what was sent and received so far: the shared-port daemon swallowed it, and the daemon behind it
    /// never counted it (cedar.md 1.2).
    pub fn reset_digests(&mut self) {
        self.sent = Tally::default();
        self.received = Tally::default();
    }

    /// Seals both directions from here on. `iv` is 16 fresh random bytes.
    pub fn seal(&mut self, key: &SessionKey, iv: [u8; 16]) {
        self.record = Some(Record::new(key, iv, self.sent.take(), self.received.take()));
    }

    /// Takes bytes read from the connection. Call [`chunk`](Self::chunk) or [`message`](Self::message) until it
    /// says "not yet" before reading more: then at most one frame is ever buffered.
    pub fn push(&mut self, bytes: &[u8]) {
        self.inbound.drain(..self.read);
        self.read = 0;
        self.inbound.extend_from_slice(bytes);
    }

    /// Whether bytes of an unfinished frame or message are here: an end of the connection now is a cut.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        !self.unread().is_empty() || !self.partial.is_empty()
    }

    fn unread(&self) -> &[u8] {
        self.inbound.get(self.read..).unwrap_or_default()
    }

    /// The payload of the next frame, or `None` until it has come whole.
    ///
    /// # Errors
    /// [`Malformed`], after which the connection is of no use.
    pub fn chunk(&mut self) -> Result<Option<Chunk>, Malformed> {
        let Some(header) = Header::decode(self.unread())? else {
            return Ok(None);
        };
        if let Some(record) = &self.record {
            record.check_length(header.length)?;
        }
        let end = self.read + HEADER + header.length;
        let Some(frame) = self.inbound.get(self.read..end) else {
            return Ok(None);
        };
        let (head, body) = frame.split_at_checked(HEADER).unwrap_or_default();
        let bytes = match &mut self.record {
            Some(record) => record.open(head, body)?,
            None => {
                self.received.count(frame);
                Zeroizing::new(body.to_vec())
            }
        };
        self.read = end;
        Ok(Some(Chunk {
            bytes,
            last: header.last,
        }))
    }

    /// The next whole message of at most `limit` bytes, or `None` until it has come whole.
    ///
    /// # Errors
    /// [`Malformed`], after which the connection is of no use.
    pub fn message(&mut self, limit: usize) -> Result<Option<Incoming>, Malformed> {
        let too_long = |got: usize| Malformed::TooLong {
            what: "a message",
            got: got as u64,
            limit: limit as u64,
        };
        loop {
            // refused from its header on, so that no more than `limit` is ever waited for
            if let Some(header) = Header::decode(self.unread())? {
                let overhead = if self.record.is_some() { 32 } else { 0 };
                let total = self.partial.len() + header.length.saturating_sub(overhead);
                if total > limit {
                    return Err(too_long(total));
                }
            }
            let Some(chunk) = self.chunk()? else {
                return Ok(None);
            };
            self.partial.extend_from_slice(&chunk.bytes);
            if self.partial.len() > limit {
                return Err(too_long(self.partial.len()));
            }
            if chunk.last {
                return Ok(Some(Incoming::new(
                    self.mode(),
                    std::mem::take(&mut self.partial),
                )));
            }
        }
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
