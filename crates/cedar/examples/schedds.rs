//! The schedds of a pool, by `cedar` and one socket of the standard library.
//!
//! `cargo run -p mtk-cedar --example schedds -- '<127.0.1.20:9618>'`; `cargo xtask test --only examples` runs it against the
//! test bed's collector. It offers no authentication, which most pools want for a credd and not for a question.
#![expect(clippy::print_stdout, reason = "an example's answer")]

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use cedar::{
    classad::Ad,
    commands::collector::{Answer, Kind, Query},
    handshake::{self, MAX_MESSAGE, Next, Request},
    security::{KeyPair, Wish},
    shared_port,
    sinful::{Endpoint, Sinful},
    wire::{Channel, Incoming, Outgoing},
};

type Failed = Box<dyn std::error::Error>;

/// All there is to do for a driver: bytes in, bytes out, and how long to wait for them.
struct Connection {
    stream: TcpStream,
    channel: Channel,
}

impl Connection {
    fn to(address: &Sinful) -> Result<Self, Failed> {
        let Some(Endpoint::Address(endpoint)) = address.endpoints()?.into_iter().next() else {
            return Err("this example looks no names up: give a numeric address".into());
        };
        let wait = Duration::from_secs(20);
        let stream = TcpStream::connect_timeout(&endpoint, wait)?;
        stream.set_read_timeout(Some(wait))?;
        let mut connection = Self {
            stream,
            channel: Channel::new(),
        };
        if let Some(daemon) = address.sock() {
            connection.send(&shared_port::connect(daemon, "schedds", 20)?)?;
            connection.channel.reset_digests();
        }
        Ok(connection)
    }

    fn send(&mut self, message: &Outgoing) -> Result<(), Failed> {
        Ok(self.stream.write_all(&self.channel.send(message)?)?)
    }

    /// Waits for the server's next bytes.
    fn fill(&mut self) -> Result<(), Failed> {
        let mut bytes = [0; 8192];
        let count = self.stream.read(&mut bytes)?;
        let bytes = bytes.get(..count).filter(|bytes| !bytes.is_empty());
        self.channel.push(bytes.ok_or("the server closed")?);
        Ok(())
    }

    fn receive(&mut self) -> Result<Incoming, Failed> {
        loop {
            match self.channel.message(MAX_MESSAGE)? {
                Some(message) => return Ok(message),
                None => self.fill()?,
            }
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failed> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The ads of all schedds that the collector at `address` knows.
pub fn schedds(address: &str) -> Result<Vec<Ad>, Failed> {
    let address: Sinful = address.parse()?;
    let mut connection = Connection::to(&address)?;
    let mut next = handshake::start(Request {
        command: Kind::Schedd.command(),
        wish: Wish::READING,
        methods: [].into_iter().collect(),
        key_pair: KeyPair::from_random(&random()?).ok_or("no key came out of it: try again")?,
        sinful: address.to_string(),
        session_seconds: 60,
    })?;
    loop {
        next = match next {
            Next::Send(messages, state) => {
                for message in &messages {
                    connection.send(message)?;
                }
                state.receive(&connection.receive()?)?
            }
            Next::Read(state) => state.receive(&connection.receive()?)?,
            Next::Seal(key, state) => {
                connection.channel.seal(&key, random()?);
                state.receive(&connection.receive()?)?
            }
            Next::Ready(key, _) => {
                connection.channel.seal(&key, random()?);
                break;
            }
            Next::Done(_) => break,
            Next::Ask(..) => return Err("asked about a method that was not offered".into()),
        };
    }
    let mode = connection.channel.mode();
    let query = Query::all(Kind::Schedd, &["Name", "Machine", "CredDIpAddr"]);
    connection.send(&query.encode(mode)?)?;
    let (mut answer, mut ads) = (Answer::new(mode), Vec::new());
    while !answer.is_complete() {
        match connection.channel.chunk()? {
            Some(chunk) => ads.extend(answer.receive(&chunk)?),
            None => connection.fill()?,
        }
    }
    Ok(ads)
}

fn main() -> Result<(), Failed> {
    let address = std::env::args().nth(1).ok_or("schedds '<127.0.1.20:9618>'")?;
    for ad in schedds(&address)? {
        println!("{}", ad.text("Name").unwrap_or("one without a name"));
    }
    Ok(())
}
