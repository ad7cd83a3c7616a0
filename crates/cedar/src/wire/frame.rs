//! The five bytes before every frame.

use crate::Malformed;

/// Length of a frame's header.
pub(crate) const HEADER: usize = 5;

/// The largest body of a frame: `htcondor/htcondor: src/condor_io/reli_sock.cpp`, `RcvMsg::rcv_packet`.
pub const MAX_BODY: usize = 1_048_576;

/// End flag and body length (cedar.md 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the message ends with this frame.
    pub last: bool,
    /// Bytes of the body; with AES they include base IV and tag.
    pub length: usize,
}

impl Header {
    /// The header at the start of `bytes`, `None` while fewer than five have come.
    ///
    /// # Errors
    /// [`Malformed::EndFlag`], [`Malformed::BadLength`] for zero, [`Malformed::TooLong`] beyond [`MAX_BODY`].
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        // judged as soon as it is there: no reason to wait for the length of something that is no frame
        match bytes.first() {
            None => return Ok(None),
            Some(&flag) if flag > 10 => return Err(Malformed::EndFlag(flag)),
            Some(_) => {}
        }
        let Some(&[flag, a, b, c, d]) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if length == 0 {
            return Err(Malformed::BadLength {
                what: "a frame",
                got: 0,
            });
        }
        match usize::try_from(length) {
            Ok(length) if length <= MAX_BODY => Ok(Some(Self {
                last: flag != 0,
                length,
            })),
            _ => Err(Malformed::TooLong {
                what: "a frame",
                got: length.into(),
                limit: MAX_BODY as u64,
            }),
        }
    }

    /// The header's five bytes.
    pub(crate) fn encode(self) -> [u8; HEADER] {
        // callers cut frames below MAX_BODY, which fits
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_be_bytes();
        [u8::from(self.last), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_is_not_yet() {
        let header = Header {
            last: true,
            length: 0x24,
        }
        .encode();
        assert_eq!(header, [1, 0, 0, 0, 0x24]);
        for n in 0..HEADER {
            assert_eq!(Header::decode(&header[..n]), Ok(None));
        }
        assert_eq!(
            Header::decode(&header),
            Ok(Some(Header {
                last: true,
                length: 0x24
            }))
        );
    }

    #[test]
    fn impossible_headers() {
        assert_eq!(
            Header::decode(&[1, 0, 0, 0, 0]),
            Err(Malformed::BadLength {
                what: "a frame",
                got: 0
            })
        );
        for length in [1_048_577u32, 1 << 31, u32::MAX] {
            let [a, b, c, d] = length.to_be_bytes();
            assert!(matches!(
                Header::decode(&[0, a, b, c, d]),
                Err(Malformed::TooLong { .. })
            ));
        }
        assert_eq!(
            Header::decode(&[1, 0, 0x10, 0, 0]).unwrap().unwrap().length,
            MAX_BODY
        );
        for flag in [11u8, 0x80, 0xff] {
            assert_eq!(Header::decode(&[flag]), Err(Malformed::EndFlag(flag)));
        }
        for flag in 1..=10u8 {
            assert!(Header::decode(&[flag, 0, 0, 0, 1]).unwrap().unwrap().last);
        }
    }
}
