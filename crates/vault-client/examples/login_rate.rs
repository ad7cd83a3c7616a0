//! How many Kerberos logins a second one Vault server takes from us, beside how many it takes from a client that does
//! nothing but write ready requests and read answers: the server's own time for a login, since whatever else there is to it
//! (the AP-REQ, the budget, HTTP/2, JSON) is not in that. `cargo xtask bench vault` runs it inside the test bed.
//!
//! login_rate SERVER CA-FILE SERVER-PROGRAM LOGINS KEYTAB=PRINCIPAL...
//!
//! SERVER-PROGRAM is the name of the server's process. The logins are of all robots in turn, and are revoked afterwards.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement is for people, and counts are small"
)]

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use credential::{LongToken, Principal};
use jiff::Timestamp;
use kerberos::{Gss, Keytab, Mech, Target, Ticket};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use tokio::task::JoinSet;
use vault_client::{Client, Options, Quota};

type Failed = Box<dyn Error + Send + Sync>;

/// Ours and the bare client's, by turns, so that both see the machine in the same mood.
const TURNS: usize = 5;
const ROLE: &str = "auth/kerberos-dune_production";

struct Robot {
    principal: Principal,
    ticket: Ticket,
}

struct Bench {
    gss: Gss,
    robots: Vec<Robot>,
    server: vault_client::Server,
    tls: Arc<tls::ClientConfig>,
    pid: u32,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [server, ca, program, logins, robots @ ..] = words.as_slice() else {
        return Err("usage: login_rate SERVER CA-FILE SERVER-PROGRAM LOGINS KEYTAB=PRINCIPAL...".into());
    };
    let trust = tls::Trust {
        system: false,
        ca_file: Some(ca.into()),
        ..tls::Trust::default()
    };
    let gss = Gss::new(8);
    let mut tickets = Vec::new();
    for robot in robots {
        let (keytab, principal) = robot.split_once('=').ok_or("a robot is KEYTAB=PRINCIPAL")?;
        let principal: Principal = principal.parse()?;
        let ticket = gss.acquire(&Keytab::open(keytab.as_ref(), &principal)?).await?;
        tickets.push(Robot { principal, ticket });
    }
    let bench = Arc::new(Bench {
        gss,
        robots: tickets,
        server: server.parse()?,
        tls: tls::client_config(&trust)?,
        pid: process(program)?,
    });
    let logins: usize = logins.parse::<usize>()?.div_ceil(TURNS) * TURNS;
    // whoever is first gets a robot's ticket for the server, which the others find in its ccache
    bench.requests(bench.robots.len()).await?;
    println!(
        "{:<20} {:>9} {:>9} {:>14} {:>9} {:>16} {:>12}",
        format!("{logins} logins each"),
        "logins/s",
        "ms each",
        "server's own",
        "to it",
        "server CPU each",
        "connections"
    );
    for concurrency in [1, 8, 32, 200] {
        bench.measure(logins, concurrency).await?;
    }
    Ok(())
}

/// What a number of logins came to.
#[derive(Default)]
struct Came {
    seconds: f64,
    cpu: f64,
    tokens: Vec<LongToken>,
}

impl Came {
    fn add(&mut self, other: Self) {
        self.seconds += other.seconds;
        self.cpu += other.cpu;
        self.tokens.extend(other.tokens);
    }
}

