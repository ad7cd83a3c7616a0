//! How many Kerberos logins a second one Vault server takes from us, beside the CPU time each of them costs it.
//! `cargo xtask bench vault` runs it inside the test bed.
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
    sync::Arc,
    time::{Duration, Instant},
};

use credential::{LongToken, Principal};
use jiff::Timestamp;
use kerberos::{Gss, Keytab, Mech, Target, Ticket};
use tokio::task::JoinSet;
use vault_client::{Client, Options, Quota};

type Failed = Box<dyn Error + Send + Sync>;

struct Robot {
    principal: Principal,
    ticket: Ticket,
}

struct Bench {
    gss: Gss,
    robots: Vec<Robot>,
    server: String,
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
        server: server.clone(),
        tls: tls::client_config(&trust)?,
        pid: process(program)?,
    });
    let logins: usize = logins.parse()?;
    println!(
        "{:<34} {:>9} {:>9} {:>11} {:>11} {:>12}",
        format!("{logins} logins each"),
        "logins/s",
        "ms each",
        "server CPU",
        "to its CPU",
        "connections"
    );
    for concurrency in [1, 8, 32, 200] {
        measure(&bench, logins, concurrency).await?;
    }
    Ok(())
}

async fn measure(bench: &Arc<Bench>, logins: usize, concurrency: usize) -> Result<(), Failed> {
    let mut options = Options::new(bench.server.parse()?, Arc::clone(&bench.tls));
    options.concurrency = concurrency;
    options.read_timeout = Duration::from_secs(60);
    options.quota = Quota {
        requests: u32::MAX,
        ..Quota::default()
    };
    let client = Client::new(options)?;
    // the first one finds the address and makes the connection
    client.health().await?;
    let cpu = cpu_seconds(bench.pid)?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for worker in 0..concurrency.min(logins) {
        let (bench, client) = (Arc::clone(bench), client.clone());
        tasks.spawn(async move {
            let mut tokens = Vec::new();
            for n in (worker..logins).step_by(concurrency) {
                tokens.push(login(&bench, &client, n).await?);
            }
            Ok::<_, Failed>(tokens)
        });
    }
    let mut tokens = Vec::new();
    while let Some(done) = tasks.join_next().await {
        tokens.extend(done??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let each = 1e3 * seconds / logins as f64;
    let server = 1e3 * (cpu_seconds(bench.pid)? - cpu) / logins as f64;
    let connections = connections(client.server().port())?;
    println!(
        "{:<34} {:>9.0} {each:>9.2} {server:>8.2} ms {:>9.2} x {connections:>12}",
        format!("{concurrency} at once"),
        logins as f64 / seconds,
        each / server
    );
    let mut revoking = JoinSet::new();
    for token in tokens {
        let client = client.clone();
        revoking.spawn(async move { client.revoke_self(&token).await });
    }
    while let Some(done) = revoking.join_next().await {
        done??;
    }
    Ok(())
}

async fn login(bench: &Bench, client: &Client, n: usize) -> Result<LongToken, Failed> {
    let robot = bench
        .robots
        .get(n % bench.robots.len().max(1))
        .ok_or("no robots")?;
    let turn = client.turn().await?;
    let target = Target::Principal(client.kerberos_target());
    let (_, ap_req) = bench.gss.begin(&robot.ticket, &target, Mech::Krb5, false).await?;
    let login = client
        .login_kerberos_in(
            turn,
            "dune",
            "production",
            &ap_req,
            &robot.principal,
            Timestamp::now(),
        )
        .await?;
    Ok(login.token)
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
