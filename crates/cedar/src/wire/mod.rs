//! Frames, messages and the scalar codec (cedar.md 1 and 2).
//!
//! Decoding gives one of three answers: not yet (`Ok(None)`), a value, or an error. A length is compared with a
//! named maximum before anything is reserved for it.

mod channel;
mod codec;
mod frame;

pub use channel::{Channel, Chunk};
pub use codec::{Incoming, MAX_STRING, Mode, Outgoing, Reader};
pub use frame::{Header, MAX_BODY};
