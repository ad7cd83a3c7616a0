//! `mtk man`: the manual, made from the command line itself. For `cargo xtask man` and for packagers.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use crate::{Problem, args::Cli, exit::Exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory, which has to be there.
    directory: PathBuf,
}

/// Writes a page for mtk and one for each of its commands.
pub(crate) fn man(args: &Args) -> Result<Exit, Problem> {
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .with_context(|| format!("the manual cannot be written to {}", args.directory.display()))
        .map_err(Problem::usage)?;
    Ok(Exit::Fresh)
}
