//! `cargo xtask prerequisites`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use testkit::prerequisites::{self, For};

use crate::say;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only print the Debian packages that are missing, one a line; exit 1 if there are any
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let all = [For::Bed, For::Build, For::Tests];
    if arguments.check {
        let missing = prerequisites::missing(&all);
        missing.iter().for_each(|package| say::data(package));
        return Ok(if missing.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    prerequisites::ensure(&all, &say::people)?;
    say::people("all prerequisites are there");
    Ok(ExitCode::SUCCESS)
}
