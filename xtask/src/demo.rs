//! `cargo xtask demo`: one token all the way, on real servers, and the real consumers that use it.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use testkit::{
    bed::{Bed, Owner, nodes, pool},
    consumers,
    prerequisites::{self, For},
    site::{ACCESS_POINTS, NODES, SERVICES},
};

use crate::{
    say,
    steps::{Steps, cargo, root, run},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Leave the test bed up
    #[arg(long)]
    keep: bool,
}

/// The credmon looks at its directory every minute at the latest.
const CREDMON: Duration = Duration::from_secs(90);

/// Runs the demonstration; with `--keep` the bed stays up for the reader to play with.
pub(crate) fn demo(arguments: &Arguments) -> Result<ExitCode> {
    let keep = arguments.keep;
    let mut steps = Steps::default();
    steps.step("prerequisites", || {
        prerequisites::ensure(&[For::Bed, For::Build], &say::people)
    })?;
    steps.step("building mtk", || {
        run(&mut cargo(&["build", "--package", "mtk", "--locked"]))
    })?;
    let owner = if keep { Owner::Nobody } else { Owner::Parent };
    let bed = steps.step("test bed up", || Bed::up("demo", owner, &say::people))?;
    let shown = show(&mut steps, &bed);
    if keep {
        what_next(&bed);
    } else {
        drop(bed);
    }
    steps.print();
    shown.map(|()| ExitCode::SUCCESS)
}

fn show(steps: &mut Steps, bed: &Bed) -> Result<()> {
    let state = bed.layout().dir.join("demo-state");
    if state.exists() {
        std::fs::remove_dir_all(&state).context("the state of an earlier demonstration cannot be removed")?;
    }
    steps.step("mtk run: from seven keytabs to every credd and node", || {
        run(mtk(bed)?.arg("run"))
    })?;
    steps.step("mtk run again: nothing is due", || run(mtk(bed)?.arg("run")))?;
    steps.step("mtk status: how long everything lives", || {
        run(mtk(bed)?.arg("status"))
    })?;
    steps.step(
        "HTCondor's credmon made bearer tokens for jobs from what lies in the credds",
        || credmon(bed),
    )?;
    steps.step(
        "htgettoken on each node read a bearer token with only the pushed file",
        || htgettoken(bed),
    )
}

fn mtk(bed: &Bed) -> Result<Command> {
    let dir = &bed.layout().dir;
    let mut command = bed.command(root().join("target/debug/mtk"))?;
    command.arg("--config").arg(dir.join("managedTokens.yml"));
    command.arg("--state-dir").arg(dir.join("demo-state"));
    Ok(command)
}

fn credmon(bed: &Bed) -> Result<()> {
    let until = Instant::now() + CREDMON;
    for ap in ACCESS_POINTS {
        for service in SERVICES {
            let name = format!("{}/{}.use", service.account, service.condor);
            let path = inside(bed, &pool::credentials(bed.layout(), ap.server).join(&name))?;
            let token = wait_for(&path, until)
                .with_context(|| format!("the credmon of {} made no {name}", ap.name))?;
            say::data(&format!(
                "  {:16} {name:36} {}",
                ap.name,
                describe(token.trim(), service.account)?
            ));
        }
    }
    Ok(())
}

fn htgettoken(bed: &Bed) -> Result<()> {
    for node in NODES {
        for service in SERVICES {
            let asked = consumers::htgettoken(&nodes::root_of(bed.layout(), node.server), &service);
            let mut command = bed.command("env")?;
            command.arg("-i");
            for (name, value) in asked.get_envs() {
                let mut pair = name.to_os_string();
                pair.push("=");
                pair.push(value.unwrap_or_default());
                command.arg(pair);
            }
            command.arg(asked.get_program()).args(asked.get_args());
            let output = command.output().context("htgettoken cannot be run")?;
            if !output.status.success() {
                bail!(
                    "htgettoken for {} on {}: {}",
                    service.condor,
                    node.name,
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            let token = String::from_utf8_lossy(&output.stdout).into_owned();
            let whose = format!("{} as {}", service.condor, service.account);
            say::data(&format!(
                "  {:16} {whose:36} {}",
                node.name,
                describe(token.trim(), service.account)?
            ));
        }
    }
    Ok(())
}

/// A path of the bed's mount namespace as we see it from outside.
fn inside(bed: &Bed, path: &Path) -> Result<PathBuf> {
    let root = PathBuf::from(format!("/proc/{}/root", bed.pid()?));
    Ok(root.join(path.strip_prefix("/").unwrap_or(path)))
}

fn wait_for(path: &Path, until: Instant) -> Result<String> {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) => return Ok(text),
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(200)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a bearer token says of itself, and that it is the right robot's; never the token.
fn describe(token: &str, account: &str) -> Result<String> {
    let claims = consumers::claims(token).context("this is not a bearer token")?;
    let text = |key: &str| {
        claims
            .get(key)
            .map(|v| v.to_string().replace('"', ""))
            .unwrap_or_default()
    };
    if text("sub") != account {
        bail!("this bearer token is {}'s, not {account}'s", text("sub"));
    }
    let ends = claims.get("exp").and_then(serde_json::Value::as_i64).unwrap_or(0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let left = ends - i64::try_from(now)?;
    if left <= 0 {
        bail!("this bearer token has ended");
    }
    Ok(format!(
        "sub {}, groups {}, {} min left",
        text("sub"),
        text("wlcg.groups"),
        left / 60
    ))
}

fn what_next(bed: &Bed) {
    let dir = bed.layout().dir.display();
    say::people(&format!(
        "\nThe test bed is up. Try:\n\
         \n  cargo xtask testbed exec --name demo -- target/debug/mtk --config {dir}/managedTokens.yml --state-dir {dir}/demo-state status\
         \n  cargo xtask testbed ctl --name demo stop ap2      # and run mtk again: one access point down\
         \n  cargo xtask testbed logs --name demo vault\
         \n  cargo xtask testbed down --name demo"
    ));
}
