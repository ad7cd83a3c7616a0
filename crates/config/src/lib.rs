//! The site's file made into a checked plan.
//!
//! What is read is the Go service's `managedTokens.yml` or `.json`, unchanged, with a few optional keys of ours. A
//! tree in which every key and value knows its line is read the way viper reads it (keys in any case, lists as
//! text, overrides), and what leaves the crate is a [`Site`]: every service in it can be worked on, every service
//! that cannot stands in [`Site::broken`] with the reason, and everything worth saying is a [`Finding`].
//!
//! No network, no environment (that comes in as [`Env`]), no clock. All keys: docs/configuration.md.
//!
//! ```
//! use std::path::Path;
//! let text = "
//! vaultServer: vault.example.org
//! condorCollectorHost: cm.example.org
//! kerberosPrincipalPattern: '{{.Account}}/managedtokens/mtk.example.org@EXAMPLE.ORG'
//! experiments:
//!   dune:
//!     roles:
//!       production: {account: dunepro, destinationNodes: [gpvm01.example.org], desiredUIDOverride: 50001}
//!       analysis: {acount: duneana}
//! ";
//! let loaded = config::parse(Path::new("managedTokens.yml"), text, &config::Env::default())?;
//! let service = &loaded.site.services[0];
//! assert_eq!(service.credkey, "dunepro/managedtokens/mtk.example.org");
//! let files = service.destinations_on("gpvm01.example.org", 50001)?;
//! assert_eq!(files[1].path, "/tmp/vt_u50001-dune_production");
//!
//! assert_eq!(loaded.site.broken[0].id.to_string(), "dune_analysis");
//! assert!(loaded.findings.iter().any(|f| f.advice == "is account meant?"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod check;
mod condor;
mod copier;
mod disk;
mod duration;
mod files;
mod find;
mod finding;
mod import;
mod keys;
mod merge;
#[cfg(feature = "oracles")]
#[doc(hidden)]
pub mod oracles;
mod output;
mod owners;
mod plan;
mod role;
mod schema;
mod section;
mod site;
mod ssh;
mod template;
mod tree;
mod words;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use check::check;
pub use condor::{CondorAccess, HtCondor, Method, Said, SuperUser};
pub use files::check_files;
pub use find::{DIRECTORIES, DROP_INS, Env, NAMES, find};
pub use finding::{Finding, Severity};
pub use import::{Format, Imported, SCHEMA_NAME, import, same_meaning};
pub use output::{Content, Output, Owner, THIS_HOST, To};
pub use schema::schema;
pub use site::{
    AcceptedKey, Audit, BadUid, Broken, Checking, Crl, DEFAULT_STATE_DIRECTORY, Destination, Effective,
    Ferry, FerryLogin, Hook, Jump, Kind, Limits, LogFiles, Mail, MailTls, Metrics, Notifications, Origin,
    QuietHours, Receiver, Receivers, Retries, Retry, Service, ServiceId, Site, Ssh, StakeholdersGet,
    Timeouts, Transport, UidSource, Vault, VaultQuota,
};
pub use template::Template;
pub use tree::Position;
pub use words::nearest;

use finding::Reporter;
use plan::Plan;
use section::Section;

/// A file, read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The plan.
    pub site: Site,
    /// What is to be said about the file, in its order. Collisions between services come from [`check`].
    pub findings: Vec<Finding>,
}

impl Loaded {
    /// Whether anything written cannot be honoured.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Error)
    }
}

/// Why there is no plan at all. All of it is for whoever owns the file to put right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No file in any of the places.
    #[error("there is no managedTokens.json, .yaml or .yml in {}", show(directories))]
    NotFound {
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// It cannot be opened or read, or is not UTF-8.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe, ...
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// More than any site needs.
    #[error("{} is longer than {limit} bytes, or all files together are", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// More files than any site needs.
    #[error("{} holds more than {limit} drop-ins", path.display())]
    TooManyDropIns {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Neither YAML nor JSON; a key written twice is among this.
    #[error("{}:{}:{} is not YAML or JSON: {why}", path.display(), at.line, at.column)]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        at: Position,
        /// What the parser says.
        why: String,
    },
    /// A key stands twice in one map, in the same or another case. Only [`import`] gives up at this.
    #[error("{}:{}:{}: {key} stands there twice", path.display(), at.line, at.column)]
    Twice {
        /// The file.
        path: PathBuf,
        /// The second place.
        at: Position,
        /// The key with its path.
        key: String,
    },
    /// Not a map at the top.
    #[error("{} holds no map of keys and values", path.display())]
    NotAMap {
        /// The file.
        path: PathBuf,
    },
}

