//! Records a conversation with a real credd, with fixed numbers where random ones belong, as a fixture that the
//! tests of `cedar` replay byte by byte. For test pools only: what it writes opens what it recorded.
//!
//! ```text
//! record credd SINFUL OUTPUT-STEM KEYTAB PRINCIPAL
//! record collector SINFUL OUTPUT-STEM
//! ```
//!
//! writes OUTPUT-STEM.hex (one line per write or message, `>` ours, `<` the server's, `--` a new connection) and
//! OUTPUT-STEM.toml.
#![expect(clippy::print_stderr, reason = "a tool for developers")]

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    net::TcpStream,
    path::Path,
};

use cedar::{
    auth::{Answer, Method, Question},
    commands::{
        collector::{Kind, Query},
        store_cred::{self, CredName, STORE_CRED, Target},
    },
    handshake::{self, MAX_MESSAGE, Next, Request},
    security::{Established, KeyPair, Wish},
    shared_port,
    sinful::{Endpoint, Sinful},
    wire::{Channel, Incoming, Outgoing},
};
use credential::{Principal, SecretBytes};
use kerberos::{Gss, Keytab, Mech, Step, Ticket};

const KEY_PAIR: [u8; 32] = [0x11; 32];
/// One for each connection: with one key, two alike would open both.
const IVS: [[u8; 16]; 2] = [[0x22; 16], [0x44; 16]];
const NONCE: [u8; 33] = [0x33; 33];
const CREDENTIAL: &[u8] =
    b"{\"vault_token\": \"hvs.invented\", \"vault_url\": \"https://vault.example.org:8200/v1/x\"}\n";

type Failed = Box<dyn std::error::Error>;

struct Recorder {
    sinful: Sinful,
    identity: Option<(Gss, Ticket)>,
    transcript: String,
    token: String,
}

struct Connection {
    stream: TcpStream,
    channel: Channel,
    iv: [u8; 16],
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

impl Recorder {
    fn new(sinful: Sinful, identity: Option<(Gss, Ticket)>) -> Self {
        Self {
            sinful,
            identity,
            transcript: String::new(),
            token: String::new(),
        }
    }

    fn connect(&mut self, iv: [u8; 16]) -> Result<Connection, Failed> {
        let Some(Endpoint::Address(address)) = self.sinful.endpoints()?.into_iter().next() else {
            return Err("the address must be numeric".into());
        };
        let mut connection = Connection {
            stream: TcpStream::connect(address)?,
            channel: Channel::new(),
            iv,
        };
        self.transcript += "--\n";
        if let Some(id) = self.sinful.sock().map(str::to_owned) {
            self.send(&mut connection, &shared_port::connect(&id, "record", 20)?)?;
            connection.channel.reset_digests();
        }
        Ok(connection)
    }

    fn send(&mut self, connection: &mut Connection, message: &Outgoing) -> Result<(), Failed> {
        let bytes = connection.channel.send(message)?;
        self.transcript += &format!("> {}\n", hex(&bytes));
        Ok(connection.stream.write_all(&bytes)?)
    }

    fn receive(&mut self, connection: &mut Connection) -> Result<Incoming, Failed> {
        let mut all = Vec::new();
        loop {
            if let Some(message) = connection.channel.message(MAX_MESSAGE)? {
                self.transcript += &format!("< {}\n", hex(&all));
                return Ok(message);
            }
            // byte by byte, so that a line of the transcript is one message
            let mut byte = [0];
            connection.stream.read_exact(&mut byte)?;
            all.extend_from_slice(&byte);
            connection.channel.push(&byte);
        }
    }

    async fn establish(
        &mut self,
        connection: &mut Connection,
        mut next: Next,
    ) -> Result<Established, Failed> {
        let mut initiator = None;
        loop {
            next = match next {
                Next::Send(messages, state) => {
                    for message in &messages {
                        self.send(connection, message)?;
                    }
                    state.receive(&self.receive(connection)?)?
                }
                Next::Read(state) => state.receive(&self.receive(connection)?)?,
                Next::Ask(Question::KerberosToken, state) => {
                    let host = self.sinful.alias().ok_or("the address needs an alias")?;
                    let target = kerberos::Target::Principal(format!("host/{host}@"));
                    let (context, token) = {
                        let (gss, ticket) = self.identity.as_ref().ok_or("no identity")?;
                        gss.begin(ticket, &target, Mech::Krb5, true).await?
                    };
                    initiator = Some(context);
                    self.token = hex(&token);
                    state.answer(Answer::KerberosToken(token))?
                }
                Next::Ask(Question::KerberosProof(token), state) => {
                    match initiator.as_mut().ok_or("no context")?.step(token).await? {
                        Step::Complete(None) => state.answer(Answer::KerberosProven)?,
                        _ => return Err("the context is not complete".into()),
                    }
                }
                Next::Ask(..) => return Err("a question of another method".into()),
                Next::Seal(key, state) => {
                    connection.channel.seal(&key, connection.iv);
                    state.receive(&self.receive(connection)?)?
                }
                Next::Ready(key, established) => {
                    connection.channel.seal(&key, connection.iv);
                    return Ok(*established);
                }
                Next::Done(established) => return Ok(*established),
            };
        }
    }

