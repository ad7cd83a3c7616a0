//! mtk runs as a user of its own, who owns the keytabs and the state.

use anyhow::anyhow;

use crate::{
    Problem,
    args::{Cli, Command},
    commands::{
        silence::{self, SilenceCommand},
        state::StateCommand,
        uids::UidsCommand,
    },
};

/// Refuses what writes the state when root asks for it, unless told that root is meant.
///
/// A state directory made by one hurried `sudo mtk run` would be root's, and every run from cron after it would fail.
pub(crate) fn refuse(cli: &Cli) -> Result<(), Problem> {
    if cli.as_root || !rustix::process::geteuid().is_root() || !writes_the_state(&cli.command) {
        return Ok(());
    }
    Err(Problem::usage(anyhow!(
        "not as root: what it writes would be root's, and the next run as mtk's own user would fail on it. \
         Run it as that user (runuser -u mtk -- mtk ...), or say --as-root if root is meant"
    )))
}

pub(crate) fn writes_the_state(command: &Command) -> bool {
    if let Command::Silence(silence::Args { command, .. }) = command {
        return !matches!(command, Some(SilenceCommand::List { .. }));
    }
    matches!(
        command,
        Command::Refresh(_)
            | Command::Push(_)
            | Command::Run(_)
            | Command::Onboard(_)
            | Command::Revoke(_)
            // they begin it where there is none, and bring it to this version
            | Command::Doctor(_)
            | Command::Explain(_)
            | Command::Uids(UidsCommand::Refresh(_) | UidsCommand::Accept { .. })
            | Command::State(StateCommand::Import(_))
    )
}
