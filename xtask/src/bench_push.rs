//! `cargo xtask bench push`: files a second onto nodes, beside rsync over ssh as the Go service runs it.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{
    bed::{Bed, nodes},
    site::KEY_NODE,
};

use crate::{
    measured::{self, Release},
    say,
    steps::{Steps, root},
};

/// Files of one service on one node.
const FILES: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many services; may be given several times
    #[arg(long, value_name = "N", default_values_t = [1, 20])]
    services: Vec<u32>,
    /// How many nodes, at most 250; may be given several times
    #[arg(long, value_name = "N", default_values_t = [3, 60])]
    nodes: Vec<u32>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(too_many) = arguments.nodes.iter().find(|nodes| !(1..=250).contains(*nodes)) {
        bail!("{too_many} nodes: from 1 to 250 can be had");
    }
    let mut steps = Steps::default();
    let bed = measured::begin(&mut steps, &[Release::Example("mtk-distribute", "push_rate")])?;
    say::data(
        "services  nodes   files  rsync files/s  mtk files/s   times  mtk unchanged/s  mtk's CPU  of all CPU used",
    );
    for nodes in &arguments.nodes {
        for services in &arguments.services {
            let step = format!("measuring {services} services, {nodes} nodes");
            // said at once: the next may take minutes
            steps.step(&step, || measure(&bed, *services, *nodes))?.print();
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds of wall clock and of CPU.
#[derive(Default)]
struct Took {
    wall: f64,
    own: f64,
    all: f64,
}

struct Figures {
    services: u32,
    nodes: u32,
    old: f64,
    cold: Took,
    unchanged: Took,
}

impl Figures {
    fn print(&self) {
        let files = f64::from(self.services * self.nodes * FILES);
        say::data(&format!(
            "{:>8} {:>6} {files:>7} {:>14.1} {:>12.1} {:>6.1}x {:>16.1} {:>8.2} s {:>14.0} %",
            self.services,
            self.nodes,
            files / self.old,
            files / self.cold.wall,
            self.old / self.cold.wall,
            files / self.unchanged.wall,
            self.cold.own,
            100.0 * self.cold.own / self.cold.all,
        ));
    }
}

fn measure(bed: &Bed, services: u32, nodes: u32) -> Result<Figures> {
    let mut command = bed.command("bash")?;
    command
        .arg(root().join("crates/testkit/servers/nodes/push-bench.sh"))
        .arg(nodes::root_of(bed.layout(), KEY_NODE.server))
        .arg(root().join("target/release/examples/push_rate"))
        .args([services.to_string(), nodes.to_string()]);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("the measurement cannot be run")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("the measurement ended with {}: {said}", output.status);
    }
    for note in said.lines().filter_map(|line| line.strip_prefix("note ")) {
        say::people(note);
    }
    let [old, ..] = row(&said, "old")?;
    let took = |name| row(&said, name).map(|[wall, own, all]| Took { wall, own, all });
    Ok(Figures {
        services,
        nodes,
        old,
        cold: took("cold")?,
        unchanged: took("unchanged")?,
    })
}

/// The numbers behind a name; those that are not there are 0.
fn row(said: &str, name: &str) -> Result<[f64; 3]> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.with_context(|| format!("nothing was measured as {name:?}: {said}"))?;
    let mut numbers = [0.0; 3];
    for (to, text) in numbers.iter_mut().zip(line.split_whitespace()) {
        *to = text.parse().with_context(|| format!("{text:?} is no number"))?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_names() {
        let said = "old 12.5\ncold 1.0 0.5 2.0\n";
        assert_eq!(row(said, "old").unwrap(), [12.5, 0.0, 0.0]);
        assert_eq!(row(said, "cold").unwrap(), [1.0, 0.5, 2.0]);
        assert!(row(said, "unchanged").is_err());
    }
}
