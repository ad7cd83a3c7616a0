//! What HTCondor's own tools said to real daemons, beside what we say: the same wherever the protocol leaves no choice,
//! and every difference has its reason here. The recordings are made by `cargo xtask fixtures cedar`.
//!
//! The order of attributes is not compared: HTCondor keeps an ad in a hash table and sends it as it lies there.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "these are tests"
)]

use std::{collections::BTreeMap, path::PathBuf};

use cedar::{
    auth::{Answer, Method, Question},
    classad::{Ad, Limits, Value},
    commands::{
        collector::{self, Kind, Query},
        store_cred::{self, CredName, Reply, ResultCode, STORE_CRED, Target},
    },
    handshake::{self, Next, Request},
    security::{Authenticated, KeyPair, Wish},
    wire::{Chunk, Incoming, Mode, Outgoing, Reader},
};
use credential::SecretBytes;

/// The tools of 23.9.6, and those of 25.14.1.
const OLD: &str = "tool";
const NEW: &str = "tool-25";

/// A message of a recording.
struct Line {
    ours: bool,
    mode: Mode,
    payload: Vec<u8>,
}

struct Recording(Vec<Line>);

impl Recording {
    fn load(stem: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/cedar");
        let text = std::fs::read_to_string(folder.join(format!("{stem}.hex"))).unwrap();
        Self(text.lines().map(Line::parse).collect())
    }

    fn request(&self) -> Ad {
        let mut reader = self.0[0].reader();
        assert_eq!(reader.int("the command"), Ok(60010));
        let ad = Ad::decode(&mut reader, Limits::HANDSHAKE).unwrap();
        reader.finish().unwrap();
        ad
    }

    /// The last message of the tool, and what came in answer to it.
    fn command(&self) -> (&Line, &Line) {
        let [.., command, reply] = self.0.as_slice() else {
            panic!("too short")
        };
        assert!(command.ours && !reply.ours);
        (command, reply)
    }
}

impl Line {
    fn parse(line: &str) -> Self {
        let (who, digits) = line.split_once(' ').unwrap();
        let (ours, mode) = match who {
            ">" => (true, Mode::Plain),
            ">=" => (true, Mode::Sealed),
            "<" => (false, Mode::Plain),
            "<=" => (false, Mode::Sealed),
            _ => panic!("{line}"),
        };
        let byte = |n: usize| u8::from_str_radix(&digits[n..n + 2], 16).unwrap();
        let payload = (0..digits.len()).step_by(2).map(byte).collect();
        Self { ours, mode, payload }
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(self.mode, &self.payload)
    }

    fn incoming(&self) -> Incoming {
        Incoming::new(self.mode, self.payload.clone().into())
    }
}

/// By lower-case names: HTCondor reads them without case, and its tool writes `service`.
fn attributes(ad: &Ad) -> BTreeMap<String, String> {
    ad.iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_string()))
        .collect()
}

/// Ours and theirs are the same but for these attributes, each of which does differ, and why.
fn same_but(ours: &Ad, theirs: &Ad, reasons: &[(&str, &str)]) {
    let (mut ours, mut theirs) = (attributes(ours), attributes(theirs));
    for (name, why) in reasons {
        let name = name.to_ascii_lowercase();
        assert_ne!(
            ours.remove(&name),
            theirs.remove(&name),
            "{name} is no different: {why}"
        );
    }
    assert_eq!(ours, theirs);
}

fn request(command: u32) -> Request {
    Request {
        command,
        wish: Wish::CREDENTIAL,
        methods: [Method::Kerberos].into_iter().collect(),
        key_pair: KeyPair::from_random(&[5; 32]).unwrap(),
        sinful: "<192.0.2.7:9618>".to_owned(),
        session_seconds: 3600,
    }
}

