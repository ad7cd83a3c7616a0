//! The whole client state machine against a server that says anything at any time.

use cedar::{
    Error,
    auth::{Answer, Method, Question, TlsTurn},
    commands::store_cred::{self, CredName, Reply, STORE_CRED, Target},
    handshake::{self, MAX_MESSAGE, Next, Request},
    security::{Established, KeyPair, Wish},
    shared_port,
    wire::{Channel, Incoming, Mode, Outgoing},
};
use zeroize::Zeroizing;

use crate::hostile::{ads, keys::Pair};

/// The account whose credential it is.
const OURS: &str = "dunepro";

/// A token as GSSAPI makes it, with an empty AP-REQ.
const TOKEN: [u8; 15] = [
    0x60, 13, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00,
];

/// What the server does, read off the fuzzer's bytes.
struct Script<'a> {
    rest: &'a [u8],
    channel: Channel,
    pair: Pair,
    client_key: Option<String>,
    /// The user of the last verdict that was sealed with the key.
    said: Option<&'static str>,
}

const USERS: [&str; 6] = [
    "dunepro@mtk.test",
    "novapro@mtk.test",
    "ssl@unmapped",
    "dunepro",
    "",
    "dunepro@mtk.test@evil",
];

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?) * 2;
        let (head, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        Some(head)
    }

    fn message(&mut self, message: &Outgoing) -> Vec<u8> {
        self.channel.send(message).unwrap_or_default()
    }

    fn new_message(&self) -> Outgoing {
        Outgoing::new(self.channel.mode())
    }

    fn ad(&mut self, ad: &cedar::classad::Ad) -> Vec<u8> {
        let message = ad.encode(self.new_message());
        message.map(|message| self.message(&message)).unwrap_or_default()
    }

    /// The next bytes on the wire; `None` when it closes.
    fn next(&mut self) -> Option<Vec<u8>> {
        Some(match self.byte()? {
            0 => {
                let methods = [
                    "KERBEROS",
                    "",
                    "CLAIMTOBE",
                    "KERBEROS,CLAIMTOBE",
                    "SSL,FS",
                    "SCITOKENS,SSL",
                ];
                let which = usize::from(self.byte()?);
                let methods = methods.get(which % methods.len()).unwrap_or(&"");
                let policy = ads::policy(&self.pair, methods);
                self.ad(&policy)
            }
            1 => self.ad(&ads::open_policy()),
            // the honest policy and lines of the fuzzer's, which count if they come later
            2 => {
                let honest = ads::policy(&self.pair, "KERBEROS");
                let mut lines: Vec<Vec<u8>> =
                    honest.iter().map(|(n, v)| format!("{n} = {v}").into()).collect();
                let more = self.bytes()?;
                lines.extend(more.split(|b| *b == 0).map(<[u8]>::to_vec));
                let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
                let payload = ads::lines(self.channel.mode(), &lines);
                let message = self.new_message().raw(&payload);
                self.message(&message)
            }
            3 => {
                let numbers = [
                    0,
                    1,
                    2,
                    3,
                    4,
                    64,
                    2048,
                    -1,
                    i64::MIN,
                    i64::MAX,
                    1 << 31,
                    256,
                    4096,
                    128,
                ];
                let which = usize::from(self.byte()?);
                let number = numbers.get(which % numbers.len()).copied().unwrap_or_default();
                let message = self.new_message().int(number);
                self.message(&message)
            }
            4 => {
                let payload = self.bytes()?;
                let message = self.new_message().raw(payload);
                self.message(&message)
            }
            5 => self.bytes()?.to_vec(),
            6 => {
                if let Some(key) = self.client_key.as_deref().and_then(|key| self.pair.agree(key)) {
                    self.channel.seal(&key, [0x5a; 16]);
                }
                Vec::new()
            }
            7 => {
                let which = usize::from(self.byte()?);
                let user = USERS.get(which % USERS.len()).copied().unwrap_or_default();
                if self.channel.mode() == Mode::Sealed {
                    self.said = Some(user);
                }
                self.ad(&ads::verdict(user, "AUTHORIZED"))
            }
            // an AP-REP
            8 => {
                let message = self.new_message().int(4).length(3).raw(&[0x6f, 1, 0]);
                self.message(&message)
            }
            9 => {
                let lines = self.bytes()?;
                let lines: Vec<&[u8]> = lines.split(|b| *b == 0).collect();
                let payload = ads::lines(self.channel.mode(), &lines);
                let code = i64::from(self.byte()?);
                let message = self.new_message().int(code).raw(&payload);
                self.message(&message)
            }
            // a status and TLS records
            10 => {
                let status = i64::from(self.byte()?) - 1;
                let records = self.bytes()?;
                let message = self.new_message().int(status).length(records.len()).raw(records);
                self.message(&message)
            }
            11 => {
                let message = self.new_message().string("a path", "/tmp/FS_XXXa").ok()?;
                self.message(&message)
            }
            _ => return None,
        })
    }
}

