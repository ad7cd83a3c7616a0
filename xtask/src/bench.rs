//! `cargo xtask bench run`: mtk beside the way it replaces, for the same edges, in one run on the test bed.

use std::{
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use testkit::{
    bed::Bed,
    site::{ACCESS_POINTS, NODES, SERVICES},
};

use crate::{
    bench_config, bench_credd, bench_push, bench_vault,
    measured::{self, Release},
    say,
    steps::{Steps, root},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// `mtk run`, cold and with nothing due, beside condor_vault_storer, htgettoken and rsync
    Run {
        /// Runs of each kind of mtk; the old way runs once cold and once idle for every two of them
        #[arg(long, default_value_t = 6)]
        runs: usize,
    },
    /// Reading, judging and planning a configuration of many services
    Config {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        services: usize,
    },
    /// Stores a second into one credd, beside condor_store_cred and the credd's CPU time
    Credd {
        /// Stores of each kind
        #[arg(long, default_value_t = 100)]
        stores: usize,
    },
    /// Files a second onto nodes, beside rsync over ssh as the Go service runs it
    Push(bench_push::Arguments),
    /// Tokens from Vault, beside htgettoken and beside the server's own time for a login
    Vault {
        /// Services, at most the 50 bulk robots
        #[arg(long, default_value_t = 50)]
        services: usize,
        /// Logins at each number of them at once
        #[arg(long, default_value_t = 1000)]
        logins: usize,
        /// Turns of mtk and htgettoken, cold and warm
        #[arg(long, default_value_t = 5)]
        turns: usize,
    },
}

pub(crate) fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let runs = match &arguments.what {
        What::Run { runs } => *runs,
        What::Config { services } => return bench_config::bench(*services),
        What::Credd { stores } => return bench_credd::bench(*stores),
        What::Vault {
            services,
            logins,
            turns,
        } => return bench_vault::bench(*services, *logins, *turns),
        What::Push(arguments) => return bench_push::bench(arguments),
    };
    let mut steps = Steps::default();
    let bed = measured::begin(&mut steps, &[Release::Mtk])?;
    let figures = steps.step("measuring", || measure(&bed, runs.max(2)))?;
    figures.print();
    Ok(ExitCode::SUCCESS)
}

/// Seconds of each run of each kind.
#[derive(Default)]
struct Figures {
    old_cold: Vec<f64>,
    old_idle: Vec<f64>,
    cold: Vec<f64>,
    idle: Vec<f64>,
    trusting: Vec<f64>,
    cold_requests: u64,
    idle_requests: u64,
}

fn measure(bed: &Bed, runs: usize) -> Result<Figures> {
    let dir = &bed.layout().dir;
    let list = dir.join("services");
    let lines: Vec<String> = SERVICES
        .iter()
        .map(|s| format!("{} {} {} {} {}\n", s.account, s.uid, s.issuer(), s.role, s.condor))
        .collect();
    std::fs::write(&list, lines.concat()).context("the list of services cannot be written")?;
    let mut figures = Figures::default();
    let state = dir.join("bench-state");
    for turn in 0..runs {
        if state.exists() {
            std::fs::remove_dir_all(&state).context("the state of the last turn cannot be removed")?;
        }
        let (took, report) = mtk(bed, &state, &[])?;
        figures.cold.push(took);
        figures.cold_requests = requests(&report)?;
        let (took, report) = mtk(bed, &state, &[])?;
        figures.idle.push(took);
        figures.idle_requests = requests(&report)?;
        figures.trusting.push(mtk(bed, &state, &["--no-verify"])?.0);
        // turn by turn, so that both ways see the machine in the same mood
        if turn % 2 == 0 {
            old_way(bed, &["forget".as_ref()])?;
            figures.old_cold.push(old_way(bed, &["run".as_ref(), &list])?);
            figures.old_idle.push(old_way(bed, &["run".as_ref(), &list])?);
        }
    }
    Ok(figures)
}

/// One `mtk run`, timed inside the bed from its start to its end.
fn mtk(bed: &Bed, state: &Path, more: &[&str]) -> Result<(f64, Value)> {
    let dir = &bed.layout().dir;
    let mut command = bed.command("bash")?;
    command.args(["-c", r#"TIMEFORMAT=%R; time "$@" 2>/dev/null"#, "bash"]);
    command.arg(root().join("target/release/mtk"));
    command
        .arg("--config")
        .arg(dir.join("managedTokens.yml"))
        .arg("--state-dir")
        .arg(state);
    command.args(["run", "--output", "json"]).args(more);
    let output = command.output().context("mtk cannot be run")?;
    if !output.status.success() {
        bail!(
            "mtk run ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
    }
    let took = seconds(&output.stderr)?;
    Ok((
        took,
        serde_json::from_slice(&output.stdout).context("mtk's report")?,
    ))
}

fn old_way(bed: &Bed, words: &[&Path]) -> Result<f64> {
    let mut command = bed.command("bash")?;
    command.args(["-c", r#"TIMEFORMAT=%R; time "$@" >&2"#, "bash"]);
    command
        .arg(root().join("crates/testkit/servers/pool/old-way.sh"))
        .args(words);
    let output = command
        .stdout(Stdio::null())
        .output()
        .context("the old way cannot be run")?;
    if !output.status.success() {
        bail!(
            "the old way ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    seconds(&output.stderr)
}

/// What bash's `time` wrote last.
fn seconds(stderr: &[u8]) -> Result<f64> {
    let text = String::from_utf8_lossy(stderr);
    let last = text.trim_end().lines().last().context("no time was taken")?;
    last.trim()
        .parse()
        .with_context(|| format!("{last:?} is not a time"))
}

fn requests(report: &Value) -> Result<u64> {
    report
        .pointer("/traffic/vault_requests")
        .and_then(Value::as_u64)
        .context("no count of requests")
}

impl Figures {
    fn print(&self) {
        let (old_cold, old_idle) = (median(&self.old_cold), median(&self.old_idle));
        say::data(&format!(
            "{} services, {} credds, {} nodes, {} turns; seconds, median (least to most)\n",
            SERVICES.len(),
            ACCESS_POINTS.len(),
            NODES.len(),
            self.cold.len()
        ));
        let row = |what: &str, figures: &[f64], old: Option<f64>| {
            let (least, most) = (quantile(figures, 0.0), quantile(figures, 1.0));
            let ratio = old.map_or_else(String::new, |old| {
                format!("{:>8.1}x faster", old / median(figures))
            });
            say::data(&format!(
                "{what:42} {:>8.3} ({least:.3} to {most:.3}){ratio}",
                median(figures)
            ));
        };
        row("old way, cold", &self.old_cold, None);
        row("mtk run, cold", &self.cold, Some(old_cold));
        row("old way, nothing due", &self.old_idle, None);
        row(
            "mtk run, nothing due, everything verified",
            &self.idle,
            Some(old_idle),
        );
        row("mtk run --no-verify, nothing due", &self.trusting, Some(old_idle));
        say::data(&format!(
            "\nVault requests: {} cold ({:.1} a service), {} with nothing due",
            self.cold_requests,
            to_f64(self.cold_requests) / to_f64(u64::try_from(SERVICES.len()).unwrap_or(1)),
            self.idle_requests
        ));
    }
}

pub(crate) fn to_f64(n: u64) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}

fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

/// The figure at this part of the sorted list; not a number if there is none.
pub(crate) fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a short list"
    )]
    let at = (part * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_time_is_the_last_line() {
        assert_eq!(seconds(b"noise\n0.123\n").unwrap(), 0.123);
        assert!(seconds(b"").is_err());
    }
}