#[test]
fn the_request_for_a_session() {
    for (tool, stem, command) in [
        (OLD, "add", STORE_CRED),
        (OLD, "status", Kind::Schedd.command()),
        (NEW, "add", STORE_CRED),
        (NEW, "status", Kind::Schedd.command()),
    ] {
        let Next::Send(messages, _) = handshake::start(request(command)).unwrap() else {
            panic!("a request is sent first")
        };
        let mut reader = Reader::new(Mode::Plain, messages[0].bytes());
        assert_eq!(reader.int("the command"), Ok(60010));
        let ours = Ad::decode(&mut reader, Limits::HANDSHAKE).unwrap();
        let older = (
            "AuthenticationNew",
            "23.10 and later look at it, and this tool is older",
        );
        let reasons = [
            ("ConnectSinful", "the address dialled"),
            (
                "CryptoMethods",
                "we have AES only, and naming it alone forces it (cedar.md 8)",
            ),
            ("ECDHPublicKey", "random"),
            ("OutgoingNegotiation", "no server looks at it"),
            ("RemoteVersion", "we claim the version whose behaviour we have"),
            ("ServerPid", "for statistics, and nobody's business"),
            (
                "SessionDuration",
                "a batch of stores resumes one session for an hour",
            ),
            ("TrustDomain", "the server tells its own; ours would be made up"),
        ];
        let theirs = Recording::load(&format!("{tool}-{stem}")).request();
        let all: Vec<_> = reasons
            .into_iter()
            .chain((tool == OLD).then_some(older))
            .collect();
        same_but(&ours, &theirs, &all);
    }
}

/// Takes the tool's place behind its request: with its ticket, every further message is the same byte by byte.
fn proof(recording: &Recording) -> Authenticated {
    let mut lines = recording.0[1..].iter();
    let mut next = handshake::start(request(STORE_CRED)).unwrap();
    let mut sent = false;
    let established = loop {
        let mut read = || {
            let line = lines.next().unwrap();
            assert!(!line.ours);
            line.incoming()
        };
        next = match next {
            // the request itself is compared above
            Next::Send(_, state) if !sent => {
                sent = true;
                state.receive(&read()).unwrap()
            }
            Next::Send(messages, state) => {
                for message in &messages {
                    let line = lines.next().unwrap();
                    assert!(line.ours);
                    assert_eq!(message.bytes(), line.payload);
                }
                state.receive(&lines.next().unwrap().incoming()).unwrap()
            }
            Next::Read(state) | Next::Seal(_, state) => state.receive(&read()).unwrap(),
            Next::Ask(Question::KerberosToken, state) => {
                // two messages on: PROCEED, then number and length before the AP-REQ
                let request = &lines.as_slice()[1].payload[16..];
                state.answer(Answer::KerberosToken(as_gss(request))).unwrap()
            }
            Next::Ask(Question::KerberosProof(_), state) => state.answer(Answer::KerberosProven).unwrap(),
            Next::Done(established) => break established,
            other => panic!("{other:?}"),
        };
    };
    established.authenticated_as("dunepro").unwrap()
}

/// RFC 1964 1.1 around an AP-REQ of 300 to 60 000 bytes.
fn as_gss(request: &[u8]) -> Vec<u8> {
    let length = u16::try_from(request.len() + 13).unwrap().to_be_bytes();
    let oid = [
        0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00,
    ];
    [&[0x60, 0x82][..], &length, &oid, request].concat()
}

/// User, password field, mode, credential, options.
fn fields(mode: Mode, payload: &[u8]) -> (String, String, i64, Vec<u8>, Ad) {
    let mut reader = Reader::new(mode, payload);
    let user = reader.string("the user", 1000).unwrap().to_owned();
    let password = reader.string("the password", 1000).unwrap().to_owned();
    let what = reader.int("the mode").unwrap();
    let length = reader.length("the credential", 1000).unwrap();
    let credential = reader.raw("the credential", length).unwrap().to_vec();
    let ad = Ad::decode(&mut reader, Limits::GENERAL).unwrap();
    reader.finish().unwrap();
    (user, password, what, credential, ad)
}

fn same_command(
    stem: &str,
    build: impl Fn(&Authenticated, &Target) -> Outgoing,
    reasons: &[(&str, &str)],
) -> Reply {
    let recording = Recording::load(stem);
    let proof = proof(&recording);
    let message = build(&proof, &Target::new("dunepro", &proof).unwrap());
    let (command, reply) = recording.command();
    assert_eq!(command.mode, message.mode());
    let ours = fields(message.mode(), message.bytes());
    let theirs = fields(command.mode, &command.payload);
    // the tool leaves it to the credd whose credential it is; we name the user, so that a wrong mapping is an error
    assert_eq!((ours.0.as_str(), theirs.0.as_str()), ("dunepro@mtk.test", ""));
    assert_eq!((ours.1, ours.2, ours.3), (theirs.1, theirs.2, theirs.3), "{stem}");
    same_but(&ours.4, &theirs.4, reasons);
    Reply::decode(&reply.incoming()).unwrap()
}