/// Our side, and the questions it asked.
struct Client<'a> {
    channel: Channel,
    script: Script<'a>,
    proven: bool,
}

/// The peer closed.
struct Closed;

impl Client<'_> {
    fn send(&mut self, message: &Outgoing) -> Result<(), Closed> {
        let bytes = self.channel.send(message).map_err(|_| Closed)?;
        // counted by the server too, or its digests do not fit
        self.script.channel.push(&bytes);
        while let Ok(Some(_)) = self.script.channel.message(MAX_MESSAGE) {}
        Ok(())
    }

    fn read(&mut self) -> Result<Incoming, Closed> {
        loop {
            match self.channel.message(MAX_MESSAGE) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(_) => return Err(Closed),
            }
            let bytes = self.script.next().ok_or(Closed)?;
            self.channel.push(&bytes);
        }
    }

    /// The outside world: a TLS library that believes records beginning with 1, a directory that can be made.
    fn answer(&mut self, question: &Question) -> Answer {
        match question {
            Question::TlsClient { .. } => Answer::Tls(TlsTurn::default()),
            Question::Tls(records) => {
                let established = records.first() == Some(&1);
                self.proven |= established;
                Answer::Tls(TlsTurn {
                    records: vec![0x17, 3, 3],
                    established,
                    received: records.len(),
                })
            }
            Question::TlsBearer if !self.proven => panic!("a bearer token for a server that proved nothing"),
            Question::TlsBearer => Answer::Tls(TlsTurn {
                records: vec![0x17],
                established: true,
                received: 256,
            }),
            Question::Directory(_) => Answer::Directory { extension: None },
            Question::User => Answer::User(OURS.to_owned()),
            _ => Answer::Unavailable("there is none".into()),
        }
    }

    fn establish(&mut self, mut next: Next) -> Result<Established, Option<Error>> {
        loop {
            next = match next {
                Next::Send(messages, state) => {
                    for message in &messages {
                        self.send(message).map_err(|Closed| None)?;
                    }
                    let message = self.read().map_err(|Closed| Some(state.closed()))?;
                    state.receive(&message).map_err(Some)?
                }
                Next::Read(state) => {
                    let message = self.read().map_err(|Closed| Some(state.closed()))?;
                    state.receive(&message).map_err(Some)?
                }
                Next::Ask(Question::KerberosToken, state) => state
                    .answer(Answer::KerberosToken(TOKEN.to_vec()))
                    .map_err(Some)?,
                Next::Ask(Question::KerberosProof(token), state) => {
                    // a library that takes only the AP-REP the honest server would send
                    let good = token.ends_with(&[0x6f, 1, 0]);
                    self.proven |= good;
                    let answer = if good {
                        Answer::KerberosProven
                    } else {
                        Answer::Unavailable("not the honest server's".into())
                    };
                    state.answer(answer).map_err(Some)?
                }
                Next::Ask(question, state) => {
                    let answer = self.answer(&question);
                    state.answer(answer).map_err(Some)?
                }
                Next::Seal(key, state) => {
                    self.channel.seal(&key, [1; 16]);
                    let message = self.read().map_err(|Closed| Some(state.closed()))?;
                    state.receive(&message).map_err(Some)?
                }
                Next::Ready(key, established) => {
                    self.channel.seal(&key, [1; 16]);
                    return Ok(*established);
                }
                Next::Done(established) => return Ok(*established),
            };
        }
    }
}

fn request(pair: KeyPair, wish: Wish, methods: &[Method]) -> Request {
    Request {
        command: STORE_CRED,
        wish,
        methods: methods.iter().copied().collect(),
        key_pair: pair,
        sinful: "<192.0.2.7:9618>".to_owned(),
        session_seconds: 3600,
    }
}

