//! Whether and where acts on credentials are written down (docs/audit.md).

use std::path::{Path, PathBuf};

use audit::{Log, Who};
use condor_config::Environment;
use config::Site;

use crate::{
    args::{Cli, Command},
    env, output, root, site,
};

/// The log's name in the state directory.
pub(crate) const NAME: &str = "audit.log";

/// In the state directory nobody else gets at it anyway; elsewhere a group may read it, as other logs.
const OURS_ALONE: u32 = 0o600;
const FOR_A_GROUP: u32 = 0o640;

/// Where a site's log is, if it keeps one: the environment, the configuration, the state directory.
pub(crate) fn path(cli: &Cli, site: &Site) -> Option<PathBuf> {
    if !site.audit.enabled {
        return None;
    }
    let named = named().or_else(|| site.audit.file.clone());
    Some(named.unwrap_or_else(|| site::state_dir(cli, site).join(NAME)))
}

/// From now on this process's acts are written down as the configuration says.
pub(crate) fn begin(cli: &Cli, site: &Site) {
    let Some(path) = path(cli, site) else { return };
    let in_state = path.parent() == Some(site::state_dir(cli, site).as_path());
    // who looks from a host without a state begins none
    if in_state && !site::state_dir(cli, site).is_dir() && !root::writes_the_state(&cli.command) {
        return;
    }
    let mode = if in_state { OURS_ALONE } else { FOR_A_GROUP };
    keep(path, mode, command(&cli.command));
}

/// The same for a command that needs no configuration: where the environment says, else in the services' state directory if
/// it is ours. What people get for themselves is nobody's to write down.
pub(crate) fn begin_without_site(command: &Command) {
    let ours = || site::services_dir().map(|dir| dir.join(NAME));
    let (path, mode) = match named() {
        Some(path) => (Some(path), FOR_A_GROUP),
        None => (ours(), OURS_ALONE),
    };
    if let Some(path) = path {
        keep(path, mode, self::command(command));
    }
}

fn named() -> Option<PathBuf> {
    let named = std::env::var_os(env::AUDIT_LOG).map(PathBuf::from);
    named.filter(|path| !path.as_os_str().is_empty())
}

fn keep(path: PathBuf, mode: u32, command: &str) {
    let uid = rustix::process::geteuid().as_raw();
    let who = Who {
        user: Environment::of_this_process()
            .user
            .unwrap_or_else(|| format!("uid {uid}")),
        logged_in: logged_in(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        command: command.to_owned(),
    };
    audit::keep(Log::new(path, mode, &who));
}

/// The UID somebody logged in with before they became another user, as the kernel keeps it; cron and systemd have none.
pub(crate) fn logged_in() -> Option<u32> {
    let text = std::fs::read_to_string(Path::new("/proc/self/loginuid")).ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// Writes out what is left; says loudly if acts are missing in the log, and whether none are.
pub(crate) fn settle() -> bool {
    let Some(log) = audit::kept() else {
        return true;
    };
    match log.settle() {
        Ok(Some(anchor)) => {
            // in a log that leaves this host it proves the audit log up to here
            tracing::info!(%anchor, "the audit log stands here");
            true
        }
        Ok(None) => true,
        Err(unkept) => {
            output::error(&anyhow::Error::new(unkept));
            false
        }
    }
}

fn command(command: &Command) -> &'static str {
    match command {
        Command::Refresh(_) => "refresh",
        Command::Push(_) => "push",
        Command::Run(_) => "run",
        Command::Onboard(_) => "onboard",
        Command::Revoke(_) => "revoke",
        Command::Token(_) => "token",
        Command::Storer(_) => "storer",
        Command::Doctor(_) => "doctor",
        Command::Uids(_) => "uids",
        Command::Credd(_) => "credd",
        _ => "mtk",
    }
}
