//! `cargo xtask test`: everything that must hold, against the real servers. What CI runs.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::{
    bed::{Bed, Cache, Owner},
    tools,
};

use crate::steps::{Steps, cargo, root, run};

/// Runs all checks; `only` narrows the integration tests to names that contain it.
pub(crate) fn test(only: Option<&str>) -> Result<()> {
    let mut steps = Steps::default();
    let result = match only {
        Some(name) => integration(&mut steps, &[name.to_owned()]),
        None => all(&mut steps),
    };
    steps.print();
    result
}

fn all(steps: &mut Steps) -> Result<()> {
    steps.step("prerequisites", testkit::prerequisites::ensure)?;
    let cache = Cache::open()?;
    // The parts of the test bed come from registries, mostly; the compiler has work of its own meanwhile.
    let parts = {
        let cache = cache.clone();
        std::thread::spawn(move || testkit::bed::prepare(&cache))
    };
    steps.step("formatting", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.step("lints", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    })?;
    steps.step("documentation", || {
        run(cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("dependencies", || {
        let deny = tools::cargo_deny(&cache)?.join("cargo-deny");
        run(Command::new(deny).args(["check", "bans", "licenses", "sources"]).current_dir(root()))
    })?;
    steps.step("unit tests", || {
        run(&mut cargo(&["test", "--workspace", "--exclude", "mtk-tests", "--locked"]))
    })?;
    steps.step("parts of the test bed", || match parts.join() {
        Ok(done) => done.map(drop),
        Err(_) => bail!("making the parts of the test bed panicked"),
    })?;
    steps.step("tests of the stand-in secrets engine", || {
        run(Command::new("go").args(["test", "./..."]).current_dir(root().join("crates/testkit/servers/oauthapp")))
    })?;
    integration(steps, &[])
}

/// Brings a bed up that lives and dies with us, and runs the integration tests in it.
fn integration(steps: &mut Steps, filter: &[String]) -> Result<()> {
    let tests = steps.step("building mtk and its integration tests", || {
        run(&mut cargo(&["build", "--package", "mtk", "--locked"]))?;
        test_binary()
    })?;
    let bed = steps.step("test bed up", || Bed::up(&format!("test-{}", std::process::id()), Owner::Parent))?;
    let result = steps.step("integration tests", || {
        // One after another: some of them break a server.
        run(bed.exec(&tests).arg("--test-threads=1").args(filter))
    });
    steps.step("test bed down", || bed.down())?;
    result
}

/// Builds the integration tests and says where their binary is.
fn test_binary() -> Result<PathBuf> {
    let output = cargo(&["test", "--package", "mtk-tests", "--no-run", "--locked", "--message-format=json"])
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
        .find_map(|message| message.get("executable").and_then(Value::as_str).map(PathBuf::from))
        .context("cargo named no binary of the integration tests")
}