#[test]
fn storing() {
    let json =
        "{\"vault_token\": \"hvs.invented\", \"vault_url\": \"https://vault.mtk.test:8200/v1/secret/x\"}\n";
    let json = SecretBytes::new(json.as_bytes().to_vec());
    let name = CredName::new("witness", None).unwrap();
    let reasons = [(
        "NeedRefresh",
        "24.10 and later guess without it, and this tool is older",
    )];
    let build =
        |proof: &Authenticated, target: &Target| store_cred::add(proof, target, &name, &json).unwrap();
    let reply = same_command("tool-add", build, &reasons);
    assert_eq!((reply.code, reply.user()), (ResultCode::SuccessPending, None));
    let reply = same_command("tool-25-add", build, &[]);
    assert_eq!(
        (reply.code, reply.user()),
        (ResultCode::SuccessPending, Some("dunepro@mtk.test"))
    );
}

/// The newer tool says so in every command; a credd looks at it when something is stored.
const SAID_ALWAYS: [(&str, &str); 1] = [("NeedRefresh", "no credd looks at it here")];

fn reasons(tool: &str) -> &'static [(&'static str, &'static str)] {
    if tool == NEW { &SAID_ALWAYS } else { &[] }
}

#[test]
fn asking() {
    for tool in [OLD, NEW] {
        for (stem, handle) in [("query", None), ("query-handle", Some("h1"))] {
            let name = CredName::new("witness", handle).unwrap();
            let build =
                |proof: &Authenticated, target: &Target| store_cred::query(proof, target, &name).unwrap();
            let reply = same_command(&format!("{tool}-{stem}"), build, reasons(tool));
            assert_eq!(reply.code, ResultCode::NotFound);
        }
    }
}

#[test]
fn deleting() {
    let name = CredName::new("witness", None).unwrap();
    let build = |proof: &Authenticated, target: &Target| store_cred::delete(proof, target, &name).unwrap();
    for tool in [OLD, NEW] {
        let reply = same_command(&format!("{tool}-delete"), build, reasons(tool));
        assert_eq!(reply.code, ResultCode::Success);
    }
}

#[test]
fn asking_a_collector() {
    collector_asked(OLD, 3, &[]);
    // a column of condor_status since 25, whatever else is asked for
    collector_asked(NEW, 1, &["OCU"]);
}

fn collector_asked(tool: &str, schedds: usize, more: &[&str]) {
    let recording = Recording::load(&format!("{tool}-status"));
    proof(&recording);
    let (command, reply) = recording.command();
    let theirs = Ad::decode(&mut command.reader(), Limits::GENERAL).unwrap();
    let attributes = ["Name", "Machine", "MyAddress", "CredDIpAddr", "CondorVersion"];
    let query = Query::all(Kind::Schedd, &attributes).matching(Some("Name =!= \"nobody\""));
    let message = query.encode(Mode::Sealed).unwrap();
    let ours = Ad::decode(&mut Reader::new(Mode::Sealed, message.bytes()), Limits::GENERAL).unwrap();
    let reasons = [
        ("Projection", "a set of names; the tool sorts it"),
        ("Requirements", "the tool puts two more parentheses around it"),
    ];
    same_but(&ours, &theirs, &reasons);
    let words = |ad: &Ad| {
        let mut words: Vec<_> = ad
            .text("Projection")
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect();
        words.sort();
        words
    };
    let (ours_and_more, theirs_all) = (
        words(&ours)
            .into_iter()
            .chain(more.iter().map(|word| (*word).to_owned()))
            .collect::<Vec<_>>(),
        words(&theirs),
    );
    assert_eq!(ours_and_more, theirs_all);
    let expression = |ad: &Ad| match ad.get("Requirements") {
        Some(Value::Expression(text)) => text.trim_matches(['(', ')']).to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(expression(&ours), expression(&theirs));
    let chunk = Chunk {
        bytes: reply.payload.clone().into(),
        last: true,
    };
    let ads = collector::Answer::new(reply.mode).receive(&chunk).unwrap();
    assert_eq!(ads.len(), schedds);
    assert!(ads.iter().all(|ad| ad.text("MyAddress").is_some()));
}
