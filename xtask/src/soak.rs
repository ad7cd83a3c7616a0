//! `cargo xtask soak`: what takes hours. Fuzzing, `mtk` killed at any moment, and growth over many runs.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::Value;
use testkit::{
    bed::{Bed, nodes},
    site::{ACCESS_POINTS, COLLECTOR, NODES, SERVICES},
};

use crate::{
    fuzz,
    measured::{self, Release},
    say,
    steps::{Steps, cargo, root, run},
    test::{run_named, test_binary},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Minutes for all of it together
    #[arg(long, default_value_t = 120)]
    minutes: u64,
    /// Only these parts
    #[arg(long, value_enum)]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Every fuzz target
    Fuzz,
    /// `mtk run` killed at a random moment, and run again: all must be fresh
    Kill,
    /// Memory, open files and the state directory over many runs
    Grow,
    /// Files onto 450 nodes, alone and beside 50 that hang after their banner
    Nodes,
}

const ALL: [Part; 4] = [Part::Fuzz, Part::Kill, Part::Grow, Part::Nodes];

/// A large site.
const MANY_NODES: u32 = 500;

pub(crate) fn soak(arguments: &Arguments) -> Result<ExitCode> {
    let parts: &[Part] = if arguments.only.is_empty() {
        &ALL
    } else {
        &arguments.only
    };
    // the nodes take as long as they take: a minute or two
    let timed = parts.iter().filter(|part| **part != Part::Nodes).count();
    let count = u32::try_from(timed).unwrap_or(1);
    let each = Duration::from_secs(60 * arguments.minutes) / count.max(1);
    let mut steps = Steps::default();
    if parts.contains(&Part::Fuzz) {
        steps.step("fuzzing", || fuzz::all_for(each))?;
    }
    if parts.iter().any(|part| *part != Part::Fuzz) {
        measured::prepare(&mut steps)?;
        if timed > usize::from(parts.contains(&Part::Fuzz)) {
            let endure = Release::Example("mtk-credd-client", "endure");
            measured::build(&mut steps, &[Release::Mtk, endure])?;
        }
        let bed = measured::bed(&mut steps, "soak")?;
        if parts.contains(&Part::Kill) {
            steps.step("killing", || kill(&bed, each))?;
        }
        if parts.contains(&Part::Grow) {
            steps.step("growing", || grow(&bed, each))?;
        }
        if parts.contains(&Part::Nodes) {
            let tests = steps.step("building the integration tests", || {
                run(&mut cargo(&["build", "--package", "mtk", "--locked"]))?;
                test_binary()
            })?;
            steps.step("many nodes, some of them hanging", || many_nodes(&bed, &tests))?;
        }
    }
    steps.print();
    Ok(ExitCode::SUCCESS)
}

/// A number below `bound`. What is drawn need not be repeatable: what went wrong is in the logs of the bed.
fn random(bound: u64) -> u64 {
    RandomState::new().hash_one(()) % bound.max(1)
}

/// `mtk` of the bed with a state directory.
struct Mtk<'a> {
    bed: &'a Bed,
    state: PathBuf,
}

/// What a run came to.
struct Ran {
    took: Duration,
    report: Value,
    /// The most memory seen, in KiB, and the most open files.
    peak: (u64, usize),
}

impl<'a> Mtk<'a> {
    fn new(bed: &'a Bed) -> Self {
        let state = bed.layout().dir.join("soak-state");
        Self { bed, state }
    }

    fn command(&self, before: &[&str]) -> Result<Command> {
        let mut command = self.bed.command("env")?;
        command.args(before);
        command.arg(root().join("target/release/mtk"));
        command
            .arg("--config")
            .arg(self.bed.layout().dir.join("managedTokens.yml"));
        command.arg("--state-dir").arg(&self.state);
        command.args(["run", "--output", "json"]).stdin(Stdio::null());
        Ok(command)
    }

    /// To its end, which must be a good one.
    fn run(&self) -> Result<Ran> {
        let began = Instant::now();
        let mut child = self
            .command(&[])?
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("mtk cannot be run")?;
        let out = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut out) = out {
                // what is missing does not parse
                let _cut = std::io::Read::read_to_end(&mut out, &mut text);
            }
            text
        });
        let mut peak = (0, 0);
        let status = loop {
            if let Some(status) = child.try_wait().context("mtk cannot be waited for")? {
                break status;
            }
            if let Some((kib, files)) = seen(child.id()) {
                peak = (peak.0.max(kib), peak.1.max(files));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = began.elapsed();
        let text = reader.join().unwrap_or_default();
        if !status.success() {
            bail!("mtk run ended with {status}:\n{}", String::from_utf8_lossy(&text));
        }
        let report = serde_json::from_slice(&text).context("mtk's report")?;
        Ok(Ran { took, report, peak })
    }

    /// For so long, and then no more: as the power goes.
    ///
    /// Says whether it still ran: whoever was quicker has done well.
    fn killed_after(&self, time: Duration) -> Result<bool> {
        let seconds = format!("{:.3}", time.as_secs_f64());
        let status = self
            .command(&["timeout", "-s", "KILL", &seconds])?
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("mtk cannot be run")?;
        // 137 is the kill
        match status.code() {
            Some(0) => Ok(false),
            Some(137) | None => Ok(true),
            _ => bail!("mtk run ended with {status} before it was killed"),
        }
    }

    fn forget(&self) -> Result<()> {
        if self.state.exists() {
            std::fs::remove_dir_all(&self.state).context("the state of the last turn cannot be removed")?;
        }
        Ok(())
    }
}

