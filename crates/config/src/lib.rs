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

mod check;
mod copier;
mod duration;
mod find;
mod finding;
mod keys;
mod owners;
mod plan;
mod role;
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
pub use find::{DIRECTORIES, Env, NAMES, find};
pub use finding::{Finding, Severity};
pub use site::{
    AcceptedKey, BadUid, Broken, Checking, Crl, DEFAULT_STATE_DIRECTORY, Destination, Effective, Jump, Kind,
    Limits, Origin, Retries, Retry, Service, ServiceId, Site, Ssh, Timeouts, Transport, Vault, VaultQuota,
};
pub use template::Template;
pub use tree::Position;

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
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
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

/// Reads the file.
///
/// # Errors
/// [`Error`] if there can be no plan at all; anything less is a finding.
pub fn load(path: &Path, env: &Env) -> Result<Loaded, Error> {
    let (text, writable) = find::read(path)?;
    let mut loaded = parse(path, &text, env)?;
    if writable {
        let finding = Finding {
            severity: Severity::Error,
            file: path.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: "anybody may write this file, and so send tokens anywhere".into(),
            advice: format!("chmod o-w {}", path.display()),
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
    let tree = tree::parse(text).map_err(|m| Error::Syntax {
        path: path.to_owned(),
        at: m.at,
        why: m.why,
    })?;
    let top = Section::top(&tree).ok_or_else(|| Error::NotAMap {
        path: path.to_owned(),
    })?;
    let mut report = Reporter::new(path.to_owned());
    let site = Plan::new(top, env, &mut report).build(path);
    Ok(Loaded {
        site,
        findings: report.finish(),
    })
}
