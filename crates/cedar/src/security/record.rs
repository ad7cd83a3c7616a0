//! AES-256-GCM over frames: keys, counters and associated data of a connection have this one owner (cedar.md 1.2).

use aes_gcm::{
    AesGcm, KeyInit,
    aead::{AeadInOut, consts::U16},
    aes::Aes256,
};
use zeroize::Zeroizing;

use super::SessionKey;
use crate::{Malformed, Unsendable, wire::Header, wire::MAX_BODY};

const IV: usize = 16;
const TAG: usize = 16;

/// HTCondor's nonce has 16 bytes, not GCM's usual 12: `src/condor_io/condor_crypt_aesgcm.cpp`.
type Cipher = AesGcm<Aes256, U16>;

/// One connection's sealed state.
pub(crate) struct Record {
    cipher: Cipher,
    outbound: Direction,
    inbound: Option<Direction>,
    /// Digests of what went before, as (ours sent, ours received); only the first frame of a direction uses them.
    digests: ([u8; 32], [u8; 32]),
}

struct Direction {
    base: [u8; IV],
    next: u32,
}

impl Direction {
    /// The nonce of the next frame: the base with its first word moved on by the frame's number, which wraps.
    fn nonce(&mut self) -> Option<[u8; IV]> {
        let number = self.next;
        self.next = number.checked_add(1)?;
        let mut nonce = self.base;
        if let Some(word) = nonce.first_chunk_mut::<4>() {
            *word = u32::from_be_bytes(*word).wrapping_add(number).to_be_bytes();
        }
        Some(nonce)
    }
}

impl Record {
    pub(crate) fn new(key: &SessionKey, base: [u8; IV], sent: [u8; 32], received: [u8; 32]) -> Self {
        Self {
            cipher: Cipher::new(key.bytes().into()),
            outbound: Direction { base, next: 0 },
            inbound: None,
            digests: (sent, received),
        }
    }

    /// Appends the frame for `payload` to `wire`.
    pub(crate) fn seal(&mut self, last: bool, payload: &[u8], wire: &mut Vec<u8>) -> Result<(), Unsendable> {
        let first = self.outbound.next == 0;
        let nonce = self.outbound.nonce().ok_or(Unsendable::Exhausted)?;
        let header = Header {
            last,
            length: payload.len() + TAG + if first { IV } else { 0 },
        }
        .encode();
        let (sent, received) = &self.digests;
        let aad = if first {
            [sent.as_slice(), received, &header].concat()
        } else {
            header.to_vec()
        };
        // reserved at once: growing after the plaintext is in would leave an unwiped copy behind
        wire.reserve(header.len() + IV + payload.len() + TAG);
        wire.extend_from_slice(&header);
        if first {
            wire.extend_from_slice(&self.outbound.base);
        }
        let start = wire.len();
        wire.extend_from_slice(payload);
        let body = wire.get_mut(start..).unwrap_or_default();
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce.into(), &aad, body.into())
            .map_err(|_| Unsendable::Exhausted)?;
        wire.extend_from_slice(&tag);
        Ok(())
    }

    fn overhead(&self) -> usize {
        if self.inbound.is_none() { IV + TAG } else { TAG }
    }

    /// Refuses, from its header alone, a frame too short to be sealed.
    pub(crate) fn check_length(&self, length: usize) -> Result<(), Malformed> {
        if length <= self.overhead() || length > MAX_BODY {
            let got = i64::try_from(length).unwrap_or(i64::MAX);
            return Err(Malformed::BadLength {
                what: "a sealed frame",
                got,
            });
        }
        Ok(())
    }

    /// The plaintext of a frame's body. `head` is the header as it came: the end flag may be any of ten bytes.
    pub(crate) fn open(&mut self, head: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let short = Malformed::Truncated {
            what: "a sealed frame",
        };
        let (sent, received) = &self.digests;
        let (mut direction, sealed, aad) = match self.inbound.take() {
            None => {
                let (base, sealed) = body.split_first_chunk::<IV>().ok_or(short.clone())?;
                // the sender's view: what it sent is what we received
                let aad = [received.as_slice(), sent, head].concat();
                (Direction { base: *base, next: 0 }, sealed, aad)
            }
            Some(direction) => (direction, body, head.to_vec()),
        };
        let nonce = direction.nonce().ok_or(Malformed::Seal)?;
        let (text, tag) = sealed.split_last_chunk::<TAG>().ok_or(short)?;
        let mut plain = Zeroizing::new(text.to_vec());
        self.cipher
            .decrypt_inout_detached(&nonce.into(), &aad, plain.as_mut_slice().into(), tag.into())
            .map_err(|_| Malformed::Seal)?;
        self.inbound = Some(direction);
        Ok(plain)
    }
}
