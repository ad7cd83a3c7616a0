//! Steps with a name and a time, as `test`, `demo` and `bench` print them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::say;

/// What is done with text that is committed and made from the code.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Committed {
    /// Write the text anew instead of comparing it
    #[arg(long)]
    pub(crate) write: bool,
}

/// Runs steps one after another and remembers how long each took.
#[derive(Default)]
pub(crate) struct Steps(Vec<(String, Duration)>);

impl Steps {
    /// Runs one step; its error carries its name.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        say::people(&format!("== {name}"));
        let began = Instant::now();
        let result = work().with_context(|| format!("the step \"{name}\" failed"));
        self.0.push((name.to_owned(), began.elapsed()));
        result
    }

    /// The times, a line each.
    pub(crate) fn print(&self) {
        for (name, took) in &self.0 {
            say::people(&format!("{:>7.1} s  {name}", took.as_secs_f64()));
        }
    }
}

/// Runs a command to its end; a failure names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// `cargo` as the one that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// The top of the checkout.
pub(crate) fn root() -> std::path::PathBuf {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), std::path::PathBuf::from)
}
