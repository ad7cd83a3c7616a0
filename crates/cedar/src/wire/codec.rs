//! Integers and strings, in both modes of a stream (cedar.md 2.1, 2.2).

use zeroize::Zeroizing;

use crate::{Malformed, Unsendable};

/// The longest string a peer may send: `htcondor/htcondor: src/condor_io/stream.cpp`, `get_string_ptr`.
pub const MAX_STRING: usize = 10_000_000;

/// What legacy code sends for a C NULL.
const NULL_MARK: u8 = 0xad;

/// Whether a stream is sealed yet: strings look different on the wire afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Before the key: a string is its bytes and a NUL.
    Plain,
    /// With the key: a string is announced by its length.
    Sealed,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Sealed => "sealed",
        }
    }
}

/// A message being built. Wiped when dropped.
pub struct Outgoing {
    mode: Mode,
    bytes: Zeroizing<Vec<u8>>,
}

impl Outgoing {
    /// An empty message for a stream in `mode`.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self::with_capacity(mode, 0)
    }

    /// An empty message with room for `capacity` bytes: what holds a secret must not grow, since growing leaves
    /// an unwiped copy behind.
    #[must_use]
    pub fn with_capacity(mode: Mode, capacity: usize) -> Self {
        Self {
            mode,
            bytes: Zeroizing::new(Vec::with_capacity(capacity)),
        }
    }

    /// Appends an integer: 8 bytes, whatever its width in HTCondor's source.
    #[must_use]
    pub fn int(mut self, value: i64) -> Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends a length as an integer.
    #[must_use]
    pub fn length(self, value: usize) -> Self {
        self.int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// Appends bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a string.
    ///
    /// # Errors
    /// [`Unsendable::Nul`], [`Unsendable::TooLong`] beyond [`MAX_STRING`]; `what` names it there.
    pub fn string(self, what: &'static str, text: &str) -> Result<Self, Unsendable> {
        if text.contains('\0') {
            return Err(Unsendable::Nul { what });
        }
        if text.len() >= MAX_STRING {
            return Err(Unsendable::TooLong {
                what,
                got: text.len(),
                limit: MAX_STRING - 1,
            });
        }
        let sized = match self.mode {
            Mode::Plain => self,
            Mode::Sealed => self.length(text.len() + 1),
        };
        Ok(sized.raw(text.as_bytes()).raw(&[0]))
    }

    /// Which kind of stream it was built for.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it holds so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Says how long it is; never what it holds.
impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing({} bytes, {})", self.bytes.len(), self.mode.word())
    }
}

/// A whole message of the peer. Wiped when dropped.
pub struct Incoming {
    mode: Mode,
    bytes: Zeroizing<Vec<u8>>,
}

impl Incoming {
    /// From the payload of a message that came on a stream in `mode`.
    #[must_use]
    pub fn new(mode: Mode, bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { mode, bytes }
    }

    /// Reads it from the start.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self.mode, &self.bytes)
    }

    /// Its payload.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Incoming({} bytes, {})", self.bytes.len(), self.mode.word())
    }
}

