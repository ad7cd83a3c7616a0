//! `cargo xtask test`: everything that must hold, against the real servers. What CI runs.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use testkit::{
    bed::{Bed, Cache, Owner, parts::Parts, pool_sid},
    prerequisites::{self, For},
    tools,
};

use crate::{
    api, man, say,
    steps::{Steps, cargo, root, run},
    testbed,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the integration tests whose name contains one of these
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Runs all checks, or some of the integration tests.
pub(crate) fn test(arguments: &Arguments) -> Result<ExitCode> {
    let mut steps = Steps::default();
    let result = if arguments.only.is_empty() {
        all(&mut steps)
    } else {
        integration(&mut steps, &arguments.only)
    };
    steps.print();
    result.map(|()| ExitCode::SUCCESS)
}

fn all(steps: &mut Steps) -> Result<()> {
    steps.step("prerequisites", || {
        prerequisites::ensure(&[For::Bed, For::Build, For::Tests], &say::people)
    })?;
    let cache = Cache::user()?;
    // The parts of the test bed come from registries, mostly; the compiler has work of its own meanwhile.
    let parts = {
        let cache = cache.clone();
        std::thread::spawn(move || {
            let parts = Parts::make(&cache, &say::people)?;
            pool_sid::prepare(&cache).map(|_| parts)
        })
    };
    steps.step("formatting", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.step("lints", || {
        run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    steps.step("documentation", || {
        run(cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("public interfaces", api::check)?;
    steps.step("dependencies", || {
        let deny = tools::cargo_deny(&cache)?.join("cargo-deny");
        run(Command::new(deny)
            .args(["check", "bans", "licenses", "sources"])
            .current_dir(root()))
    })?;
    steps.step("unit tests", || {
        run(&mut cargo(&[
            "test",
            "--workspace",
            "--exclude",
            "mtk-tests",
            "--locked",
        ]))
    })?;
    // as somebody without a C library to link has it
    steps.step("credd-client without Kerberos", || {
        run(&mut cargo(&[
            "test",
            "--package",
            "mtk-credd-client",
            "--no-default-features",
            "--locked",
        ]))
    })?;
    steps.step("manual", man::check)?;
    steps.step("parts of the test bed", || match parts.join() {
        Ok(done) => done.map(drop),
        Err(_) => bail!("making the parts of the test bed panicked"),
    })?;
    steps.step("tests of the stand-in secrets engine", || {
        run(Command::new("go")
            .args(["test", "./..."])
            .current_dir(root().join("crates/testkit/servers/oauthapp")))
    })?;
    steps.step("what the test bed promises", || testbed::check::run().map(drop))?;
    integration(steps, &[])
}

/// Brings a bed up that lives and dies with us, and runs the integration tests in it.
fn integration(steps: &mut Steps, filter: &[String]) -> Result<()> {
    let tests = steps.step("building mtk and its integration tests", || {
        run(&mut cargo(&["build", "--package", "mtk", "--locked"]))?;
        test_binary()
    })?;
    let bed = steps.step("test bed up", || {
        Bed::up(
            &format!("test-{}", std::process::id()),
            Owner::Parent,
            &say::people,
        )
    })?;
    // only these want it
    let second = ["credd_commands", "condor_config", "storer"];
    let wanted = |name: &String| {
        second
            .iter()
            .any(|test| test.contains(name.as_str()) || name.starts_with(test))
    };
    if filter.is_empty() || filter.iter().any(wanted) {
        steps.step("second pool up", || bed.add_second_pool(&say::people))?;
    }
    let result = steps.step("integration tests", || {
        // One after another: some of them break a server.
        run(bed.command(&tests)?.arg("--test-threads=1").args(filter))
    });
    // It goes down with this, as it would if we were killed.
    drop(bed);
    result
}

/// Builds the integration tests and says where their binary is.
pub(crate) fn test_binary() -> Result<PathBuf> {
    let output = cargo(&[
        "test",
        "--package",
        "mtk-tests",
        "--no-run",
        "--locked",
        "--message-format=json",
    ])
    .stderr(Stdio::inherit())
    .output()
    .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the integration tests do not build");
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some("it"))
        .find_map(|message| {
            message
                .get("executable")
                .and_then(Value::as_str)
                .map(PathBuf::from)
        })
        .context("cargo named no binary of the integration tests")
}

/// Runs the integration tests of one name, in an environment with more in it. A name that no test has is an error: libtest
/// calls it a success.
pub(crate) fn run_named(
    bed: &Bed,
    tests: &Path,
    name: &str,
    variables: &[&str],
    flags: &[&str],
) -> Result<()> {
    let command = |more: &[&str]| -> Result<Command> {
        let mut command = bed.command("env")?;
        command
            .args(variables)
            .arg(tests)
            .args([name])
            .args(flags)
            .args(more);
        Ok(command)
    };
    let listed = command(&["--list"])?.output().context("cannot list the tests")?;
    if !String::from_utf8_lossy(&listed.stdout).contains(": test") {
        bail!("no integration test is called {name}");
    }
    run(&mut command(&["--nocapture"])?)
}
