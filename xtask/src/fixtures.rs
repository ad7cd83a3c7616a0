//! `cargo xtask fixtures`: records again what real programs say.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{measured, say, steps::Steps, test};

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
    let mut steps = Steps::default();
    measured::prepare(&mut steps)?;
    let recorder = match arguments.what {
        What::Cedar => "hostile_condor::witness::record_the_tools",
    };
    let tests = test::test_binary()?;
    let bed = measured::bed(&mut steps, "fixtures")?;
    bed.add_second_pool(&say::people)?;
    test::run_named(&bed, &tests, recorder, &[], &["--ignored", "--exact"])?;
    Ok(ExitCode::SUCCESS)
}
