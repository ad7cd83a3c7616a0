//! How many stores a second one credd takes from us, beside `condor_store_cred` and beside what its CPU time allows.
//! `cargo xtask bench credd` runs it inside the test bed.
//!
//! store_rate CREDD COLLECTOR KEYTAB PRINCIPAL USER CONDOR-CONFIG STORES -- CONDOR-STORE-CRED...
//!
//! CONDOR-CONFIG is in the environment of the credd's process, by which it is found; `{}` in CONDOR-STORE-CRED becomes
//! the name of a credential.
//!
//! CPU time is that of the credd, of the shared-port daemon in front of it and of this process, a command. A credd has
//! one thread: it can take no more commands a second than its CPU time allows, and `credd` says how much of that we had.
//! With the three on fewer than three cores it cannot be had whole; `cores` says how many of them were at work.

#![expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement is for people, and counts are small"
)]

use std::{
    error::Error,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use credd_client::{
    Collector, Credd, CreddAddress, Identity, Options,
    ads::{Kind, Limits, Query},
};
use credential::{Principal, SecretBytes};
use kerberos::{Gss, Keytab};
use tokio::task::JoinSet;

type Failed = Box<dyn Error + Send + Sync>;

/// Made up: no job uses it.
const SERVICE: &str = "bench";

/// One measurement.
struct Rate {
    stores: usize,
    /// Commands at the credd: we ask before and after each store.
    commands: usize,
    seconds: f64,
    used: Used,
}

/// Seconds of CPU time.
#[derive(Clone, Copy)]
struct Used {
    credd: f64,
    shared_port: f64,
    ours: f64,
}

impl std::ops::Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            credd: self.credd - before.credd,
            shared_port: self.shared_port - before.shared_port,
            ours: self.ours - before.ours,
        }
    }
}

impl Rate {
    fn print(&self, what: &str, old: Option<&Rate>) {
        let rate = self.stores as f64 / self.seconds;
        let a_command = |seconds: f64| 1e3 * seconds / self.commands as f64;
        let Used {
            credd,
            shared_port,
            ours,
        } = self.used;
        let ratio = old.map_or_else(String::new, |old| {
            format!("{:.1} x", rate / (old.stores as f64 / old.seconds))
        });
        println!(
            "{what:<42} {rate:>8.1} {:>10.1} {:>6.2} {:>6.2} {:>6.2} {:>6.0} % {:>6.2} {ratio:>8}",
            self.commands as f64 / self.seconds,
            a_command(credd),
            a_command(shared_port),
            a_command(ours),
            100.0 * credd / self.seconds,
            (credd + shared_port + ours) / self.seconds,
        );
    }
}

struct Bench {
    address: CreddAddress,
    identity: Identity,
    user: String,
    credd: u32,
    shared_port: u32,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [
        credd,
        collector,
        keytab,
        principal,
        user,
        config,
        stores,
        dashes,
        old @ ..,
    ] = words.as_slice()
    else {
        return Err(
            "usage: store_rate CREDD COLLECTOR KEYTAB PRINCIPAL USER CONDOR-CONFIG STORES -- COMMAND..."
                .into(),
        );
    };
    if dashes != "--" {
        return Err("-- is missing before condor_store_cred".into());
    }
    let principal: Principal = principal.parse()?;
    let gss = Gss::new(8);
    let ticket = gss.acquire(&Keytab::open(keytab.as_ref(), &principal)?).await?;
    let bench = Arc::new(Bench {
        address: CreddAddress::from_entry(credd)?,
        identity: Identity::kerberos(ticket, gss, user.as_str()),
        user: user.clone(),
        credd: process("condor_credd", config)?,
        shared_port: process("condor_shared_port", config)?,
    });
    // they would work on every store, and throw away what Vault refuses
    let credmons = processes("condor_credmon", config)?;
    let _frozen = credmons
        .into_iter()
        .map(Frozen::new)
        .collect::<Result<Vec<_>, _>>()?;
    let stores: usize = stores.parse()?;
    println!("{:<61} ms CPU a command", "");
    println!(
        "{:<42} {:>8} {:>10} {:>6} {:>6} {:>6} {:>8} {:>6} {:>8}",
        format!("{stores} stores each"),
        "stores/s",
        "commands/s",
        "credd",
        "port",
        "ours",
        "credd",
        "cores",
        "to 1."
    );
    let one = by_hand(&bench, old, stores, 1)?;
    one.print("condor_store_cred, one after another", None);
    by_hand(&bench, old, stores, 8)?.print("condor_store_cred, 8 at once", Some(&one));
    for concurrency in [1, 8, 64] {
        for resume in [true, false] {
            let rate = ours(&bench, stores, concurrency, resume).await?;
            let session = if resume {
                "session resumed"
            } else {
                "a session each"
            };
            rate.print(
                &format!("credd-client, {concurrency} at once, {session}"),
                Some(&one),
            );
        }
    }
    connections(collector).await?;
    let credd = bench.credd();
    for held in credd.list(&bench.user).await? {
        if held.name.starts_with(SERVICE) {
            credd.delete(&bench.user, &held.name, None).await?;
        }
    }
    Ok(())
}

impl Bench {
    fn credd(&self) -> Credd {
        Credd::new(self.address.clone(), self.identity.clone(), Options::default())
    }

