//! `mtk completions`: for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Problem, args::Cli, exit::Exit, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script, to be sourced, or to lie where the shell looks for such.
pub(crate) fn completions(args: &Args) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mtk", &mut script);
    output::data(&String::from_utf8_lossy(&script));
    Ok(Exit::Fresh)
}
