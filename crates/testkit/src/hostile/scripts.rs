//! Conversations of a collector that go wrong, each with how a client must end.
//!
//! A query for schedds needs no identity, so all of this works without a KDC; what comes behind authentication is
//! played by [`relay`](super::relay) in front of a real credd.

use std::io;

use cedar::{
    classad::{Ad, Value},
    wire::{Mode, Outgoing},
};

use super::{Session, ads};

/// A conversation that goes wrong.
pub struct Script {
    /// What is wrong with it.
    pub name: &'static str,
    /// Plays the server.
    pub play: fn(&mut Session) -> io::Result<()>,
    /// What the `Debug` text of the client's error has; empty where nothing is wrong enough, and no schedd is found.
    pub ends: &'static str,
    /// Whether it ends by the client's clock.
    pub by_clock: bool,
}

pub(super) const fn script(
    name: &'static str,
    play: fn(&mut Session) -> io::Result<()>,
    ends: &'static str,
) -> Script {
    Script {
        name,
        play,
        ends,
        by_clock: false,
    }
}

pub(super) const fn slow(name: &'static str, play: fn(&mut Session) -> io::Result<()>) -> Script {
    let ends = "Timeout";
    Script {
        name,
        play,
        ends,
        by_clock: true,
    }
}

/// Up to the query: without authentication, sealed.
fn sealed(session: &mut Session) -> io::Result<()> {
    session.request()?;
    let policy = ads::policy(&session.pair, "");
    session.ad(&policy)?;
    session.seal()?;
    session.ad(&ads::verdict("unauthenticated@unmapped", "AUTHORIZED"))?;
    session.receive().map(drop)
}

/// Up to the query: without authentication, in the clear.
fn plain(session: &mut Session) -> io::Result<()> {
    session.request()?;
    session.ad(&ads::open_policy())?;
    session.ad(&ads::verdict("unauthenticated@unmapped", "AUTHORIZED"))?;
    session.receive().map(drop)
}

/// The policy with some attributes in place of the honest ones.
fn policy_with(session: &mut Session, change: &[(&str, Value)]) -> io::Result<()> {
    session.request()?;
    let mut policy = ads::policy(&session.pair, "");
    for (name, value) in change {
        policy.set(name, value.clone());
    }
    session.ad(&policy)
}

/// A message of two frames, as they go on the wire: an answer of more schedds than one frame holds.
fn two_frames(session: &mut Session) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let schedd = ads::encoded(session.mode(), &ads::schedd("ap1.example.org"));
    let many = vec![schedd.clone(); 1 + 1_000_000 / schedd.len()];
    let mut one = session.framed(&ads::answer(&many))?;
    let length = one
        .get(1..5)
        .and_then(|four| four.try_into().ok())
        .map_or(0, u32::from_be_bytes);
    let two = one.split_off(5 + usize::try_from(length).unwrap_or_default());
    Ok((one, two))
}

/// One conversation as it should be, after `session` was accepted.
///
/// # Errors
/// The client closed.
pub fn honest(session: &mut Session) -> io::Result<()> {
    sealed(session)?;
    let answer = ads::answer(&[ads::encoded(session.mode(), &ads::schedd("ap1.example.org"))]);
    session.send(&answer)
}

/// The same in the clear.
///
/// # Errors
/// The client closed.
pub fn honest_plain(session: &mut Session) -> io::Result<()> {
    plain(session)?;
    let answer = ads::answer(&[ads::encoded(session.mode(), &ads::schedd("ap1.example.org"))]);
    session.send(&answer)
}

/// An ad of so many attributes of the shortest kind, behind the mark of an ad.
fn many_attributes(mode: Mode, count: usize) -> Vec<u8> {
    ads::answer(&[ads::lines(mode, &vec![&b"A="[..]; count])])
}

fn one_ad(session: &mut Session, lines: &[&[u8]]) -> io::Result<()> {
    let ad = ads::lines(session.mode(), lines);
    session.send(&ads::answer(&[ad]))
}

fn in_pieces(session: &mut Session, payload: &[u8]) -> io::Result<()> {
    // plain frames, all but the last with the flag "more follows"
    let mut pieces = payload.chunks(1_000_000).peekable();
    while let Some(piece) = pieces.next() {
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        session.raw(&[u8::from(pieces.peek().is_none())])?;
        session.raw(&length.to_be_bytes())?;
        session.raw(piece)?;
    }
    Ok(())
}

/// Number and end of what is announced, and nothing behind it.
fn announce(session: &mut Session, numbers: &[i64]) -> io::Result<()> {
    let message = numbers.iter().fold(Outgoing::new(Mode::Plain), |m, n| m.int(*n));
    session.send(message.bytes())
}

