//! Conversations recorded from real servers, replayed byte by byte: with the numbers of the recording handed in
//! again, we must send exactly what was sent, and understand what came.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "these are tests"
)]

use std::{collections::HashMap, path::PathBuf};

use cedar::{
    Error, Malformed,
    auth::{Answer, Method, Question},
    commands::{
        collector::{self, Kind, Query},
        store_cred::{self, CredName, Reply, ResultCode, STORE_CRED, Target},
    },
    handshake::{self, MAX_MESSAGE, Next, Request},
    security::{Established, KeyPair, Session, Wish},
    shared_port,
    sinful::Sinful,
    wire::{Channel, Incoming, Outgoing},
};
use credential::SecretBytes;

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// What a recording holds.
struct Recording {
    facts: HashMap<String, String>,
    connections: Vec<Vec<(bool, Vec<u8>)>>,
}

impl Recording {
    fn load(name: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cedar");
        let read = |ending| std::fs::read_to_string(folder.join(format!("{name}.{ending}"))).unwrap();
        let facts = read("toml")
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        let mut connections: Vec<Vec<(bool, Vec<u8>)>> = Vec::new();
        for line in read("hex").lines() {
            match line.split_at(2) {
                ("--", _) => connections.push(Vec::new()),
                ("> ", bytes) => connections.last_mut().unwrap().push((true, hex(bytes))),
                ("< ", bytes) => connections.last_mut().unwrap().push((false, hex(bytes))),
                _ => panic!("{line}"),
            }
        }
        Self { facts, connections }
    }

    fn bytes<const N: usize>(&self, key: &str) -> [u8; N] {
        hex(&self.facts[key]).try_into().unwrap()
    }

    fn sinful(&self) -> Sinful {
        self.facts["sinful"].parse().unwrap()
    }

    fn request(&self, command: u32, wish: Wish) -> Request {
        let methods = (!self.facts["gss_token"].is_empty()).then_some(Method::Kerberos);
        Request {
            command,
            wish,
            methods: methods.into_iter().collect(),
            key_pair: KeyPair::from_random(&self.bytes("key_pair")).unwrap(),
            sinful: self.sinful().to_string(),
            session_seconds: 3600,
        }
    }
}

/// One recorded connection, as a server that knows its lines.
struct Server<'a> {
    recording: &'a Recording,
    lines: std::slice::Iter<'a, (bool, Vec<u8>)>,
    channel: Channel,
    iv: [u8; 16],
}

impl<'a> Server<'a> {
    fn of(recording: &'a Recording, connection: usize) -> Self {
        let iv = recording.bytes(["iv", "iv_resumed"][connection]);
        let lines = recording.connections[connection].iter();
        let mut server = Self {
            recording,
            lines,
            channel: Channel::new(),
            iv,
        };
        if let Some(id) = recording.sinful().sock() {
            server.send(&shared_port::connect(id, "record", 20).unwrap());
            server.channel.reset_digests();
        }
        server
    }

    fn send(&mut self, message: &Outgoing) {
        let sent = self.channel.send(message).unwrap();
        let (ours, expected) = self.lines.next().unwrap();
        assert!(*ours, "it is the server's turn");
        assert_eq!(&sent, expected, "we would send something else today");
    }

    fn receive(&mut self) -> Incoming {
        let (ours, bytes) = self.lines.next().unwrap();
        assert!(!*ours, "it is our turn");
        // every prefix is "not yet"
        for byte in &bytes[..bytes.len() - 1] {
            self.channel.push(&[*byte]);
            assert!(self.channel.message(MAX_MESSAGE).unwrap().is_none());
        }
        self.channel.push(&bytes[bytes.len() - 1..]);
        self.channel.message(MAX_MESSAGE).unwrap().unwrap()
    }

    fn establish(&mut self, mut next: Next) -> Result<Established, Error> {
        loop {
            next = match next {
                Next::Send(messages, state) => {
                    messages.iter().for_each(|message| self.send(message));
                    state.receive(&self.receive())?
                }
                Next::Read(state) => state.receive(&self.receive())?,
                Next::Ask(Question::KerberosToken, state) => {
                    state.answer(Answer::KerberosToken(hex(&self.recording.facts["gss_token"])))?
                }
                Next::Ask(Question::KerberosProof(token), state) => {
                    // an AP-REP, as GSSAPI wants it
                    assert_eq!((token[0], &token[14..17]), (0x60, &[0x02, 0x00, 0x6f][..]));
                    state.answer(Answer::KerberosProven)?
                }
                Next::Ask(question, _) => panic!("{question:?}"),
                Next::Seal(key, state) => {
                    self.channel.seal(&key, self.iv);
                    state.receive(&self.receive())?
                }
                Next::Ready(key, established) => {
                    self.channel.seal(&key, self.iv);
                    return Ok(*established);
                }
                Next::Done(established) => return Ok(*established),
            };
        }
    }
}