impl Bench {
    async fn measure(self: &Arc<Self>, logins: usize, concurrency: usize) -> Result<(), Failed> {
        let mut options = Options::new(self.server.clone(), Arc::clone(&self.tls));
        options.concurrency = concurrency;
        options.read_timeout = Duration::from_secs(60);
        options.quota = Quota {
            requests: u32::MAX,
            ..Quota::default()
        };
        let client = Client::new(options)?;
        // the first one finds the address and makes the connection
        client.health().await?;
        let (mut ours, mut bare, mut open) = (Came::default(), Came::default(), 0);
        for _ in 0..TURNS {
            let each = logins / TURNS;
            ours.add(self.ours(&client, each, concurrency).await?);
            open = connections(self.server.port())?;
            let requests = self.requests(each).await?;
            let (bench, tls) = (Arc::clone(self), Arc::clone(&self.tls));
            let done = tokio::task::spawn_blocking(move || bench.bare(&tls, &requests, concurrency));
            bare.add(done.await??);
        }
        let each = |seconds: f64| 1e3 * seconds / logins as f64;
        println!(
            "{:<20} {:>9.0} {:>9.2} {:>11.2} ms {:>7.2} x {:>13.2} ms {open:>12}",
            format!("{concurrency} at once"),
            logins as f64 / ours.seconds,
            each(ours.seconds),
            each(bare.seconds),
            ours.seconds / bare.seconds,
            each(ours.cpu),
        );
        let mut revoking = JoinSet::new();
        for token in ours.tokens.into_iter().chain(bare.tokens) {
            let client = client.clone();
            revoking.spawn(async move { client.revoke_self(&token).await });
        }
        while let Some(done) = revoking.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Logins as a run makes them, each with an AP-REQ of its own.
    async fn ours(
        self: &Arc<Self>,
        client: &Client,
        logins: usize,
        concurrency: usize,
    ) -> Result<Came, Failed> {
        let cpu = cpu_seconds(self.pid)?;
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for worker in 0..concurrency.min(logins) {
            let (bench, client) = (Arc::clone(self), client.clone());
            tasks.spawn(async move {
                let mut tokens = Vec::new();
                for n in (worker..logins).step_by(concurrency) {
                    tokens.push(bench.login(&client, n).await?);
                }
                Ok::<_, Failed>(tokens)
            });
        }
        let mut tokens = Vec::new();
        while let Some(done) = tasks.join_next().await {
            tokens.extend(done??);
        }
        Ok(Came {
            seconds: begun.elapsed().as_secs_f64(),
            cpu: cpu_seconds(self.pid)? - cpu,
            tokens,
        })
    }

    async fn login(&self, client: &Client, n: usize) -> Result<LongToken, Failed> {
        let robot = self.robot(n)?;
        let turn = client.turn().await?;
        let target = Target::Principal(client.kerberos_target());
        let (_, ap_req) = self.gss.begin(&robot.ticket, &target, Mech::Krb5, false).await?;
        let now = Timestamp::now();
        let login = client.login_kerberos_in(turn, "dune", "production", &ap_req, &robot.principal, now);
        Ok(login.await?.token)
    }

    fn robot(&self, n: usize) -> Result<&Robot, Failed> {
        let robot = self.robots.get(n % self.robots.len().max(1));
        robot.ok_or_else(|| "no robots".into())
    }

    /// Logins ready to be written.
    async fn requests(&self, logins: usize) -> Result<Vec<String>, Failed> {
        let target = Target::Principal(format!("host/{}@", self.server.host()));
        let mut requests = Vec::new();
        for n in 0..logins {
            let ticket = &self.robot(n)?.ticket;
            let (_, ap_req) = self.gss.begin(ticket, &target, Mech::Krb5, false).await?;
            requests.push(format!(
                "POST /v1/{ROLE}/login HTTP/1.1\r\nHost: {}\r\nAuthorization: Negotiate {}\r\nContent-Length: 0\r\n\r\n",
                self.server,
                BASE64_STANDARD.encode(ap_req)
            ));
        }
        Ok(requests)
    }

    /// Logins by so many threads, each with a connection of its own, made before.
    fn bare(
        &self,
        tls: &Arc<tls::ClientConfig>,
        requests: &[String],
        concurrency: usize,
    ) -> Result<Came, Failed> {
        let mut lines = Vec::new();
        for _ in 0..concurrency.min(requests.len()) {
            let mut line = Bare::connect(&self.server, tls)?;
            // the handshake, and whatever else the first request of a connection does
            line.ask(&format!(
                "GET /v1/sys/health HTTP/1.1\r\nHost: {}\r\n\r\n",
                self.server
            ))?;
            lines.push(line);
        }
        let cpu = cpu_seconds(self.pid)?;
        let begun = Instant::now();
        let answers: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = lines
                .iter_mut()
                .enumerate()
                .map(|(worker, line)| {
                    scope.spawn(move || {
                        let mine = requests.iter().skip(worker).step_by(concurrency);
                        mine.map(|request| line.ask(request))
                            .collect::<Result<Vec<_>, Failed>>()
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for thread in threads {
                answers.extend(thread.join().map_err(|_| "a thread panicked")??);
            }
            Ok::<_, Failed>(answers)
        })?;
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(self.pid)? - cpu);
        let token = |answer: &String| {
            let json: serde_json::Value = serde_json::from_str(answer)?;
            let token = json
                .pointer("/auth/client_token")
                .and_then(|token| token.as_str());
            Ok::<_, Failed>(LongToken::new(token.ok_or("no token")?.to_owned())?)
        };
        let tokens = answers.iter().map(token).collect::<Result<_, _>>()?;
        Ok(Came { seconds, cpu, tokens })
    }
}

/// A connection of HTTP/1.1, kept.
struct Bare(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Bare {
    fn connect(server: &vault_client::Server, tls: &Arc<tls::ClientConfig>) -> Result<Self, Failed> {
        let stream = TcpStream::connect((server.host(), server.port()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let name = ServerName::try_from(server.host().to_owned())?;
        let connection = ClientConnection::new(Arc::clone(tls), name)?;
        Ok(Self(BufReader::new(StreamOwned::new(connection, stream))))
    }

    /// The body of the answer, which must be 200.
    fn ask(&mut self, request: &str) -> Result<String, Failed> {
        self.0.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Err("the server hung up".into());
            }
            let lower = line.to_ascii_lowercase();
            if status.is_empty() {
                status.clone_from(&lower);
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        if !status.contains(" 200 ") {
            return Err(format!("the server answers {status}").into());
        }
        Ok(String::from_utf8(body)?)
    }
}

/// The process of this name.
fn process(name: &str) -> Result<u32, Failed> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name) {
            return Ok(pid);
        }
    }
    Err(format!("no process is called {name}").into())
}

/// User and system time of all its threads so far.
fn cpu_seconds(pid: u32) -> Result<f64, Failed> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok());
    let ticks = ticks(11).zip(ticks(12)).ok_or("no times in /proc/PID/stat")?;
    Ok((ticks.0 + ticks.1) / 100.0)
}

/// TCP connections to this port that are open now, in this network namespace.
fn connections(port: u16) -> Result<usize, Failed> {
    let remote = format!(":{port:04X}");
    let text = std::fs::read_to_string("/proc/net/tcp")?;
    let open = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|to| to.ends_with(&remote)) && words.next() == Some("01")
    };
    Ok(text.lines().filter(open).count())
}
