//! What must hold for any bytes whatever, as functions: `fuzz/` hands them what a fuzzer thinks up, and the tests
//! replay over `fixtures/fuzz-regressions` what was ever found.
//!
//! An oracle panics if something that must hold does not; that it returns is all there is to know otherwise.
#![expect(clippy::panic, reason = "this is how an oracle speaks")]

pub mod client;
pub mod condor_config;
pub mod site;
pub mod vault;

use std::fmt::Debug;

use cedar::{
    Malformed,
    classad::{Ad, Limits},
    commands::{
        collector::Answer,
        store_cred::{CredName, Reply},
    },
    sinful::Sinful,
    wire::{Channel, Chunk, Header, Incoming, MAX_BODY, Mode, Outgoing, Reader},
};
use zeroize::Zeroizing;

/// An oracle.
pub type Oracle = fn(&[u8]);

/// All of them, by the names of their fuzz targets and of their folders of fixtures.
pub const ALL: [(&str, Oracle); 23] = [
    ("frame", frame),
    ("ad", ad),
    ("sinful", sinful),
    ("policy", client::policy),
    ("reply", reply),
    ("answer", answer),
    ("client", client::client),
    ("condor_config", condor_config::read),
    ("config", site::config),
    ("keytab", site::keytab),
    ("foreign", site::foreign),
    ("known_hosts", distribute::oracles::known_hosts),
    ("ssh_config", config::oracles::ssh_config),
    ("sftp", distribute::oracles::sftp),
    ("vault_token", vault::token),
    ("vault_bearer", vault::bearer),
    ("vault_oidc", vault::oidc),
    ("vault_refusal", vault::refusal),
    ("vault_ledger", vault::ledger),
    ("jwt", vault::jwt),
    ("claims", vault::claims),
    ("jwks", vault::jwks),
    ("discovery", vault::discovery),
];

#[track_caller]
fn same<T: PartialEq + Debug>(one: &T, other: &T, what: &str) {
    if one != other {
        panic!("{what}: {one:?} is not {other:?}");
    }
}

/// What a channel makes of bytes that come in pieces of this size: payloads, and how it ended.
fn frames(data: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Malformed>) {
    let mut channel = Channel::new();
    let mut payloads = Vec::new();
    for piece in data.chunks(piece.max(1)) {
        channel.push(piece);
        loop {
            match channel.chunk() {
                Ok(Some(chunk)) => payloads.push(chunk.bytes.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
    }
    (payloads, None)
}

/// Frames: however they are cut on their way, the same comes out, and no length is believed beyond its bound.
pub fn frame(data: &[u8]) {
    let whole = frames(data, data.len());
    for piece in [1, 7] {
        same(&whole, &frames(data, piece), "cut on the way");
    }
    if let Ok(Some(header)) = Header::decode(data)
        && !(1..=MAX_BODY).contains(&header.length)
    {
        panic!("a frame of {} bytes", header.length);
    }
    let mut channel = Channel::new();
    channel.push(data);
    while let Ok(Some(message)) = channel.message(1000) {
        if message.bytes().len() > 1000 {
            panic!("a message beyond its bound");
        }
    }
}

fn mode_of(data: &[u8]) -> (Mode, &[u8]) {
    match data.split_first() {
        Some((first, rest)) if first & 1 == 1 => (Mode::Sealed, rest),
        Some((_, rest)) => (Mode::Plain, rest),
        None => (Mode::Plain, data),
    }
}

/// Ads: within bounds, and what can be written again is read again as the same.
pub fn ad(data: &[u8]) {
    let (mode, data) = mode_of(data);
    for limits in [Limits::HANDSHAKE, Limits::GENERAL] {
        let mut reader = Reader::new(mode, data);
        let Ok(ad) = Ad::decode(&mut reader, limits) else {
            continue;
        };
        // one expression may lie across the bound
        if ad.len() > limits.expressions || ad.len() * Limits::PER_EXPRESSION > limits.bytes + 1024 {
            panic!("{} attributes within {limits:?}", ad.len());
        }
        for (name, value) in ad.iter() {
            // of two the later counts, so something is always found
            if ad.get(name).is_none() {
                panic!("{name:?} = {value:?} is not found");
            }
        }
        let Ok(message) = ad.encode(Outgoing::new(mode)) else {
            continue;
        };
        let mut reader = Reader::new(mode, message.bytes());
        if let Ok(again) = Ad::decode(&mut reader, Limits::GENERAL) {
            let texts = |ad: &Ad| -> Vec<String> {
                ad.iter()
                    .map(|(name, value)| format!("{name} = {value}"))
                    .collect()
            };
            same(&texts(&ad), &texts(&again), "written and read again");
            same(&reader.remaining(), &0, "left over");
        }
    }
}

/// Addresses: what is written is read as the same, and every way in leads to a port.
pub fn sinful(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for read in [text.parse::<Sinful>(), Sinful::from_entry(text, 9618)]
        .into_iter()
        .flatten()
    {
        drop((read.alias(), read.sock(), read.endpoints()));
        if let Ok(again) = read.to_string().parse::<Sinful>() {
            same(&read, &again, "written and read again");
        }
    }
}

/// Replies of a credd.
pub fn reply(data: &[u8]) {
    let (mode, data) = mode_of(data);
    let message = Incoming::new(mode, Zeroizing::new(data.to_vec()));
    let Ok(reply) = Reply::decode(&message) else {
        return;
    };
    let Ok(name) = CredName::new("dune", None) else {
        panic!("our own name");
    };
    let user = reply.user().unwrap_or_default();
    if reply.top_time(&name).is_some() && user.contains('\0') || reply.code.to_string().is_empty() {
        panic!("a NUL in {user:?}, or a code without words");
    }
}

/// Ads and end of an answer whose payload comes in pieces of this size.
fn ads(mode: Mode, data: &[u8], piece: usize) -> Result<Vec<Ad>, Malformed> {
    let mut answer = Answer::new(mode);
    let mut ads = Vec::new();
    let mut pieces = data.chunks(piece.max(1)).peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        ads.extend(answer.receive(&Chunk {
            bytes: Zeroizing::new(piece.to_vec()),
            last,
        })?);
        if answer.is_complete() && !last {
            return Err(Malformed::LeftOver(0));
        }
    }
    Ok(ads)
}

/// A collector's answer: however it is cut into frames, the same ads come out or none.
pub fn answer(data: &[u8]) {
    let (mode, data) = mode_of(data);
    let whole = ads(mode, data, data.len());
    for piece in [1, 13] {
        match (&whole, &ads(mode, data, piece)) {
            (Ok(one), Ok(other)) if format!("{one:?}") != format!("{other:?}") => {
                panic!("other ads when cut: {one:?} {other:?}")
            }
            (Ok(_), Err(error)) => panic!("only cut it is wrong: {error:?}"),
            (Err(error), Ok(_)) => panic!("only whole it is wrong: {error:?}"),
            _ => {}
        }
    }
}