/// Memory (KiB) and open files of what a process started, if it still runs.
fn seen(starter: u32) -> Option<(u64, usize)> {
    let children = std::fs::read_to_string(format!("/proc/{starter}/task/{starter}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).ok()?;
    let kib = measured::peak_kib(&status)?;
    let files = std::fs::read_dir(format!("/proc/{child}/fd")).ok()?.count();
    Some((kib, files))
}

/// How many edges a report has, each of which must be as it should be.
fn all_fresh(report: &Value) -> Result<usize> {
    let list = |of: &Value, name: &str| of.get(name).and_then(Value::as_array).cloned();
    let services = list(report, "services").context("a report without services")?;
    let edges: Vec<Value> = services
        .iter()
        .filter_map(|service| list(service, "edges"))
        .flatten()
        .collect();
    for edge in &edges {
        let outcome = edge.get("outcome").and_then(Value::as_str);
        if !matches!(outcome, Some("done" | "fresh")) {
            bail!("not as it should be: {edge}");
        }
    }
    if edges.is_empty() {
        bail!("a run without edges proves nothing");
    }
    Ok(edges.len())
}

/// Killed at any moment of a cold or a warm run; the next run puts everything right, and then there is nothing to do.
fn kill(bed: &Bed, time: Duration) -> Result<()> {
    let mtk = Mtk::new(bed);
    mtk.forget()?;
    let cold = mtk.run()?.took;
    let (mut turns, mut cut, mut edges, mut left) = (0_u64, 0_u64, 0, 0);
    let end = Instant::now() + time;
    while turns < 3 || Instant::now() < end {
        // half of them from nothing, so that every hop is under way when it ends
        if turns.is_multiple_of(2) {
            mtk.forget()?;
        }
        let millis = u64::try_from(cold.as_millis()).unwrap_or(1000);
        for _ in 0..=random(3) {
            cut += u64::from(mtk.killed_after(Duration::from_millis(10 + random(millis)))?);
        }
        edges = all_fresh(&mtk.run()?.report).with_context(|| format!("turn {turns}"))?;
        left = left.max(temporary(bed)?);
        turns += 1;
    }
    say::people(&format!(
        "{cut} runs killed in {turns} turns: after each all {edges} edges were fresh; at most {left} temporary files on the nodes"
    ));
    ensure!(
        cut > 0,
        "every run was over before it was killed: nothing is proven"
    );
    // an hour old they are swept, and until then they may be another mtk's
    Ok(())
}

/// Temporary files on all nodes.
fn temporary(bed: &Bed) -> Result<usize> {
    let mut find = bed.command("find")?;
    find.args(NODES.map(|node| nodes::tmp_of(bed.layout(), node.server)));
    let output = find
        .args(["-name", ".mtk-*"])
        .output()
        .context("the nodes cannot be looked at")?;
    ensure!(
        output.status.success(),
        "the nodes cannot be looked at: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout.iter().filter(|byte| **byte == b'\n').count())
}

/// Bytes of all files below a directory.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Runs of mtk one after another, and one process that speaks to credds and collectors without end.
fn grow(bed: &Bed, time: Duration) -> Result<()> {
    let mtk = Mtk::new(bed);
    mtk.forget()?;
    mtk.run()?;
    let end = Instant::now() + time / 2;
    let (mut runs, mut first, mut most) = (0_u64, None, (0, 0, 0));
    while runs < 20 || Instant::now() < end {
        let ran = mtk.run()?;
        all_fresh(&ran.report)?;
        runs += 1;
        let now = (ran.peak.0, ran.peak.1, size(&mtk.state));
        // the first ten say what is usual
        if runs == 10 {
            first = Some(most);
            most = (0, 0, 0);
        }
        most = (most.0.max(now.0), most.1.max(now.1), most.2.max(now.2));
    }
    let first = first.context("fewer than ten runs")?;
    ensure!(
        first.0 > 0 && first.1 > 0 && first.2 > 0,
        "nothing was measured: {first:?}"
    );
    say::people(&format!(
        "{runs} runs of mtk: at most {} KiB, {} open files and {} KiB of state in the first ten; {} KiB, {} and {} KiB later",
        first.0,
        first.1,
        first.2 / 1024,
        most.0,
        most.1,
        most.2 / 1024
    ));
    // a fifth, and what a page more or less makes
    let grown = |before: u64, now: u64| now > before + before / 5 + 4096;
    if grown(first.0, most.0) || most.1 > first.1 + 8 || grown(first.2, most.2 / 2) {
        bail!("mtk grows from run to run");
    }
    let [ap, ..] = ACCESS_POINTS;
    let [service, ..] = SERVICES;
    let mut command = bed.command(root().join("target/release/examples/endure"))?;
    command.arg(format!("{}:{}?sock=credd", ap.name, ap.port));
    command.arg(COLLECTOR.name);
    command.arg(bed.layout().keytab(service.account));
    command.args([&service.account().principal(), service.account]);
    command.arg((time / 2).as_secs().to_string());
    run(&mut command).context("credd-client grows")
}

/// The integration test of nodes that hang, with as many as a large site has.
fn many_nodes(bed: &Bed, tests: &Path) -> Result<()> {
    let many = format!("MTK_MANY_NODES={MANY_NODES}");
    run_named(bed, tests, "ssh_limits::nodes_that_hang", &[many.as_str()], &[])
        .context("nodes that hang cost the others something")
}