/// One conversation for a credential, with a server whose every move is the fuzzer's: the proof that a credential may
/// be sent is had only from a server that has proven itself, holds the key, and takes us for the right user.
pub fn client(data: &[u8]) {
    conversation(data);
}

/// The same; whether it came as far as a command that the server answered.
pub fn conversation(data: &[u8]) -> bool {
    let Some(pair) = KeyPair::from_random(&[3; 32]) else {
        panic!("our own key pair");
    };
    let Some((flags, rest)) = data.split_first() else {
        return false;
    };
    let (wish, methods): (_, &[Method]) = match flags & 3 {
        0 | 1 => (Wish::CREDENTIAL, &[Method::Kerberos]),
        2 => (Wish::READING, &[Method::Kerberos]),
        _ => (Wish::READING, &[]),
    };
    // every method there is, the unproven ones too
    let all = [
        &Method::DEFAULT[..],
        &[Method::Fs, Method::ClaimToBe, Method::Anonymous],
    ]
    .concat();
    let methods = if flags & 8 == 0 { methods } else { &all };
    let script = Script {
        rest,
        channel: Channel::new(),
        pair: Pair::new(7),
        client_key: Some(Pair::new(3).public()),
        said: None,
    };
    let mut client = Client {
        channel: Channel::new(),
        script,
        proven: false,
    };
    if flags & 4 != 0 {
        let Ok(hello) = shared_port::connect("credd", "fuzz", 20) else {
            panic!("our own id");
        };
        if client.send(&hello).is_err() {
            panic!("nothing is sealed yet");
        }
        client.channel.reset_digests();
        client.script.channel.reset_digests();
    }
    let Ok(next) = handshake::start(request(pair, wish, methods)) else {
        panic!("our own request");
    };
    let established = match client.establish(next) {
        Ok(established) => established,
        Err(error) => {
            drop(error.map(|error| error.to_string()));
            return false;
        }
    };
    if wish == Wish::CREDENTIAL && (!established.is_encrypted() || established.method().is_none()) {
        panic!("a conversation for a credential without key or method");
    }
    command(client, &established)
}

fn command(mut client: Client<'_>, established: &Established) -> bool {
    let Ok(proof) = established.authenticated_as(OURS) else {
        return false;
    };
    let said = client.script.said.unwrap_or_default();
    let mutual = established
        .method()
        .is_some_and(|method| Method::DEFAULT.contains(&method));
    if (mutual && !client.proven) || said.rsplit_once('@').map(|(user, _)| user) != Some(OURS) {
        panic!(
            "a proof from a server that said {said:?} and proved {}",
            client.proven
        );
    }
    let (Ok(target), Ok(name)) = (Target::new(OURS, &proof), CredName::new("dune", None)) else {
        panic!("our own names");
    };
    let Ok(message) = store_cred::query(&proof, &target, &name) else {
        panic!("our own query");
    };
    if message.mode() != Mode::Sealed {
        panic!("a command for a credential in the clear");
    }
    if client.send(&message).is_err() {
        return false;
    }
    let reply = client.read().ok().map(|message| Reply::decode(&message));
    let Some(Ok(reply)) = reply else {
        return false;
    };
    if reply.user().is_some_and(|user| user.contains('\0')) {
        panic!("a NUL in a user's name");
    }
    true
}

/// The first answer of a server: the policy, or its word on a resumption.
pub fn policy(data: &[u8]) {
    for (wish, methods) in [
        (Wish::CREDENTIAL, &[Method::Kerberos][..]),
        (Wish::READING, &[]),
        (Wish::ANONYMOUS, &[]),
    ] {
        let Some(pair) = KeyPair::from_random(&[3; 32]) else {
            panic!("our own key pair");
        };
        let Ok(Next::Send(_, state)) = handshake::start(request(pair, wish, methods)) else {
            panic!("our own request");
        };
        let message = Incoming::new(Mode::Plain, Zeroizing::new(data.to_vec()));
        match state.receive(&message) {
            Ok(Next::Send(messages, _)) if methods.is_empty() => panic!("{messages:?} without a method"),
            Ok(Next::Read(_) | Next::Seal(..)) if wish == Wish::CREDENTIAL => {
                panic!("no authentication where it is required")
            }
            Ok(Next::Done(_) | Next::Ready(..)) => panic!("a conversation without a verdict"),
            Ok(_) => {}
            Err(error) => drop(error.to_string()),
        }
    }
}
