//! The whole client state machine against a server that says anything at any time: one connection, and if the script wants it
//! another on which the session is resumed.

mod script;

use cedar::{
    Error, Unsendable,
    auth::{Answer, Method, Question, TlsTurn},
    commands::store_cred::{self, All, CredName, Reply, STORE_CRED, Target},
    handshake::{self, MAX_MESSAGE, Next, Request},
    security::{Authenticated, Established, KeyPair, Wish},
    shared_port,
    wire::{Channel, Incoming, Mode, Outgoing},
};
use credential::SecretBytes;
use zeroize::Zeroizing;

use self::script::Script;

/// The account whose credential it is.
const OURS: &str = "dunepro";

/// A token as GSSAPI makes it, with an empty AP-REQ.
const TOKEN: [u8; 15] = [
    0x60, 13, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00,
];

/// Our side, and the questions it asked.
struct Client<'a> {
    channel: Channel,
    script: Script<'a>,
    proven: bool,
    /// What makes this connection's sealed frames its own.
    iv: [u8; 16],
    /// How many sealed messages were taken on this connection.
    opened: usize,
}

/// The peer closed.
struct Closed;

impl Client<'_> {
    /// A connection as it is when the daemon has it.
    fn connect(&mut self, through_shared_port: bool) {
        self.channel = Channel::new();
        self.script.channel = Channel::new();
        self.iv = self.iv.map(|byte| byte + 1);
        (self.script.sealed, self.opened) = (0, 0);
        if through_shared_port {
            let Ok(hello) = shared_port::connect("credd", "fuzz", 20) else {
                panic!("our own id");
            };
            if self.send(&hello).is_err() {
                panic!("nothing is sealed yet");
            }
            self.channel.reset_digests();
            self.script.channel.reset_digests();
        }
    }

    fn send(&mut self, message: &Outgoing) -> Result<(), Closed> {
        let bytes = self.channel.send(message).map_err(|_| Closed)?;
        self.script.heard.clone_from(&bytes);
        // counted by the server too, or its digests do not fit
        self.script.channel.push(&bytes);
        while let Ok(Some(_)) = self.script.channel.message(MAX_MESSAGE) {}
        Ok(())
    }

    fn read(&mut self) -> Result<Incoming, Closed> {
        loop {
            match self.channel.message(MAX_MESSAGE) {
                Ok(Some(message)) => {
                    self.opened += usize::from(self.channel.mode() == Mode::Sealed);
                    if self.opened > self.script.sealed {
                        panic!("a message was taken that nobody sealed for this connection");
                    }
                    return Ok(message);
                }
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
                    self.channel.seal(&key, self.iv);
                    let message = self.read().map_err(|Closed| Some(state.closed()))?;
                    state.receive(&message).map_err(Some)?
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
    let mut client = Client {
        channel: Channel::new(),
        script: Script::new(rest),
        proven: false,
        iv: [0; 16],
        opened: 0,
    };
    client.connect(flags & 4 != 0);
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
    let said = client.script.said.unwrap_or_default();
    if established.authenticated_as(OURS).is_ok() {
        let mutual = established
            .method()
            .is_some_and(|method| Method::DEFAULT.contains(&method));
        if (mutual && !client.proven) || said.rsplit_once('@').map(|(user, _)| user) != Some(OURS) {
            panic!(
                "a proof from a server that said {said:?} and proved {}",
                client.proven
            );
        }
    }
    let came = command(&mut client, &established);
    if flags & 16 == 0 {
        return came;
    }
    client.connect(flags & 4 != 0);
    resumed(client, &established, flags & 32 != 0)
}

/// The session once more, on a connection of its own. A server that knows it seals when it has read the request, and has given its
/// word before if it was asked for it; this one may do otherwise.
fn resumed(mut client: Client<'_>, before: &Established, answered: bool) -> bool {
    let Some(session) = before.session() else {
        return false;
    };
    let (sinful, nonce) = ("<192.0.2.7:9618>", [2; 33]);
    let established = if answered {
        let Ok(next) = handshake::resume(session, STORE_CRED, sinful, &nonce) else {
            panic!("our own request");
        };
        match client.establish(next) {
            Ok(established) => established,
            Err(error) => {
                drop(error.map(|error| error.to_string()));
                return false;
            }
        }
    } else {
        let Ok(Some((request, key, established))) =
            handshake::resume_unanswered(session, STORE_CRED, sinful, &nonce)
        else {
            panic!("a session without a key");
        };
        if request.mode() != Mode::Plain || client.send(&request).is_err() {
            panic!("nothing is sealed yet");
        }
        client.channel.seal(&key, client.iv);
        *established
    };
    if established.user() != before.user()
        || established.method() != before.method()
        || !established.is_encrypted()
    {
        panic!("a resumed session is another's than before");
    }
    if let Some(1) = client.script.byte() {
        client.script.seal();
    }
    if let Ok(proof) = established.authenticated_as(OURS) {
        let (target, name) = names(&proof);
        let secret = SecretBytes::new(b"{}\n".to_vec());
        let changes = [
            store_cred::add(&proof, &target, &name, &secret),
            store_cred::delete(&proof, &target, &name),
            store_cred::delete_everything(&proof, &target, All),
        ];
        if changes
            .iter()
            .any(|change| matches!(change, Err(Unsendable::Unanswered)) == answered)
        {
            panic!("a change for a server that has not said its word");
        }
    }
    command(&mut client, &established)
}

fn names(proof: &Authenticated) -> (Target, CredName) {
    let (Ok(target), Ok(name)) = (Target::new(OURS, proof), CredName::new("dune", None)) else {
        panic!("our own names");
    };
    (target, name)
}

/// A question, and its answer.
fn command(client: &mut Client<'_>, established: &Established) -> bool {
    let Ok(proof) = established.authenticated_as(OURS) else {
        return false;
    };
    let (target, name) = names(&proof);
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
