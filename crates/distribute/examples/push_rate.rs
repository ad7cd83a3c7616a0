//! How many files a second come onto nodes, and whose CPU time that is. `cargo xtask bench push` runs it inside the
//! test bed, after the same with rsync.
//!
//! push_rate KEY KNOWN-HOSTS ADDRESS-PREFIX PORT SERVICES NODES
//!
//! Each service has a session of its own to each node, with three files, though they share an account here; mtk itself
//! would bring all of an account's files in one.

#![expect(clippy::print_stdout, reason = "a measurement is for people")]

use std::{error::Error, path::PathBuf, time::Instant};

use distribute::{File, Gate, Limits, Login, Mode, Node, Options, Placed, place};
use tokio::task::JoinSet;

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [key, known_hosts, prefix, port, services, nodes] = words.as_slice() else {
        return Err("usage: push_rate KEY KNOWN-HOSTS ADDRESS-PREFIX PORT SERVICES NODES".into());
    };
    let (port, services, nodes): (u16, usize, usize) = (port.parse()?, services.parse()?, nodes.parse()?);
    let to: Vec<Node> = (1..=nodes)
        .map(|n| Node {
            host: format!("{prefix}{n}"),
            port,
            user: "dunepro".to_owned(),
            known_hosts: vec![PathBuf::from(known_hosts)],
            login: Login::PublicKey { key: key.into() },
            options: Options::default(),
        })
        .collect();
    for (what, expected) in [("cold", Placed::Written), ("unchanged", Placed::Unchanged)] {
        let gate = Gate::default();
        let (own, all, began) = (own_cpu()?, all_cpu()?, Instant::now());
        let mut sessions = JoinSet::new();
        for service in 0..services {
            for node in &to {
                let (gate, node) = (gate.clone(), node.clone());
                sessions.spawn(async move { bring(&gate, &node, service, expected).await });
            }
        }
        while let Some(done) = sessions.join_next().await {
            done??;
        }
        let (took, own, all) = (began.elapsed().as_secs_f64(), own_cpu()? - own, all_cpu()? - all);
        println!("{what} {took:.3} {own:.2} {all:.2}");
    }
    Ok(())
}

/// Three files of one service to one node, all with this outcome.
async fn bring(gate: &Gate, node: &Node, service: usize, expected: Placed) -> Result<(), Failed> {
    let files = ["default", "service", "role"].map(|kind| File {
        path: format!("/tmp/bench-{}-{service}-{kind}", node.host),
        content: "h".repeat(100).into(),
        mode: 0o400,
    });
    let report = place(gate, node, &files, Mode::Write, &Limits::default()).await?;
    for landed in report.files {
        if landed?.placed != expected {
            return Err(format!("a file of {} was not {expected:?}", node.host).into());
        }
    }
    Ok(())
}

/// The hundredths of a second the kernel counts in.
const TICK: f64 = 0.01;

/// Seconds of CPU this process has used.
fn own_cpu() -> Result<f64, Failed> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace().skip(11).take(2);
    Ok(sum(fields)? * TICK)
}

/// Seconds of CPU the whole machine has used, without waiting.
fn all_cpu() -> Result<f64, Failed> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let busy = fields
        .enumerate()
        .filter(|(n, _)| ![3, 4].contains(n))
        .map(|(_, field)| field);
    Ok(sum(busy.take(6))? * TICK)
}

fn sum<'a>(fields: impl Iterator<Item = &'a str>) -> Result<f64, Failed> {
    fields.map(|field| Ok(field.parse::<f64>()?)).sum()
}
