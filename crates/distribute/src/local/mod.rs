//! Sinks on this host: a file, with the same care as on a node, and a command's standard input.

mod command;
mod files;

use std::time::Instant;

pub use command::Command;
use futures_util::FutureExt;

use crate::{
    Error, File, FileError, Gate, Landed, Limits, Mode, Node,
    placement::{Failed, Fault, Sftp, clock, directories, place_file, sweep, temp_name},
    told,
};

/// One result per file, in the order they were given.
pub type Results = Vec<Result<Landed, FileError>>;

/// What became of the files, and how they got there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Brought {
    /// One result per file.
    pub files: Results,
    /// By which of several ways, and why, in words; `None` where there is only one.
    pub way: Option<String>,
}

impl From<Results> for Brought {
    fn from(files: Results) -> Self {
        Self { files, way: None }
    }
}

/// Anywhere a secret can be brought: an account on a node, this host's own file system, a command.
///
/// Each file succeeds or fails alone; only what concerns the whole sink is the outer error.
pub trait Sink: Sync {
    /// What reports call it.
    fn name(&self) -> &str;

    /// Whether [`Mode::Verify`] can see what is there. Where it cannot (a command), what was brought has to be
    /// remembered by the caller.
    fn can_look(&self) -> bool {
        true
    }

    /// Brings `files` about.
    fn place(&self, files: &[File], mode: Mode) -> impl Future<Output = Result<Brought, Error>> + Send;
}

/// An account on a node, over SSH; see [`crate::place`].
#[derive(Debug, Clone, Copy)]
pub struct OnNode<'a> {
    /// What keeps sessions below what the node lets in.
    pub gate: &'a Gate,
    /// The account and the way there.
    pub node: &'a Node,
    /// Its deadlines.
    pub limits: &'a Limits,
}

impl Sink for OnNode<'_> {
    fn name(&self) -> &str {
        &self.node.host
    }

    async fn place(&self, files: &[File], mode: Mode) -> Result<Brought, Error> {
        let report = crate::place(self.gate, self.node, files, mode, self.limits).await?;
        Ok(Brought {
            way: Some(format!(
                "{} over {}: {}",
                report.method, report.transport, report.chosen
            )),
            files: report.files,
        })
    }
}

/// Files of this host. They are placed as on a node, and no symbolic link is followed on the way to them either
/// (`openat2(2)` with `RESOLVE_NO_SYMLINKS`, Linux 5.6).
#[derive(Debug, Clone, Copy, Default)]
pub struct Here {
    /// The user the files are to belong to, if it is not whoever runs this: only root may give files away.
    pub owner: Option<u32>,
    /// Deadlines, of which [`Limits::per_file`] and [`Limits::total`] count.
    pub limits: Limits,
}

impl Sink for Here {
    fn name(&self) -> &'static str {
        "this host"
    }

    async fn place(&self, files: &[File], mode: Mode) -> Result<Brought, Error> {
        let results = self.work_aside(files, mode).await;
        for (file, result) in files.iter().zip(&results) {
            told::of_file(self.name(), "", file, result, mode);
        }
        Ok(results.into())
    }
}

impl Here {
    async fn work_aside(&self, files: &[File], mode: Mode) -> Results {
        let (here, theirs) = (*self, files.to_vec());
        let work = tokio::task::spawn_blocking(move || here.work(&theirs, mode));
        // The thread may be held by a file server that does not answer: it is left behind, not waited for.
        let why = match tokio::time::timeout(self.limits.total, work).await {
            Ok(Ok(results)) => return results,
            Ok(Err(error)) => format!("a thread of mtk ended early: {error}"),
            Err(_) => {
                let late = |file: &File| {
                    Err(FileError::TimedOut {
                        path: file.path.clone(),
                        after: self.limits.total,
                    })
                };
                return files.iter().map(late).collect();
            }
        };
        let lost = |file: &File| {
            Err(FileError::SessionLost {
                path: file.path.clone(),
                why: why.clone(),
            })
        };
        files.iter().map(lost).collect()
    }

    fn work(&self, files: &[File], mode: Mode) -> Results {
        let mut here = files::Here::new(self.owner);
        let results = files.iter().map(|file| self.one(&mut here, file, mode)).collect();
        if mode == Mode::Write {
            let now = clock();
            for directory in directories(files) {
                // local calls are never pending
                let _ = sweep(&mut here, directory, now).now_or_never();
            }
        }
        results
    }

    fn one(&self, here: &mut files::Here, file: &File, mode: Mode) -> Result<Landed, FileError> {
        let path = file.path.clone();
        here.set_deadline(Instant::now() + self.limits.per_file);
        let placed = place_file(here, file, mode, &temp_name()).now_or_never();
        match placed.unwrap_or(Err(Failed::Session(Fault::Timeout))) {
            Ok(landed) => Ok(landed),
            Err(Failed::File(error) | Failed::Both(error, _)) => Err(error),
            Err(Failed::Session(Fault::Lost(why))) => Err(FileError::SessionLost { path, why }),
            Err(Failed::Session(_)) => Err(FileError::TimedOut {
                path,
                after: self.limits.per_file,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
