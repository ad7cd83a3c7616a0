use super::*;
use crate::{Malformed, testing::hex, wire::MAX_BODY};

const CLIENT: &str =
    "010000002d000000000000ea6a0000000000000002436f6d6d616e64203d2034373900456e616374203d20224e4f22000000";
const SERVER: &str = "010000001d0000000000000001456e6372797074696f6e203d202259455322000000";
const IV: &str = "fffffffe0405060708090a0b0c0d0e0f";
/// The three frames of cedar.md 1.2; the third one's nonce wraps.
const FRAMES: [&str; 3] = [
    "0100000028 fffffffe0405060708090a0b0c0d0e0f 585a6146a65d97e4 4c2bc9202bdffea33bf43cda229c9f8c",
    "0100000018 a0c59181b37e1eeb 1033a6d20d1f02bf65625acdc4a5026f",
    "0100000018 ca8696ca2a8ac427 ef1fc7b58b7a32093ab807fdbb5431e2",
];

fn key() -> SessionKey {
    SessionKey::from_bytes(std::array::from_fn(|n| u8::try_from(n).unwrap()))
}

fn iv() -> [u8; 16] {
    hex(IV).try_into().unwrap()
}

fn plain(bytes: &[u8]) -> Outgoing {
    Outgoing::new(Mode::Plain).raw(bytes)
}

fn body(frame: &str) -> Vec<u8> {
    hex(frame)[5..].to_vec()
}

/// A client that has sent and received the vector's plaintext frames and is sealed.
fn client() -> Channel {
    let mut channel = Channel::new();
    assert_eq!(channel.send(&plain(&body(CLIENT))).unwrap(), hex(CLIENT));
    channel.push(&hex(SERVER));
    assert_eq!(channel.message(1000).unwrap().unwrap().bytes(), body(SERVER));
    channel.seal(&key(), iv());
    channel
}

/// The other end of the same conversation.
fn server() -> Channel {
    let mut channel = Channel::new();
    channel.push(&hex(CLIENT));
    channel.message(1000).unwrap().unwrap();
    channel.send(&plain(&body(SERVER))).unwrap();
    channel.seal(&key(), [7; 16]);
    channel
}

#[test]
fn digests_of_the_specification() {
    let mut channel = Channel::new();
    channel.send(&plain(&body(CLIENT))).unwrap();
    channel.push(&hex(SERVER));
    channel.message(1000).unwrap().unwrap();
    let sent = "533d6b6bf64d6f20a227f6186b2f21dd2d299675a8019ba5b5f18c69c17b27a2";
    let received = "2ba59be352fd62489f05d3a8a3b0afb28d5ed89dee5b2353123fb7a10f580a14";
    assert_eq!(channel.sent.take().to_vec(), hex(sent));
    assert_eq!(channel.received.take().to_vec(), hex(received));
    assert_eq!(Channel::new().sent.take(), [0; 32]);
}

#[test]
fn frames_of_the_specification() {
    let mut client = client();
    let mut server = server();
    for frame in FRAMES {
        let wire = client.send(&Outgoing::new(Mode::Sealed).int(1)).unwrap();
        assert_eq!(wire, hex(frame));
        server.push(&wire);
        let message = server.message(100).unwrap().unwrap();
        assert_eq!(message.reader().int("x"), Ok(1));
    }
    // and back, where the digests change places
    for n in 0..3 {
        client.push(&server.send(&Outgoing::new(Mode::Sealed).int(n)).unwrap());
        assert_eq!(client.message(100).unwrap().unwrap().reader().int("x"), Ok(n));
    }
}

#[test]
fn every_prefix_is_not_yet() {
    for frame in [CLIENT, SERVER] {
        let frame = hex(frame);
        for n in 0..frame.len() {
            let mut channel = Channel::new();
            channel.push(&frame[..n]);
            assert!(channel.message(1000).unwrap().is_none(), "{n}");
            assert_eq!(channel.is_mid_message(), n > 0);
        }
    }
    let frame = hex(FRAMES[0]);
    for n in 0..frame.len() {
        let mut server = server();
        server.push(&frame[..n]);
        assert!(server.message(1000).unwrap().is_none(), "{n}");
    }
}

#[test]
fn any_changed_bit_is_an_error() {
    let frame = hex(FRAMES[0]);
    for n in 0..frame.len() * 8 {
        let mut changed = frame.clone();
        changed[n / 8] ^= 1 << (n % 8);
        let mut server = server();
        server.push(&changed);
        match server.message(1000) {
            Err(_) => {}
            // a longer length only waits for more
            Ok(None) => assert!((8..40).contains(&n), "bit {n}"),
            Ok(Some(_)) => panic!("bit {n} went unnoticed"),
        }
    }
}

#[test]
fn other_digests_do_not_open() {
    let mut server = Channel::new();
    server.seal(&key(), [7; 16]);
    server.push(&hex(FRAMES[0]));
    assert_eq!(server.message(100).unwrap_err(), Malformed::Seal);
}

#[test]
fn after_the_shared_port_nothing_was_sent() {
    let mut channel = Channel::new();
    channel.send(&plain(b"swallowed")).unwrap();
    channel.reset_digests();
    assert_eq!(channel.sent.take(), [0; 32]);
}

#[test]
fn messages_are_put_together_and_bounded() {
    let mut channel = Channel::new();
    channel.push(&hex("00 00000001 61 00 00000002 6263 05 00000001 64"));
    assert_eq!(channel.message(4).unwrap().unwrap().bytes(), b"abcd");
    let mut channel = Channel::new();
    channel.push(&hex("00 00000001 61 00 00000002 6263 01 00000001 64"));
    assert!(matches!(channel.message(3), Err(Malformed::TooLong { .. })));
    // refused from the header, before the body has come
    let mut channel = Channel::new();
    channel.push(&hex("01 00100000"));
    assert!(matches!(channel.message(3), Err(Malformed::TooLong { .. })));
    // a sealed frame too short for its tag
    let mut server = server();
    server.push(&hex("01 00000020"));
    assert!(matches!(server.message(100), Err(Malformed::BadLength { .. })));
}

#[test]
fn a_message_is_cut_into_legal_frames() {
    let mut client = client();
    let mut server = server();
    let big = vec![0x5a; 2_500_000];
    let wire = client.send(&Outgoing::new(Mode::Sealed).raw(&big)).unwrap();
    let mut rest = wire.as_slice();
    let mut frames = 0;
    while let Some(header) = Header::decode(rest).unwrap() {
        assert!(header.length <= MAX_BODY);
        rest = &rest[5 + header.length..];
        frames += 1;
    }
    assert_eq!(frames, 3);
    server.push(&wire);
    assert_eq!(server.message(3_000_000).unwrap().unwrap().bytes(), big);
}

#[test]
fn a_message_for_the_other_mode_is_refused() {
    let mut channel = client();
    assert_eq!(
        channel.send(&plain(b"x")),
        Err(Unsendable::Mode {
            built: "plain",
            is: "sealed"
        })
    );
    assert_eq!(
        Channel::new().send(&Outgoing::new(Mode::Sealed).int(1)),
        Err(Unsendable::Mode {
            built: "sealed",
            is: "plain"
        })
    );
}
