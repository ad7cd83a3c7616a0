//! The vectors of cedar.md 5.6, and what a server may do instead.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;
use crate::{auth::seeds::SB, testing::hex};

const SIGNED: &str =
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IlBPT0wifQ.eyJpc3MiOiJ0ZXN0LmxvY2FsIiwic3ViIjoiYWxpY2VAdGVzdC5sb2NhbCJ9";
const NAME: &str = "alice@test.local";
const SERVER: &str = "condor@password";

fn token() -> IdToken {
    let signature: Vec<u8> = (0..32).collect();
    IdToken::parse(&format!("{SIGNED}.{}", URL_SAFE_NO_PAD.encode(signature))).unwrap()
}

fn ours() -> [u8; NONCE] {
    std::array::from_fn(|n| u8::try_from(n).unwrap())
}

fn theirs() -> [u8; NONCE] {
    std::array::from_fn(|n| u8::try_from(255 - n).unwrap())
}

/// A server's second message.
fn reply(status: i64, name: &str, server: &str, ours: &[u8], theirs: &[u8], tag: &[u8]) -> Incoming {
    let message = Outgoing::new(Mode::Plain)
        .int(status)
        .length(name.len())
        .string("", name)
        .unwrap()
        .length(server.len())
        .string("", server)
        .unwrap()
        .length(ours.len())
        .raw(ours)
        .length(theirs.len())
        .raw(theirs)
        .length(tag.len())
        .raw(tag);
    Incoming::new(Mode::Plain, message.bytes().to_vec().into())
}

fn good_tag() -> Vec<u8> {
    hex("4392e6f904a5815c8c4d2aa4ae7990705150d40a")
}

fn begun() -> Running {
    match Presented::new(token(), Box::new(ours())).start().unwrap() {
        Step::Send(messages, running) => {
            let expected = [
                0i64.to_be_bytes().as_slice(),
                &16i64.to_be_bytes(),
                b"alice@test.local\0",
                SIGNED.as_bytes(),
                b"\0",
                &256i64.to_be_bytes(),
                &ours(),
            ]
            .concat();
            assert_eq!(messages[0].bytes(), expected);
            running
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn derivations_of_the_specification() {
    assert_eq!((token().subject(), token().key()), (NAME, "POOL"));
    let token = token();
    let key = Key::derive(&token).unwrap();
    assert_eq!(
        key.0.to_vec(),
        hex("780517e4566fc158391112c4c5f4a1d144601620d17db9354eff42c33d70cf3d")
    );
    let proof = key.client_proof(NAME, &theirs()).unwrap();
    assert_eq!(proof.to_vec(), hex("122a6b0782aafd4c97c07d986231163c272194f6"));
    // these two are of no use with ECDH; that the vectors come out shows that seeds and HKDF are HTCondor's
    assert_eq!(
        hkdf(&salt(&SB, &token), token.signature(), b"master kb")
            .unwrap()
            .to_vec(),
        hex("934630db7536845dc51f07697d62bc494ccbacdd1ebfece607cd932ecd173498")
    );
    assert_eq!(
        hkdf(b"session key", &theirs(), b"htcondor").unwrap().to_vec(),
        hex("7628f7ee870ca6720af10c583ba06add6665a1da024ba51e358fd9a497bbdca2")
    );
}

#[test]
fn the_exchange_of_the_specification() {
    let message = reply(0, NAME, SERVER, &ours(), &theirs(), &good_tag());
    let Step::Succeeded(messages) = begun().receive(&message).unwrap() else {
        panic!()
    };
    let expected = [
        0i64.to_be_bytes().as_slice(),
        &16i64.to_be_bytes(),
        b"alice@test.local\0",
        &256i64.to_be_bytes(),
        &theirs(),
        &20i64.to_be_bytes(),
        &hex("122a6b0782aafd4c97c07d986231163c272194f6"),
    ]
    .concat();
    assert_eq!(messages[0].bytes(), expected);
}

/// Whatever is wrong with the second message, the third is sent, and says so.
#[test]
fn every_failure_leaves_the_stream_in_step() {
    let (ours, theirs, tag) = (ours(), theirs(), good_tag());
    let mut other = tag.clone();
    other[19] ^= 1;
    for message in [
        reply(0, NAME, SERVER, &ours, &theirs, &other),
        reply(0, NAME, SERVER, &ours, &theirs, &tag[..10]),
        reply(0, NAME, SERVER, &ours, &theirs, &[]),
        reply(0, NAME, SERVER, &theirs, &theirs, &tag),
        reply(0, NAME, SERVER, &ours, &ours, &tag),
        reply(0, NAME, SERVER, &ours, &theirs[..255], &tag),
        reply(0, "bob@test.local", SERVER, &ours, &theirs, &tag),
        reply(0, NAME, "condor_pool@test.local", &ours, &theirs, &tag),
        reply(-1, "", "", &[], &[], &[]),
        reply(1, "", "", &[], &[], &[]),
    ] {
        let Step::Failed(why, messages) = begun().receive(&message).unwrap() else {
            panic!()
        };
        assert!(
            matches!(why, MethodFailure::PeerNotProven(_) | MethodFailure::Refused),
            "{why:?}"
        );
        let expected = [(-1i64).to_be_bytes().as_slice(), &[0; 8], b"\0", &[0; 8], &[0; 8]].concat();
        assert_eq!(messages[0].bytes(), expected);
    }
}

#[test]
fn every_cut_and_every_surplus_is_an_error() {
    let whole = reply(0, NAME, SERVER, &ours(), &theirs(), &good_tag());
    let whole = whole.bytes();
    for n in 0..whole.len() {
        let cut = Incoming::new(Mode::Plain, whole[..n].to_vec().into());
        assert!(matches!(begun().receive(&cut), Err(Error::Malformed(_))), "{n}");
    }
    let more = Incoming::new(Mode::Plain, [whole, &[0]].concat().into());
    assert!(matches!(begun().receive(&more), Err(Error::Malformed(_))));
    for tag in [21, 300] {
        let long = reply(0, NAME, SERVER, &ours(), &theirs(), &vec![0; tag]);
        assert!(matches!(begun().receive(&long), Err(Error::Malformed(_))));
    }
}
