//! TOKEN: both sides prove that they know the signature of a token, without sending it (cedar.md 5.6, AKEP2).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Answer, IdToken, Method, MethodFailure, Running, Step, seeds::SA};
use crate::{
    Error, Malformed, Unsendable,
    wire::{Incoming, Mode, Outgoing},
};

const OK: i64 = 0;
const ERROR: i64 = -1;

/// Bytes of the random numbers of both sides.
const NONCE: usize = 256;
/// Names of users and servers.
const MAX_NAME: usize = 1024;

type Tag = [u8; 20];

/// A token, and the random number that makes this use of it unique.
#[derive(Debug)]
pub(crate) struct Presented {
    token: IdToken,
    nonce: Box<[u8; NONCE]>,
}

/// Our name, the token and our random number are out.
#[derive(Debug)]
pub(crate) struct ExpectReply(Box<Presented>);

impl Presented {
    pub(crate) fn new(token: IdToken, nonce: Box<[u8; NONCE]>) -> Self {
        Self { token, nonce }
    }

    pub(super) fn start(self) -> Result<Step, Unsendable> {
        let name = self.token.subject();
        let message = Outgoing::new(Mode::Plain)
            .int(OK)
            .length(name.len())
            .string("the token's subject", name)?
            .string("the token", self.token.signed())?
            .length(NONCE)
            .raw(self.nonce.as_slice());
        Ok(Step::Send(
            vec![message],
            Running::Token(ExpectReply(Box::new(self))),
        ))
    }
}

/// What the server says.
struct Reply<'a> {
    status: i64,
    name: &'a str,
    server: &'a str,
    ours: &'a [u8],
    theirs: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Reply<'a> {
    fn decode(message: &'a Incoming) -> Result<Self, Malformed> {
        let mut reader = message.reader();
        let status = reader.int("the server's status")?;
        // each length comes with the text it is the length of, so the text alone counts
        reader.length("our name's length", MAX_NAME)?;
        let name = reader.string("our name", MAX_NAME)?;
        reader.length("the server's name's length", MAX_NAME)?;
        let server = reader.string("the server's name", MAX_NAME)?;
        let mut bytes = |what, limit| {
            let length = reader.length(what, limit)?;
            reader.raw(what, length)
        };
        let ours = bytes("our random number", NONCE)?;
        let theirs = bytes("the server's random number", NONCE)?;
        let tag = bytes("the server's proof", 20)?;
        reader.finish()?;
        Ok(Self {
            status,
            name,
            server,
            ours,
            theirs,
            tag,
        })
    }
}

impl ExpectReply {
    pub(super) fn receive(self, message: &Incoming) -> Result<Step, Error> {
        let Self(presented) = self;
        let reply = Reply::decode(message)?;
        if reply.status != OK {
            return Ok(Step::Failed(MethodFailure::Refused, vec![give_up()?]));
        }
        let (name, token) = (presented.token.subject(), &presented.token);
        let key = Key::derive(token).ok_or(Malformed::Unreadable("our own token"))?;
        let mine = reply.name == name
            && reply.ours == presented.nonce.as_slice()
            && reply.theirs.len() == NONCE
            && key.server_proof_holds(name, &reply);
        if !mine {
            // the third message is due whatever happens: without it the server waits for ever
            let why =
                "it does not know the token's signature: the token is not of this pool, or the peer is not";
            return Ok(Step::Failed(
                MethodFailure::PeerNotProven(why.into()),
                vec![give_up()?],
            ));
        }
        let proof = key
            .client_proof(name, reply.theirs)
            .ok_or(Malformed::Unreadable("our own token"))?;
        let message = Outgoing::new(Mode::Plain)
            .int(OK)
            .length(name.len())
            .string("the token's subject", name)?
            .length(NONCE)
            .raw(reply.theirs)
            .length(proof.len())
            .raw(&proof);
        Ok(Step::Succeeded(vec![message]))
    }

    pub(super) fn answer(self, _: Answer) -> Result<Step, Error> {
        Err(Error::PeerNotProven(Method::Token))
    }
}

/// The third message of an exchange that has failed: the server fails too, and both are in step.
fn give_up() -> Result<Outgoing, Unsendable> {
    Ok(Outgoing::new(Mode::Plain)
        .int(ERROR)
        .int(0)
        .string("nothing", "")?
        .int(0)
        .int(0))
}

/// K, by which both sides prove themselves. K' plays no part where the session's key comes from ECDH.
struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn derive(token: &IdToken) -> Option<Self> {
        hkdf(&salt(&SA, token), token.signature(), b"master ka").map(Self)
    }

    /// HMAC over `name ' ' server 00 ours theirs`, compared in constant time.
    fn server_proof_holds(&self, name: &str, reply: &Reply<'_>) -> bool {
        let parts: [&[u8]; 6] = [
            name.as_bytes(),
            b" ",
            reply.server.as_bytes(),
            b"\0",
            reply.ours,
            reply.theirs,
        ];
        hmac(&self.0, &parts).is_some_and(|mac| mac.verify_slice(reply.tag).is_ok())
    }

    /// HMAC over `name 00 theirs`.
    fn client_proof(&self, name: &str, theirs: &[u8]) -> Option<Tag> {
        let mac = hmac(&self.0, &[name.as_bytes(), b"\0", theirs])?;
        Some(mac.finalize().into_bytes().into())
    }
}

fn salt(seed: &[u8], token: &IdToken) -> Vec<u8> {
    [seed, token.signed().as_bytes()].concat()
}

fn hkdf(salt: &[u8], secret: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(info, key.as_mut_slice())
        .ok()?;
    Some(key)
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Option<Hmac<Sha1>> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
    parts.iter().for_each(|part| mac.update(part));
    Some(mac)
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