fn show(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The files behind a path and their texts, as [`load`] reads them: for [`import`].
///
/// # Errors
/// [`Error`] if one cannot be read.
pub fn read(path: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    Ok(find::read_all(path)?.0)
}

/// Reads the file, and the drop-ins beside it: what [`find`] found, or was given.
///
/// A file by one of [`NAMES`] has its drop-ins in [`DROP_INS`] beside it; a file of another name stands alone. A
/// directory is a place such as `/etc/mtk`.
///
/// # Errors
/// [`Error`] if there can be no plan at all; anything less is a finding.
pub fn load(path: &Path, env: &Env) -> Result<Loaded, Error> {
    let (texts, mut loose) = find::read_all(path)?;
    let mut loaded = parse_all(path, &texts, env)?;
    loose.extend(find::loose_directory(&loaded.site.files));
    for file in loose {
        let finding = Finding {
            severity: Severity::Error,
            line: 0,
            column: 0,
            key: String::new(),
            message: "anybody may write here, and so send tokens anywhere".into(),
            advice: format!("chmod o-w {}", file.display()),
            file,
        };
        loaded.findings.insert(0, finding);
    }
    Ok(loaded)
}

/// The same for text already read; `path` is for messages only.
///
/// # Errors
/// [`Error::Syntax`] and [`Error::NotAMap`].
pub fn parse(path: &Path, text: &str, env: &Env) -> Result<Loaded, Error> {
    parse_all(path, &[(path.to_owned(), text)], env)
}

/// The same for several texts, each laid over those before.
///
/// # Errors
/// As [`parse`].
pub fn parse_all<T: AsRef<str>>(path: &Path, texts: &[(PathBuf, T)], env: &Env) -> Result<Loaded, Error> {
    let files: Vec<PathBuf> = texts.iter().map(|(file, _)| file.clone()).collect();
    let mut report = Reporter::new(files.clone());
    let tree = merged(texts, &mut report)?;
    let top = Section::top(&tree).ok_or_else(|| Error::NotAMap {
        path: path.to_owned(),
    })?;
    let site = Plan::new(top, env, &mut report).build(path, &files);
    let mut findings = report.finish();
    findings.extend(env.htcondor.findings.iter().cloned());
    Ok(Loaded { site, findings })
}

/// The tree all texts come to.
fn merged<T: AsRef<str>>(texts: &[(PathBuf, T)], report: &mut Reporter) -> Result<tree::Node, Error> {
    let mut whole = tree::Node {
        at: Position::default(),
        value: tree::Value::Map(Vec::new()),
    };
    let mut replaced = Vec::new();
    for ((path, text), file) in texts.iter().zip(0..) {
        let tree = tree::parse(text.as_ref(), file).map_err(|m| Error::Syntax {
            path: path.clone(),
            at: m.at,
            why: m.why,
        })?;
        match tree.value {
            tree::Value::Map(_) if file == 0 => whole = tree,
            tree::Value::Map(_) => merge::merge(&mut whole, tree, &mut replaced),
            tree::Value::Null => {}
            _ => return Err(Error::NotAMap { path: path.clone() }),
        }
    }
    for one in replaced {
        let before = texts
            .get(usize::from(one.before.file))
            .map(|(path, _)| path.display());
        let place = before
            .map(|path| format!("{path}:{}", one.before.line))
            .unwrap_or_default();
        if one.unlike {
            let advice = "one of the two is a map, the other is not: keep one of them";
            report.error(
                one.at,
                &one.key,
                format!("this replaces what stands in {place}"),
                advice,
            );
        } else {
            report.note(
                one.at,
                &one.key,
                format!("this replaces what stands in {place}"),
                "",
            );
        }
    }
    Ok(whole)
}