    fn used(&self) -> Result<Used, Failed> {
        Ok(Used {
            credd: cpu(self.credd)?,
            shared_port: cpu(self.shared_port)?,
            ours: ourselves()?,
        })
    }
}

/// What an open connection costs us: so many answers that are not read to their end.
async fn connections(collector: &str) -> Result<(), Failed> {
    const MANY: usize = 200;
    let collector = Collector::new(collector)?;
    let options = Options::default();
    let query = Query::all(Kind::Schedd, &["Name"]);
    let begin = async || collector.stream(&query, Limits::DEFAULT, &options).await;
    // what the first ones need is not theirs alone
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(begin().await?);
    }
    let before = resident()?;
    for _ in 0..MANY {
        open.push(begin().await?);
    }
    let grown = resident()?.saturating_sub(before);
    println!(
        "{} KiB of memory an open connection ({MANY} answers of a collector, begun)",
        grown / MANY
    );
    Ok(())
}

/// KiB of memory that are ours now.
fn resident() -> Result<usize, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}

fn credential() -> SecretBytes {
    let url = "https://vault.mtk.test:8200/v1/secret/oauth/creds/dune/bench:production";
    SecretBytes::new(format!("{{\"vault_url\": \"{url}\"}}\n").into_bytes())
}

async fn ours(bench: &Arc<Bench>, stores: usize, concurrency: usize, resume: bool) -> Result<Rate, Failed> {
    let shared = Arc::new(bench.credd());
    let name = |n: usize| format!("c{concurrency}{resume}{n}");
    // the session that the others resume
    shared.query(&bench.user, SERVICE, None).await?;
    let (used, start) = (bench.used()?, Instant::now());
    let mut running = JoinSet::new();
    for n in 0..stores {
        if running.len() >= concurrency {
            running.join_next().await.transpose()?.transpose()?;
        }
        let (bench, shared, name) = (bench.clone(), shared.clone(), name(n));
        running.spawn(async move {
            let json = credential();
            let credd = if resume { shared } else { Arc::new(bench.credd()) };
            let stored = credd.store(&bench.user, SERVICE, Some(&name), &json);
            stored.await.map(drop).map_err(Failed::from)
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(Rate {
        stores,
        commands: 3 * stores,
        seconds: start.elapsed().as_secs_f64(),
        used: bench.used()? - used,
    })
}

fn by_hand(bench: &Bench, command: &[String], stores: usize, concurrency: usize) -> Result<Rate, Failed> {
    let (program, words) = command.split_first().ok_or("no condor_store_cred")?;
    let (used, start) = (bench.used()?, Instant::now());
    let mut running = std::collections::VecDeque::new();
    let finish = |child: std::process::Child| -> Result<(), Failed> {
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(format!("condor_store_cred failed: {}", String::from_utf8_lossy(&said)).into())
    };
    for n in 0..stores {
        if running.len() >= concurrency
            && let Some(child) = running.pop_front()
        {
            finish(child)?;
        }
        let name = format!("{SERVICE}_o{concurrency}n{n}");
        let mut store = Command::new(program);
        store.args(words.iter().map(|word| word.replace("{}", &name)));
        let piped = store
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        running.push_back(piped.spawn()?);
    }
    for child in running {
        finish(child)?;
    }
    Ok(Rate {
        stores,
        commands: stores,
        seconds: start.elapsed().as_secs_f64(),
        used: bench.used()? - used,
    })
}

/// A process that stands still until this is dropped.
struct Frozen(u32);

impl Frozen {
    fn new(pid: u32) -> Result<Self, Failed> {
        signal(pid, "STOP").map(|()| Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // it may have ended meanwhile
        let _gone = signal(self.0, "CONT");
    }
}

fn signal(pid: u32, name: &str) -> Result<(), Failed> {
    let done = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status()?;
    done.success()
        .then_some(())
        .ok_or_else(|| format!("process {pid} cannot be sent SIG{name}").into())
}

/// The processes of this name that read this configuration.
fn processes(name: &str, config: &str) -> Result<Vec<u32>, Failed> {
    let wanted = format!("CONDOR_CONFIG={config}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let read = |file: &str| std::fs::read(path.join(file)).unwrap_or_default();
        let is_it = String::from_utf8_lossy(&read("cmdline")).contains(name);
        if is_it
            && read("environ")
                .split(|b| *b == 0)
                .any(|word| word == wanted.as_bytes())
        {
            found.push(pid);
        }
    }
    Ok(found)
}

fn process(name: &str, config: &str) -> Result<u32, Failed> {
    let found = processes(name, config)?;
    let first = found.first().copied();
    first.ok_or_else(|| format!("no {name} runs with {config}").into())
}

/// Seconds of CPU time a process of one thread has had.
fn cpu(process: u32) -> Result<f64, Failed> {
    let text = std::fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    let nanoseconds: u64 = text.split(' ').next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanoseconds as f64 / 1e9)
}

/// Seconds of CPU time we have had, all threads together: to the hundredth, which is what the kernel tells of a process.
fn ourselves() -> Result<f64, Failed> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // behind the name, which may hold anything: state is the third field, utime and stime the 14th and 15th
    let (_, fields) = text.rsplit_once(')').ok_or("a stat without a name")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>()?;
    }
    Ok(ticks as f64 / 100.0)
}
