//! From the command line to a checked site: which file, what it says, where the state is.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, anyhow};
use condor_config::{Disk, Environment};
use config::{Finding, HtCondor, Severity, Site};
use pipeline::{Selection, Unmatched};

use crate::{Problem, args::Cli, output};

/// Finds and reads the configuration. What is wrong but does not stop a run is said on stderr.
pub(crate) fn load(cli: &Cli) -> Result<Arc<Site>, Problem> {
    let (site, findings) = load_quietly(cli)?;
    for finding in findings.iter().filter(|f| f.severity >= Severity::Warning) {
        output::warn(&finding.to_string());
    }
    Ok(Arc::new(site))
}

/// The same, leaving the findings to the caller.
pub(crate) fn load_quietly(cli: &Cli) -> Result<(Site, Vec<Finding>), Problem> {
    let mut env = config::Env::from_lookup(|name| std::env::var(name).ok());
    let condor = condor_config::read(&Environment::of_this_process(), &Disk);
    env.htcondor = HtCondor::of(&condor);
    env.bearer_files = crate::commands::token::bearer_files();
    let path = config::find(cli.config.as_deref(), &env).map_err(Problem::usage)?;
    let loaded = config::load(&path, &env).map_err(Problem::usage)?;
    let mut findings = loaded.findings;
    findings.extend(config::check(&loaded.site));
    crate::audit_log::begin(cli, &loaded.site);
    Ok((loaded.site, findings))
}

/// What a command is about, once every name in it is known to be one of the site's: a typo must not look like success.
/// Of credds only what is found tells; see [`credds_exist`].
pub(crate) fn selected(site: &Site, selection: Selection) -> Result<Selection, Problem> {
    exist(site, &selection.unmatched(site))?;
    let any = site.services.iter().any(|s| selection.wants(s))
        || site.broken.iter().any(|b| selection.wants_broken(b));
    if any || selection.is_all() {
        return Ok(selection);
    }
    Err(Problem::usage(anyhow!(
        "{} has no service that is all of what was asked for",
        site.path.display()
    )))
}

/// The same for the credds of a selection, where those that may be meant are known.
pub(crate) fn credds_exist(
    site: &Site,
    selection: &Selection,
    known: &BTreeSet<String>,
) -> Result<(), Problem> {
    exist(site, &selection.unmatched_credds(known))
}

/// Says which names are nobody's, if any are.
pub(crate) fn exist(site: &Site, unmatched: &[Unmatched]) -> Result<(), Problem> {
    if unmatched.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = unmatched.iter().map(ToString::to_string).collect();
    Err(Problem::usage(anyhow!(
        "{} has nothing called {}",
        site.path.display(),
        names.join(", ")
    )))
}

/// The one service a command is about.
pub(crate) fn service<'a>(site: &'a Site, name: &str) -> Result<&'a config::Service, Problem> {
    pipeline::one_service(site, name)
        .with_context(|| site.path.display().to_string())
        .map_err(Problem::usage)
}

/// Where the state lies: the command line, then the configuration, then the default.
pub(crate) fn state_dir(cli: &Cli, site: &Site) -> PathBuf {
    cli.state_dir
        .clone()
        .or_else(|| site.state_dir.clone())
        .unwrap_or_else(|| PathBuf::from(config::DEFAULT_STATE_DIRECTORY))
}

/// Where requests to Vault are counted for a command that needs no configuration: where the services of this host count,
/// if we may write there, else among the commands of this person. `None` if there is no such place.
///
/// Root may write everywhere, but a file of root's in the state of mtk's own user would stop the next run.
pub(crate) fn budget_dir() -> Option<PathBuf> {
    let person = || std::env::var_os(crate::env::XDG_RUNTIME_DIR).map(PathBuf::from);
    services_dir().or_else(|| person().filter(|dir| is_ours(dir)))
}

/// The state directory of this host's services, if we are who writes there.
pub(crate) fn services_dir() -> Option<PathBuf> {
    let named = std::env::var_os(crate::env::STATE_DIR).map(PathBuf::from);
    Some(named.unwrap_or_else(|| config::DEFAULT_STATE_DIRECTORY.into())).filter(|dir| is_ours(dir))
}

fn is_ours(dir: &Path) -> bool {
    use rustix::fs::{Access, access};
    let root = rustix::process::geteuid().is_root();
    let ours = dir
        .metadata()
        .is_ok_and(|meta| meta.is_dir() && (!root || meta.uid() == 0));
    ours && access(dir, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Prints a value as the one JSON document of a command.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Problem> {
    serde_json::to_string_pretty(value)
        .context("the answer cannot be written as JSON")
        .map_err(Problem::usage)
}
