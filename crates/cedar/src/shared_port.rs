//! Being passed on by a shared-port daemon (cedar.md 3.2).

use crate::{
    Unsendable,
    wire::{Mode, Outgoing},
};

const SHARED_PORT_CONNECT: i64 = 75;

/// The message that asks to be handed to the daemon `id`. It gets no answer; the channel's digests must be reset
/// behind it ([`Channel::reset_digests`](crate::wire::Channel::reset_digests)).
///
/// `client` is free text for the server's log; `seconds` is how long the daemon may take to accept.
///
/// # Errors
/// [`Unsendable::Characters`] for an id the server would refuse, [`Unsendable::TooLong`] beyond its buffers.
pub fn connect(id: &str, client: &str, seconds: i64) -> Result<Outgoing, Unsendable> {
    if id.is_empty()
        || !id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        return Err(Unsendable::Characters {
            what: "a shared-port id",
            text: id.to_owned(),
        });
    }
    if let Some(long) = [id, client].into_iter().find(|text| text.len() > 1000) {
        let what = "a shared-port id or client name";
        return Err(Unsendable::TooLong {
            what,
            got: long.len(),
            limit: 1000,
        });
    }
    Outgoing::new(Mode::Plain)
        .int(SHARED_PORT_CONNECT)
        .string("the shared-port id", id)?
        .string("the client's name", client)
        .map(|message| message.int(seconds).int(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::hex, wire::Channel};

    /// The example of cedar.md 1.1.
    #[test]
    fn message_of_the_specification() {
        let wire = Channel::new()
            .send(&connect("collector", "t", 20).unwrap())
            .unwrap();
        let text = "01 00000024 000000000000004b 636f6c6c6563746f7200 7400 0000000000000014 0000000000000000";
        assert_eq!(wire, hex(text));
    }

    #[test]
    fn ids_a_server_would_refuse() {
        for id in ["", "a/b", "a b", "ä"] {
            assert!(connect(id, "t", 1).is_err(), "{id}");
        }
        assert!(connect(&"a".repeat(1001), "t", 1).is_err());
    }
}
