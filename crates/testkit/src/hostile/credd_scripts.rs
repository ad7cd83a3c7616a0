//! Conversations of a credd that go wrong behind authentication, each with how a client must end.

use std::io;

use cedar::wire::{Mode, Outgoing};

use super::{
    Session, ads,
    credd::sealed,
    scripts::{Script, script, slow},
};

const USER: &str = "dunepro@mtk.test";

/// A reply of this code and these lines.
fn reply(session: &mut Session, code: i64, lines: &[&[u8]]) -> io::Result<()> {
    sealed(session)?;
    let ad = ads::lines(session.mode(), lines);
    let reply = Outgoing::new(session.mode()).int(code).raw(&ad);
    session.send(reply.bytes())
}

/// A reply of these numbers and nothing behind them.
fn numbers(session: &mut Session, numbers: &[i64]) -> io::Result<()> {
    sealed(session)?;
    let reply = numbers.iter().fold(Outgoing::new(Mode::Sealed), |m, n| m.int(*n));
    session.send(reply.bytes())
}

/// A choice of a method.
fn choice(session: &mut Session, bit: i64) -> io::Result<()> {
    session.request()?;
    let policy = ads::policy(&session.pair, "FS,CLAIMTOBE");
    session.ad(&policy)?;
    session.receive()?;
    session.send(Outgoing::new(Mode::Plain).int(bit).bytes())
}

/// In the order of a conversation.
pub const CREDD_SCRIPTS: [Script; 19] = [
    script(
        "credd: a choice of 2^63-1",
        |s| choice(s, i64::MAX),
        "the chosen method",
    ),
    script(
        "credd: a choice of -2^63",
        |s| choice(s, i64::MIN),
        "the chosen method",
    ),
    script(
        "credd: a path without end",
        |s| {
            choice(s, 4)?;
            s.endless(&[&[0, 0, 1, 0, 0][..], &[b'x'; 65_536]].concat())
        },
        "TooLong",
    ),
    script(
        "credd: a path of 5000 bytes",
        |s| {
            choice(s, 4)?;
            s.send(&[&[b'x'; 5000][..], &[0]].concat())
        },
        "TooLong",
    ),
    slow("credd: a path, then silence", |s| {
        choice(s, 4)?;
        s.send(b"/elsewhere\0")?;
        s.silence()
    }),
    script(
        "credd: a reply of a million attributes",
        |s| {
            sealed(s)?;
            let ad = ads::lines(Mode::Sealed, &vec![&b"A="[..]; 1_000_000]);
            // sealing takes the peer long, and the client wants to see no more of it
            let whole = Outgoing::new(Mode::Sealed).int(6).raw(&ad);
            s.send(whole.bytes().get(..1_500_000).unwrap_or_default())
        },
        "TooLong { what: \"a message\"",
    ),
    script(
        "credd: a reply of many frames",
        |s| {
            sealed(s)?;
            s.send(&vec![0; 1_500_000])
        },
        "TooLong { what: \"a message\"",
    ),
    script(
        "credd: a reply of 50 000 attributes",
        |s| reply(s, 6, &vec![&b"A="[..]; 50_000]),
        "TooLong { what: \"an ad\"",
    ),
    script(
        "credd: frames without end in the clear",
        |s| {
            sealed(s)?;
            s.endless(&[0, 0, 0, 0, 1, 0])
        },
        "BadLength",
    ),
    script("credd: no reply", sealed, "Closed"),
    slow("credd: half a reply, then silence", |s| {
        sealed(s)?;
        let whole = s.framed(&[0; 64])?;
        s.raw(whole.get(..40).unwrap_or_default())?;
        s.silence()
    }),
    script("credd: a code alone", |s| numbers(s, &[6]), "OtherUser"),
    script(
        "credd: 2^31 attributes",
        |s| numbers(s, &[6, 1 << 31]),
        "TooLong { what: \"the number of attributes\"",
    ),
    script(
        "credd: 2^63-1 attributes",
        |s| numbers(s, &[6, i64::MAX]),
        "TooLong { what: \"the number of attributes\"",
    ),
    script(
        "credd: -2^63 attributes",
        |s| numbers(s, &[6, i64::MIN]),
        "BadLength",
    ),
    script(
        "credd: a string of 2^63-1 bytes",
        |s| numbers(s, &[6, 1, i64::MAX]),
        "TooLong",
    ),
    script(
        "credd: a string of 0 bytes",
        |s| numbers(s, &[6, 1, 0]),
        "BadLength",
    ),
    script(
        "credd: more behind the reply",
        |s| {
            sealed(s)?;
            let ad = ads::lines(s.mode(), &[]);
            let reply = Outgoing::new(s.mode()).int(5).raw(&ad).raw(b"x");
            s.send(reply.bytes())
        },
        "LeftOver(1)",
    ),
    script(
        "credd: a file of the end of time",
        |s| {
            let user = format!("fully_qualified_user = \"{USER}\"");
            reply(s, 6, &[user.as_bytes(), b"TopduneTime = 9223372036854775807"])
        },
        "a file's time",
    ),
];