/// Reads values off a message. Running out of bytes is [`Malformed::Truncated`]; whoever reads a message that is
/// still arriving takes that for "not yet".
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    mode: Mode,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over the bytes of one message.
    #[must_use]
    pub fn new(mode: Mode, bytes: &'a [u8]) -> Self {
        Self { mode, rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An integer; `what` names it in errors.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn int(&mut self, what: &'static str) -> Result<i64, Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or(Malformed::Truncated { what })?;
        self.rest = rest;
        Ok(i64::from_be_bytes(*head))
    }

    /// An integer that is a length or count from 0 to `limit`.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::BadLength`] if negative, [`Malformed::TooLong`].
    pub fn length(&mut self, what: &'static str, limit: usize) -> Result<usize, Malformed> {
        let got = self.int(what)?;
        let length = usize::try_from(got).map_err(|_| Malformed::BadLength { what, got })?;
        if length > limit {
            return Err(Malformed::TooLong {
                what,
                got: length as u64,
                limit: limit as u64,
            });
        }
        Ok(length)
    }

    /// `length` bytes as they are.
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    pub fn raw(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// The bytes of a string of at most `limit` bytes, NUL not counted; `None` for the legacy NULL mark.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::TooLong`], [`Malformed::BadLength`], [`Malformed::NotAString`].
    pub fn string_bytes(&mut self, what: &'static str, limit: usize) -> Result<Option<&'a [u8]>, Malformed> {
        let limit = limit.min(MAX_STRING - 1);
        match self.mode {
            Mode::Sealed => self.sealed_string(what, limit),
            Mode::Plain => self.plain_string(what, limit),
        }
    }

    fn sealed_string(&mut self, what: &'static str, limit: usize) -> Result<Option<&'a [u8]>, Malformed> {
        let length = self.length(what, limit + 1)?;
        if length == 0 {
            return Err(Malformed::BadLength { what, got: 0 });
        }
        let bytes = self.raw(what, length)?;
        if bytes.first() == Some(&NULL_MARK) && length <= 2 {
            return Ok(None);
        }
        match bytes.split_last() {
            Some((0, text)) if !text.contains(&0) => Ok(Some(text)),
            _ => Err(Malformed::NotAString { what }),
        }
    }

    fn plain_string(&mut self, what: &'static str, limit: usize) -> Result<Option<&'a [u8]>, Malformed> {
        if let Some((&NULL_MARK, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(None);
        }
        match self.rest.iter().take(limit + 1).position(|b| *b == 0) {
            Some(end) => {
                let (text, rest) = self
                    .rest
                    .split_at_checked(end)
                    .ok_or(Malformed::Truncated { what })?;
                self.rest = rest.get(1..).unwrap_or_default();
                Ok(Some(text))
            }
            None if self.rest.len() > limit => Err(Malformed::TooLong {
                what,
                got: self.rest.len() as u64,
                limit: limit as u64,
            }),
            None => Err(Malformed::Truncated { what }),
        }
    }

    /// A string that must be UTF-8; the NULL mark reads as empty.
    ///
    /// # Errors
    /// As [`Reader::string_bytes`], and [`Malformed::NotText`].
    pub fn string(&mut self, what: &'static str, limit: usize) -> Result<&'a str, Malformed> {
        let bytes = self.string_bytes(what, limit)?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| Malformed::NotText { what })
    }

    /// That nothing is left: a message must be consumed exactly.
    ///
    /// # Errors
    /// [`Malformed::LeftOver`].
    pub fn finish(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(Malformed::LeftOver(n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    fn built(mode: Mode, text: &str) -> Vec<u8> {
        Outgoing::new(mode).string("s", text).unwrap().bytes().to_vec()
    }

    /// The examples of cedar.md 2.2.
    #[test]
    fn strings_of_the_specification() {
        assert_eq!(built(Mode::Sealed, "hi"), hex("0000000000000003 686900"));
        assert_eq!(built(Mode::Sealed, ""), hex("0000000000000001 00"));
        assert_eq!(built(Mode::Plain, "hi"), hex("686900"));
        assert_eq!(built(Mode::Plain, ""), hex("00"));
        for mode in [Mode::Plain, Mode::Sealed] {
            for text in ["", "hi", "ä=\"\\\n"] {
                let bytes = built(mode, text);
                let mut reader = Reader::new(mode, &bytes);
                assert_eq!(reader.string("s", 100).unwrap(), text);
                reader.finish().unwrap();
                for n in 0..bytes.len() {
                    let cut = Reader::new(mode, &bytes[..n]).string("s", 100);
                    assert_eq!(
                        cut,
                        Err(Malformed::Truncated { what: "s" }),
                        "{mode:?} {text:?} {n}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_null_mark_is_absence() {
        let plain = hex("ad 686900");
        let mut reader = Reader::new(Mode::Plain, &plain);
        assert_eq!(reader.string_bytes("s", 9), Ok(None));
        assert_eq!(reader.string("s", 9), Ok("hi"));
        assert_eq!(
            Reader::new(Mode::Sealed, &hex("0000000000000001 ad")).string_bytes("s", 9),
            Ok(None)
        );
    }

    #[test]
    fn lengths_that_cannot_be() {
        for (length, negative) in [
            (0i64, false),
            (-1, true),
            (i64::MIN, true),
            (1 << 31, false),
            (i64::MAX, false),
        ] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend_from_slice(b"abc\0");
            let error = Reader::new(Mode::Sealed, &bytes)
                .string("s", MAX_STRING)
                .unwrap_err();
            match error {
                Malformed::BadLength { got, .. } => assert_eq!((got, negative || got == 0), (length, true)),
                Malformed::TooLong { got, .. } => assert_eq!(got, length.cast_unsigned()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_string_ends_where_it_says() {
        for bytes in ["0000000000000002 6869", "0000000000000003 680000"] {
            let bytes = hex(bytes);
            let got = Reader::new(Mode::Sealed, &bytes).string("s", 9);
            assert_eq!(got, Err(Malformed::NotAString { what: "s" }));
        }
        assert!(matches!(
            Reader::new(Mode::Plain, b"abcdef\0").string("s", 3),
            Err(Malformed::TooLong { .. })
        ));
        assert_eq!(Reader::new(Mode::Plain, b"abc\0").string("s", 3), Ok("abc"));
        assert_eq!(
            Outgoing::new(Mode::Plain).string("s", "a\0b").unwrap_err(),
            Unsendable::Nul { what: "s" }
        );
    }

    #[test]
    fn debug_shows_no_content() {
        let message = Outgoing::new(Mode::Plain).string("s", "hvs.secret").unwrap();
        assert_eq!(format!("{message:?}"), "Outgoing(11 bytes, plain)");
    }
}
