//! Whose credentials it is about: the robots of the configuration, or one given by its keytab alone.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::anyhow;
use clap::Args;
use config::{CondorAccess, SuperUser};
use credential::Principal;
use pipeline::Selection;

use crate::{
    Problem,
    args::{Cli, SelectionArgs},
    site,
};

/// How long a KDC may take where no configuration says it.
const KERBEROS: Duration = Duration::from_secs(20);

/// Without these, the robots of the configuration. With a keytab, `--account` says whose credentials are meant; without
/// it the first part of the principal.
#[derive(Debug, Args)]
pub(crate) struct RobotArgs {
    /// A robot by its keytab alone: no configuration is read.
    #[arg(long, value_name = "FILE", requires = "principal")]
    keytab: Option<PathBuf>,

    /// Its principal, with realm.
    #[arg(long, value_name = "PRINCIPAL", requires = "keytab")]
    principal: Option<Principal>,

    /// A collector to ask for credds, `host[:port]`; may be given several times, to be tried in this order.
    #[arg(long, value_name = "HOST", requires = "keytab")]
    collector: Vec<String>,

    /// Which schedds' credds are meant, as a ClassAd expression.
    #[arg(long, value_name = "EXPRESSION", requires = "keytab")]
    constraint: Option<String>,

    /// The robots are mapped to this HTCondor user, which may act for the accounts (CRED_SUPER_USERS of the credds).
    #[arg(long, value_name = "NAME")]
    super_user: Option<String>,
}

/// A robot for an account, and where its credds are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Robot {
    pub(crate) principal: Principal,
    pub(crate) keytab: PathBuf,
    pub(crate) account: String,
    /// The names at HTCondor of all that is stored for the account by itself.
    pub(crate) services: BTreeSet<String>,
    /// Those of them that were asked for; `None` if nothing was said, and then all the account has is meant.
    pub(crate) chosen: Option<BTreeSet<String>>,
    pub(crate) collectors: Vec<String>,
    pub(crate) constraint: Option<String>,
    /// By name; empty: those of the schedds.
    pub(crate) credds: Vec<String>,
    pub(crate) kerberos: Duration,
    /// How it proves itself.
    pub(crate) access: CondorAccess,
}

/// The robots that are meant.
pub(crate) fn all(cli: &Cli, which: &SelectionArgs, args: &RobotArgs) -> Result<Vec<Robot>, Problem> {
    match (&args.keytab, &args.principal) {
        (Some(keytab), Some(principal)) => by_keytab(which, args, keytab, principal).map(|one| vec![one]),
        _ => configured(cli, which, args),
    }
}

fn by_keytab(
    which: &SelectionArgs,
    args: &RobotArgs,
    keytab: &std::path::Path,
    principal: &Principal,
) -> Result<Robot, Problem> {
    if args.collector.is_empty() && which.credd.is_empty() {
        return Err(Problem::usage(anyhow!(
            "--keytab needs a --collector to ask for credds, or the address of a --credd"
        )));
    }
    if !(which.experiment.is_empty() && which.role.is_empty() && which.node.is_empty()) {
        return Err(Problem::usage(anyhow!(
            "with --keytab there is no configuration to select from: --service takes names at HTCondor"
        )));
    }
    let account = match which.account.as_slice() {
        [] => principal.user().to_owned(),
        [account] => account.clone(),
        _ => return Err(Problem::usage(anyhow!("with --keytab there is one --account"))),
    };
    Ok(Robot {
        principal: principal.clone(),
        keytab: keytab.to_owned(),
        access: with_super_user(CondorAccess::default(), args),
        account,
        services: which.service.iter().cloned().collect(),
        chosen: (!which.service.is_empty()).then(|| which.service.iter().cloned().collect()),
        collectors: args.collector.clone(),
        constraint: args.constraint.clone(),
        credds: which.credd.clone(),
        kerberos: KERBEROS,
    })
}

/// The command line's super user goes before the configuration's.
fn with_super_user(mut access: CondorAccess, args: &RobotArgs) -> CondorAccess {
    if let Some(name) = &args.super_user {
        access.super_user = Some(SuperUser {
            name: name.clone(),
            principal: None,
            keytab: None,
        });
    }
    access
}

fn configured(cli: &Cli, which: &SelectionArgs, args: &RobotArgs) -> Result<Vec<Robot>, Problem> {
    let site = site::load(cli)?;
    // of a credd's name its robots judge, when they have found theirs
    let chosen = Selection {
        credds: Vec::new(),
        ..Selection::from(which)
    };
    let chosen = site::selected(&site, chosen)?;
    let mut robots: Vec<Robot> = Vec::new();
    for service in site.services.iter().filter(|s| s.store && chosen.wants(s)) {
        let (keytab, principal) = pipeline::condor_principal(service);
        let robot = Robot {
            principal: principal.clone(),
            keytab: keytab.to_owned(),
            account: service.account.clone(),
            access: with_super_user(service.condor.clone(), args),
            services: site
                .services
                .iter()
                .filter(|other| other.account == service.account)
                .map(|other| other.name.to_string())
                .collect(),
            chosen: None,
            collectors: service.collectors.clone(),
            constraint: service.schedd_constraint.clone(),
            credds: service.credds.clone(),
            kerberos: site.timeouts.kerberos.max(Duration::from_secs(1)),
        };
        let same = |known: &&mut Robot| {
            Robot {
                chosen: None,
                ..(**known).clone()
            } == robot
        };
        let name = service.name.to_string();
        // two services of one robot are one question
        if let Some(known) = robots.iter_mut().find(same) {
            known.chosen.get_or_insert_default().insert(name);
        } else {
            robots.push(Robot {
                chosen: Some(BTreeSet::from([name])),
                ..robot
            });
        }
    }
    if chosen.is_all() {
        robots.iter_mut().for_each(|robot| robot.chosen = None);
    }
    Ok(robots)
}
