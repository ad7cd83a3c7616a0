//! `cargo xtask fuzz`: the oracles, fed by libFuzzer.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    say,
    steps::{root, run},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which targets, all if none is named
    targets: Vec<String>,
    /// Seconds for each
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

fn targets() -> Result<Vec<String>> {
    Ok(std::fs::read_dir(root().join("fuzz/fuzz_targets"))
        .context("cannot read the fuzz targets")?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect())
}

/// All targets, in this time together.
pub(crate) fn all_for(time: Duration) -> Result<()> {
    let targets = targets()?;
    let count = u64::try_from(targets.len()).unwrap_or(1).max(1);
    let seconds = u32::try_from(time.as_secs() / count).unwrap_or(u32::MAX).max(1);
    fuzz(&Arguments { targets, seconds }).map(drop)
}

/// Runs the targets one after another; each begins with what it has found before and with the fixtures. Wants cargo-fuzz
/// and a nightly compiler, which nothing else here does.
pub(crate) fn fuzz(arguments: &Arguments) -> Result<ExitCode> {
    let folder = root().join("fuzz");
    let known = targets()?;
    let targets = if arguments.targets.is_empty() {
        &known
    } else {
        &arguments.targets
    };
    if let Some(other) = targets.iter().find(|target| !known.contains(target)) {
        bail!("{other} is no fuzz target: {}", known.join(", "));
    }
    for target in targets {
        let corpus = folder.join("corpus").join(target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
        // not as the cargo that runs us: that is of another toolchain, and its variables would follow
        run(Command::new("cargo")
            .args(["+nightly", "fuzz", "run", target])
            .arg(&corpus)
            .arg(root().join("fixtures/fuzz-regressions").join(target))
            .args(["--", "-max_len=8192", "-timeout=10", "-rss_limit_mb=1024"])
            .arg("-print_final_stats=1")
            .arg(format!("-max_total_time={}", arguments.seconds))
            .env_remove("RUSTUP_TOOLCHAIN")
            .current_dir(&folder))
        .context("a finding lies in fuzz/artifacts: fix it, and add it to fixtures/fuzz-regressions")?;
        say::people(&format!("{target}: nothing found in {} s", arguments.seconds));
    }
    Ok(ExitCode::SUCCESS)
}