    fn command(
        &mut self,
        connection: &mut Connection,
        established: &Established,
        add: bool,
    ) -> Result<(), Failed> {
        let proof = established.authenticated_as(established.user().name())?;
        let target = Target::new(proof.user().name(), &proof)?;
        let name = CredName::new("dune_production", None)?;
        let request = match add {
            true => store_cred::add(&proof, &target, &name, &SecretBytes::new(CREDENTIAL.to_vec()))?,
            false => store_cred::query(&proof, &target, &name)?,
        };
        self.send(connection, &request)?;
        let reply = store_cred::Reply::decode(&self.receive(connection)?)?;
        eprintln!("{target} {name}: {} at {:?}", reply.code, reply.top_time(&name));
        Ok(())
    }

    fn request(&self, command: u32, wish: Wish) -> Result<Request, Failed> {
        let methods = self.identity.iter().map(|_| Method::Kerberos).collect();
        Ok(Request {
            command,
            wish,
            methods,
            key_pair: KeyPair::from_random(&KEY_PAIR).ok_or("no scalar")?,
            sinful: self.sinful.to_string(),
            session_seconds: 3600,
        })
    }

    /// A store, then a query on the resumed session.
    async fn credd(&mut self) -> Result<(), Failed> {
        let [first, second] = IVS;
        let mut connection = self.connect(first)?;
        let request = self.request(STORE_CRED, Wish::CREDENTIAL)?;
        let established = self
            .establish(&mut connection, handshake::start(request)?)
            .await?;
        self.command(&mut connection, &established, true)?;
        let session = established.session().ok_or("no session")?;
        let mut connection = self.connect(second)?;
        let next = handshake::resume(session, STORE_CRED, &self.sinful.to_string(), &NONCE)?;
        let established = self.establish(&mut connection, next).await?;
        self.command(&mut connection, &established, false)?;
        eprintln!(
            "{} {}",
            established.user(),
            established.version().unwrap_or_default()
        );
        Ok(())
    }

    /// All schedds, without an identity.
    async fn collector(&mut self) -> Result<(), Failed> {
        let [first, _] = IVS;
        let mut connection = self.connect(first)?;
        let request = self.request(Kind::Schedd.command(), Wish::READING)?;
        let established = self
            .establish(&mut connection, handshake::start(request)?)
            .await?;
        let mode = connection.channel.mode();
        let projection = ["Name", "Machine", "MyAddress", "CredDIpAddr", "CondorVersion"];
        let query = Query::all(Kind::Schedd, &projection);
        self.send(&mut connection, &query.encode(mode)?)?;
        let answer = self.receive(&mut connection)?;
        eprintln!("{} {mode:?} {} bytes", established.user(), answer.bytes().len());
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let usage = "record credd SINFUL OUTPUT-STEM KEYTAB PRINCIPAL, or record collector SINFUL OUTPUT-STEM";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (stem, recorder) = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["collector", sinful, stem] => {
            let mut recorder = Recorder::new(sinful.parse()?, None);
            recorder.collector().await?;
            (*stem, recorder)
        }
        ["credd", sinful, stem, keytab, principal] => {
            let principal: Principal = principal.parse()?;
            let gss = Gss::new(1);
            let ticket = gss.acquire(&Keytab::open(Path::new(keytab), &principal)?).await?;
            let mut recorder = Recorder::new(sinful.parse()?, Some((gss, ticket)));
            recorder.credd().await?;
            (*stem, recorder)
        }
        _ => return Err(usage.into()),
    };
    std::fs::write(format!("{stem}.hex"), &recorder.transcript)?;
    let [first, second] = IVS;
    let origin = format!(
        "# Recorded from a real server of a test pool that is gone, with the example `record` of credd-client.\n\
         sinful = \"{}\"\nkey_pair = \"{}\"\niv = \"{}\"\niv_resumed = \"{}\"\nnonce = \"{}\"\n\
         credential = \"{}\"\ngss_token = \"{}\"\n",
        recorder.sinful,
        hex(&KEY_PAIR),
        hex(&first),
        hex(&second),
        hex(&NONCE),
        hex(CREDENTIAL),
        recorder.token,
    );
    std::fs::write(format!("{stem}.toml"), origin)?;
    Ok(())
}
