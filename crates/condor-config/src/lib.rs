//! HTCondor's own configuration, as far as a client of a pool wants to know it.
//!
//! Read in HTCondor's order: the first of `CONDOR_CONFIG` (or [`GLOBAL`]), then `LOCAL_CONFIG_DIR`, `LOCAL_CONFIG_FILE`, the
//! user's own file, and the environment (`_condor_NAME`, in any case of the prefix; the later of two counts). Understood are
//! assignments, continued lines, `@=` blocks, `if` with versions, `defined`, numbers and truth values, `include` of files,
//! and the `use` lines that concern a client. Macros are expanded when a value is asked for: `$(NAME)`, `$(NAME:default)`,
//! `$ENV()`, `$BASENAME()`, `$DIRNAME()`.
//!
//! No command is ever run. Whatever is not understood is a [`Finding`] with its file and line, and a value that depends on
//! it is [`Unevaluated`], not guessed. HTCondor itself stops at a line that it cannot read; here the rest is read all the
//! same.
//!
//! The parser does no I/O: files come from a [`Source`], of which [`Disk`] is the real one.
//!
//! ```
//! use std::{io, path::Path};
//! use condor_config::{Environment, Source};
//!
//! struct One;
//! impl Source for One {
//!     fn file(&self, path: &Path) -> io::Result<String> {
//!         match path.to_str() {
//!             Some("/etc/condor/condor_config") => Ok("CONDOR_HOST = cm.example.org\nCOLLECTOR_HOST = $(CONDOR_HOST):9618\n".into()),
//!             _ => Err(io::ErrorKind::NotFound.into()),
//!         }
//!     }
//!     fn names(&self, _: &Path) -> io::Result<Vec<String>> { Err(io::ErrorKind::NotFound.into()) }
//! }
//!
//! let condor = condor_config::read(&Environment::default(), &One);
//! let collector = condor.get("collector_host")?.unwrap();
//! assert_eq!(collector.value, "cm.example.org:9618");
//! assert_eq!(collector.place.to_string(), "/etc/condor/condor_config:2");
//! # Ok::<(), condor_config::Unevaluated>(())
//! ```

mod condition;
mod disk;
mod expand;
mod lines;
mod macros;
mod places;
mod read;
mod templates;

use std::{fmt, io, path::Path, sync::Arc};

pub use disk::Disk;
pub use macros::Setting;
pub use places::{Environment, GLOBAL};

/// Where files come from.
pub trait Source {
    /// The text of a file.
    ///
    /// # Errors
    /// It is not there ([`io::ErrorKind::NotFound`]), cannot be read, or is no text.
    fn file(&self, path: &Path) -> io::Result<String>;

    /// The names of the files in a directory, in any order.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Place {
    /// A line of a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line on which it begins, from 1.
        line: u32,
    },
    /// A variable of the environment.
    Environment(String),
    /// HTCondor's own default, or what it finds out about the host.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("HTCondor's default"),
        }
    }
}

/// Something in the files that was not understood or not done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What is the matter. Never a value.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A value that depends on something that is not evaluated here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unevaluated {
    /// The name asked for.
    pub name: String,
    /// Where it is set.
    pub place: Place,
    /// Why it has no value here.
    pub why: String,
}

impl fmt::Display for Unevaluated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} has no value here: {}", self.place, self.name, self.why)
    }
}

impl std::error::Error for Unevaluated {}

/// What was read.
#[derive(Clone)]
pub struct Config {
    macros: macros::Macros,
    findings: Vec<Finding>,
    files: Vec<Arc<Path>>,
}

/// Settings may hold what nobody else should read: how many there are is all that is shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("macros", &self.macros)
            .field("findings", &self.findings)
            .field("files", &self.files)
            .finish()
    }
}

impl Config {
    /// The value of a setting as a tool sees it: `TOOL.NAME` goes before `NAME`. Names have no case. An empty value is
    /// none.
    ///
    /// # Errors
    /// [`Unevaluated`].
    pub fn get(&self, name: &str) -> Result<Option<Setting>, Unevaluated> {
        self.macros.get(name, &mut { expand::WORK })
    }

    /// What was not understood, in the order of reading.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The files that were read, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(AsRef::as_ref)
    }
}

/// Reads everything.
#[must_use]
pub fn read(environment: &Environment, source: &dyn Source) -> Config {
    places::all(environment, source)
}

/// The examples of the README compile and run too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