/// A store on a new session, then a query on the same session resumed.
fn credd(name: &str, version: &str, names_user: bool) {
    let recording = Recording::load(name);
    let credential = SecretBytes::new(hex(&recording.facts["credential"]));
    let name = CredName::new("dune_production", None).unwrap();

    let mut server = Server::of(&recording, 0);
    let next = handshake::start(recording.request(STORE_CRED, Wish::CREDENTIAL)).unwrap();
    let established = server.establish(next).unwrap();
    assert_eq!(established.user().to_string(), "dunepro@mtk.test");
    assert_eq!(established.method(), Some(Method::Kerberos));
    assert!(
        established
            .version()
            .unwrap()
            .starts_with(&format!("$CondorVersion: {version} "))
    );
    assert!(matches!(
        established.authenticated_as("novapro"),
        Err(Error::WrongUser { .. })
    ));
    let proof = established.authenticated_as("dunepro").unwrap();
    let target = Target::new("dunepro", &proof).unwrap();
    server.send(&store_cred::add(&proof, &target, &name, &credential).unwrap());
    let reply = Reply::decode(&server.receive()).unwrap();
    assert_eq!(reply.code, ResultCode::SuccessPending);
    assert_eq!(reply.user(), names_user.then_some("dunepro@mtk.test"));

    let session: Session = established.session().unwrap();
    assert_eq!(session.seconds(), Some(3600));
    let mut server = Server::of(&recording, 1);
    let sinful = recording.sinful().to_string();
    let next = handshake::resume(session, STORE_CRED, &sinful, &recording.bytes("nonce")).unwrap();
    let established = server.establish(next).unwrap();
    let proof = established.authenticated_as("dunepro").unwrap();
    server.send(&store_cred::query(&proof, &target, &name).unwrap());
    let reply = Reply::decode(&server.receive()).unwrap();
    assert_eq!(reply.code, ResultCode::SuccessPending);
    assert!(reply.top_time(&name).unwrap() > 1_700_000_000);
    assert_eq!(reply.use_time(&name), None);
}

#[test]
fn a_credd_of_23_9() {
    credd("credd-23.9.6", "23.9.6", false);
}

#[test]
fn a_credd_of_25_14() {
    credd("credd-25.14.1", "25.14.1", true);
}

#[test]
fn a_collector_asked_without_identity() {
    let recording = Recording::load("collector-23.9.6");
    let mut server = Server::of(&recording, 0);
    let next = handshake::start(recording.request(Kind::Schedd.command(), Wish::READING)).unwrap();
    let established = server.establish(next).unwrap();
    assert!(established.authenticated_as("unauthenticated").is_err());
    let mode = server.channel.mode();
    let projection = ["Name", "Machine", "MyAddress", "CredDIpAddr", "CondorVersion"];
    let query = Query::all(Kind::Schedd, &projection);
    server.send(&query.encode(mode).unwrap());
    let (_, bytes) = server.lines.next().unwrap();
    server.channel.push(bytes);
    let mut answer = collector::Answer::new(mode);
    let mut ads = Vec::new();
    while !answer.is_complete() {
        ads.extend(answer.receive(&server.channel.chunk().unwrap().unwrap()).unwrap());
    }
    let mut names: Vec<_> = ads.iter().map(|ad| ad.text("Name").unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ap1.mtk.test", "ap2.mtk.test", "ap3.mtk.test"]);
    assert!(
        ads.iter()
            .all(|ad| ad.text("MyAddress").unwrap().parse::<Sinful>().is_ok())
    );
}

/// With any one bit of the server's bytes changed the conversation ends in an error, or in what it was: a bit
/// of the plaintext negotiation may be one nobody looks at, but then the digests do not fit any more.
#[test]
fn changed_bits_never_go_unnoticed() {
    let recording = Recording::load("credd-23.9.6");
    let lines = &recording.connections[0];
    let server_lines = (0..lines.len()).filter(|line| !lines[*line].0);
    for line in server_lines {
        for bit in (0..lines[line].1.len() * 8).step_by(37) {
            let mut changed = Recording::load_again(&recording);
            changed.connections[0][line].1[bit / 8] ^= 1 << (bit % 8);
            let noticed = std::panic::catch_unwind(|| outcome(&changed));
            assert!(!matches!(noticed, Ok(Ok(()))), "line {line} bit {bit}");
            if let Err(panic) = noticed {
                let text = panic.downcast_ref::<&str>().copied().unwrap_or("other");
                panic!("line {line} bit {bit}: panicked: {text}");
            }
        }
    }
}

impl Recording {
    fn load_again(other: &Self) -> Self {
        Self {
            facts: other.facts.clone(),
            connections: other.connections.clone(),
        }
    }
}

/// Plays the first connection, not minding what we would send: changed offers change our answers.
fn outcome(recording: &Recording) -> Result<(), Error> {
    let mut lines = recording.connections[0].iter().filter(|(ours, _)| !ours);
    let mut channel = Channel::new();
    channel
        .send(&shared_port::connect("credd", "record", 20).unwrap())
        .unwrap();
    channel.reset_digests();
    let mut read = |channel: &mut Channel| -> Result<Incoming, Error> {
        channel.push(
            &lines
                .next()
                .ok_or(Malformed::Truncated {
                    what: "the recording",
                })?
                .1,
        );
        Ok(channel.message(MAX_MESSAGE)?.ok_or(Malformed::Truncated {
            what: "the recording",
        })?)
    };
    let mut next = handshake::start(recording.request(STORE_CRED, Wish::CREDENTIAL)).unwrap();
    let established = loop {
        next = match next {
            Next::Send(messages, state) => {
                for message in &messages {
                    channel.send(message)?;
                }
                state.receive(&read(&mut channel)?)?
            }
            Next::Read(state) => state.receive(&read(&mut channel)?)?,
            Next::Ask(Question::KerberosToken, state) => {
                state.answer(Answer::KerberosToken(hex(&recording.facts["gss_token"])))?
            }
            Next::Ask(_, state) => state.answer(Answer::KerberosProven)?,
            Next::Seal(key, state) => {
                channel.seal(&key, recording.bytes("iv"));
                state.receive(&read(&mut channel)?)?
            }
            Next::Ready(_, established) | Next::Done(established) => break established,
        };
    };
    established.authenticated_as("dunepro")?;
    let reply = Reply::decode(&read(&mut channel)?)?;
    assert_eq!(reply.code, ResultCode::SuccessPending);
    Ok(())
}
