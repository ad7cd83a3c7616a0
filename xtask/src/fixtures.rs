//! `cargo xtask fixtures`: records again what real programs say.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use testkit::{
    bed::{Bed, Owner},
    prerequisites::{self, For},
};

use crate::{say, steps::run, test};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Which of them
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// condor_store_cred and condor_status of both pools, into fixtures/cedar/tool-*.hex and tool-25-*.hex
    Cedar,
}

/// Records in a bed of its own.
pub(crate) fn fixtures(arguments: &Arguments) -> Result<ExitCode> {
    prerequisites::ensure(&[For::Bed, For::Build], &say::people)?;
    let recorder = match arguments.what {
        What::Cedar => "hostile_condor::witness::record_the_tools",
    };
    let tests = test::test_binary()?;
    let bed = Bed::up(
        &format!("fixtures-{}", std::process::id()),
        Owner::Parent,
        &say::people,
    )?;
    bed.add_second_pool(&say::people)?;
    run(bed
        .command(tests)?
        .args(["--ignored", "--exact", "--nocapture", recorder]))?;
    Ok(ExitCode::SUCCESS)
}