/// Everything, in the order of a conversation.
pub const SCRIPTS: [Script; 44] = [
    script("closes at once", |_| Ok(()), "NoPolicy"),
    script("closes behind the request", |s| s.request().map(drop), "NoPolicy"),
    slow("says nothing", |s| s.silence()),
    slow("half a header, then silence", |s| {
        s.raw(&[1, 0, 0])?;
        s.silence()
    }),
    slow("half a frame, then silence", |s| {
        s.raw(&[1, 0, 0, 0, 100, 1, 2, 3])?;
        s.silence()
    }),
    slow("half a sealed answer, then silence", |s| {
        sealed(s)?;
        let (one, _) = two_frames(s)?;
        s.raw(one.get(..one.len() / 2).unwrap_or_default())?;
        s.silence()
    }),
    slow("a byte now and then", |s| {
        s.raw(&[0, 0, 0, 0xff, 0xff])?;
        loop {
            s.raw(b"x")?;
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }),
    script("a frame of 0 bytes", |s| s.raw(&[1, 0, 0, 0, 0]), "BadLength"),
    script(
        "a frame of 2^31 bytes",
        |s| s.endless(&[1, 0x80, 0, 0, 0]),
        "TooLong { what: \"a frame\"",
    ),
    script(
        "a frame of 2^32-1 bytes",
        |s| s.raw(&[0, 0xff, 0xff, 0xff, 0xff]),
        "TooLong { what: \"a frame\"",
    ),
    script("an end flag of 11", |s| s.raw(&[11]), "EndFlag(11)"),
    script(
        "not CEDAR at all",
        |s| s.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        "EndFlag(72)",
    ),
    script(
        "frames without end in the handshake",
        |s| s.endless(&[0, 0, 0, 0, 1, 0]),
        "TooLong { what: \"a message\"",
    ),
    script(
        "large frames without end in the handshake",
        |s| s.endless(&[&[0, 0, 1, 0, 0][..], &[7; 65_536]].concat()),
        "TooLong { what: \"a message\"",
    ),
    script(
        "a policy of 2^31 attributes",
        |s| announce(s, &[1 << 31]),
        "TooLong { what: \"the number of attributes\"",
    ),
    script(
        "a policy of -2^63 attributes",
        |s| announce(s, &[i64::MIN]),
        "BadLength",
    ),
    script(
        "a policy of 2^63-1 attributes",
        |s| announce(s, &[i64::MAX]),
        "TooLong",
    ),
    script("a policy that is cut", |s| announce(s, &[3]), "Truncated"),
    script(
        "a policy with more behind it",
        |s| {
            s.request()?;
            let mut payload = ads::encoded(Mode::Plain, &ads::open_policy());
            payload.push(0);
            s.send(&payload)
        },
        "LeftOver(1)",
    ),
    script(
        "a policy whose lines are none",
        |s| {
            let payload = ads::lines(Mode::Plain, &[b"no equals sign"]);
            s.send(&payload)
        },
        "NotAnAttribute",
    ),
    script(
        "another cipher",
        |s| policy_with(s, &[("CryptoMethods", "BLOWFISH".into())]),
        "NotEncrypted { chosen: \"BLOWFISH\"",
    ),
    script(
        "a point that is not on the curve",
        |s| policy_with(s, &[("ECDHPublicKey", "BAAA".into())]),
        "Unreadable",
    ),
    script(
        "encryption decided, and no key for it",
        |s| policy_with(s, &[("ECDHPublicKey", Value::Undefined)]),
        "NotEncrypted",
    ),
    script(
        "a method nobody offered",
        |s| {
            let change = [
                ("Authentication", "YES".into()),
                ("AuthMethodsList", "CLAIMTOBE".into()),
            ];
            policy_with(s, &change)
        },
        "NoCommonMethod",
    ),
    script(
        "a verdict in the clear where a key was agreed",
        |s| {
            policy_with(s, &[])?;
            s.ad(&ads::verdict("root@mtk.test", "AUTHORIZED"))
        },
        "Seal",
    ),
    script(
        "a verdict sealed with another key",
        |s| {
            policy_with(s, &[])?;
            s.pair = super::keys::Pair::new(8);
            s.seal()?;
            s.ad(&ads::verdict("root@mtk.test", "AUTHORIZED"))
        },
        "Seal",
    ),
    script(
        "refused",
        |s| {
            policy_with(s, &[])?;
            s.seal()?;
            s.ad(&ads::verdict("unauthenticated@unmapped", "DENIED"))
        },
        "Denied",
    ),
    script("closes behind the query", plain, "Closed"),
    script(
        "a wrong tag",
        |s| {
            sealed(s)?;
            let (mut one, _) = two_frames(s)?;
            if let Some(last) = one.last_mut() {
                *last ^= 1;
            }
            s.raw(&one)
        },
        "Seal",
    ),
    script(
        "a frame twice",
        |s| {
            sealed(s)?;
            let (one, _) = two_frames(s)?;
            s.raw(&one)?;
            s.raw(&one)
        },
        "Seal",
    ),
    script(
        "frames in another order",
        |s| {
            sealed(s)?;
            let (one, two) = two_frames(s)?;
            s.raw(&two)?;
            s.raw(&one)
        },
        "Seal",
    ),
    script(
        "the end flag of a sealed frame changed",
        |s| {
            sealed(s)?;
            let (mut one, _) = two_frames(s)?;
            if let Some(first) = one.first_mut() {
                *first = 2;
            }
            s.raw(&one)
        },
        "Seal",
    ),
    script(
        "a sealed frame too short for its tag",
        |s| {
            sealed(s)?;
            s.raw(&[1, 0, 0, 0, 16])?;
            s.raw(&[0; 16])
        },
        "BadLength",
    ),
    script(
        "in the clear again",
        |s| {
            sealed(s)?;
            let plain = ads::answer(&[]);
            s.raw(&[1, 0, 0, 0, 8])?;
            s.raw(&plain)
        },
        "BadLength",
    ),
    script(
        "an ad of a million attributes",
        |s| {
            plain(s)?;
            in_pieces(s, &many_attributes(Mode::Plain, 1_000_000))
        },
        "TooLong { what: \"an ad\"",
    ),
    script(
        "ads of many short attributes without end",
        |s| {
            plain(s)?;
            let ad = ads::lines(Mode::Plain, &[&b"A="[..]; 8000]);
            let one = [&1i64.to_be_bytes()[..], &ad].concat();
            let length = u32::try_from(one.len()).unwrap_or(u32::MAX).to_be_bytes();
            s.endless(&[&[0][..], &length, &one].concat())
        },
        "TooLong",
    ),
    script(
        "ads of bytes that are not UTF-8 without end",
        |s| {
            plain(s)?;
            let line = [&b"A = "[..], &[0xff; 900_000]].concat();
            let one = [&1i64.to_be_bytes()[..], &ads::lines(Mode::Plain, &[&line])].concat();
            let length = u32::try_from(one.len()).unwrap_or(u32::MAX).to_be_bytes();
            s.endless(&[&[0][..], &length, &one].concat())
        },
        "TooLong",
    ),
    script(
        "one-byte frames without end",
        |s| {
            plain(s)?;
            s.raw(&[0, 0, 0, 0, 16])?;
            announce_raw(s, &[1, 2])?;
            s.endless(&[0, 0, 0, 0, 1, b'x'])
        },
        "TooLong",
    ),
    script(
        "a string of 2^63-1 bytes",
        |s| {
            sealed(s)?;
            announce(s, &[1, 1, i64::MAX])
        },
        "TooLong",
    ),
    script(
        "a string of 0 bytes",
        |s| {
            sealed(s)?;
            announce(s, &[1, 1, 0])
        },
        "BadLength",
    ),
    script(
        "a NUL inside a string",
        |s| {
            sealed(s)?;
            one_ad(s, &[b"Name = \"ap1\0.example.org\""])
        },
        "NotAString",
    ),
    script(
        "expressions that mean each other",
        |s| {
            sealed(s)?;
            one_ad(
                s,
                &[
                    b"Name = Machine",
                    b"Machine = strcat(Name, Name)",
                    b"MyAddress = Name",
                ],
            )
        },
        "",
    ),
    script(
        "names that are not UTF-8",
        |s| {
            sealed(s)?;
            one_ad(s, &[b"Name = \"ap\xff\xfe\"", b"CredDIpAddr = \"<\xff:9618>\""])
        },
        "",
    ),
    script(
        "names that write on the terminal",
        |s| {
            sealed(s)?;
            let mut ad = Ad::new();
            ad.set("Name", "ap1\u{1b}[2J\nap2");
            ad.set("CredDIpAddr", "<192.0.2.7:9618>");
            let ad = ads::encoded(s.mode(), &ad);
            s.send(&ads::answer(&[ad]))
        },
        "",
    ),
];

fn announce_raw(session: &mut Session, numbers: &[i64]) -> io::Result<()> {
    for number in numbers {
        session.raw(&number.to_be_bytes())?;
    }
    Ok(())
}
