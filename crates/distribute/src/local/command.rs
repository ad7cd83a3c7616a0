//! A command that takes a secret from its standard input, and from nowhere else.

use std::{collections::HashSet, path::PathBuf, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{io::AsyncWriteExt, process::Child};

use super::{Brought, Sink};
use crate::{Difference, Error, File, FileError, Landed, Mode, Placed, dial::clip, said::said, told};

/// All that is kept of what a command says.
const MAX_SAID: u64 = 4096;

/// As many of a secret's bytes in a command's words give it away.
const TELLTALE: usize = 8;

/// How long the last words of a command that ended are waited for.
const PARTING: Duration = Duration::from_millis(500);

/// What a command finds in its environment; the rest of ours is none of its business.
const KEPT: [&str; 5] = ["HOME", "LANG", "PATH", "TZ", "USER"];

/// A program run for each file, without a shell: the content on its standard input, nothing secret among its arguments
/// or in its environment, and its exit status for an answer. It ends by the deadline, with all it started.
#[derive(Debug, Clone)]
pub struct Command {
    /// What reports call it.
    pub name: String,
    /// The program, by its whole path.
    pub program: PathBuf,
    /// Its arguments, which everybody on this host can read.
    pub arguments: Vec<String>,
    /// How long it may take.
    pub deadline: Duration,
}

impl Sink for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_look(&self) -> bool {
        false
    }

    async fn place(&self, files: &[File], mode: Mode) -> Result<Brought, Error> {
        let mut results = Vec::with_capacity(files.len());
        for file in files {
            let result = match mode {
                Mode::Write => self.feed(file).await.map(|()| landed(Placed::Written)),
                Mode::Verify => Ok(landed(Placed::WouldWrite)),
                // what it did with the secret is not ours to undo
                Mode::Remove => Ok(landed(Placed::Unchanged)),
            };
            told::of_file(&self.name, "", file, &result, mode);
            results.push(result);
        }
        Ok(results.into())
    }
}

fn landed(placed: Placed) -> Landed {
    Landed {
        placed,
        difference: (placed != Placed::Unchanged).then_some(Difference::NotTold),
        uid: None,
    }
}

impl Command {
    async fn feed(&self, file: &File) -> Result<(), FileError> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(
                KEPT.iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| FileError::NotRun {
            command: self.name.clone(),
            why: error.to_string(),
        })?;
        let mut running = Running(child);
        let (status, said) = match tokio::time::timeout(self.deadline, running.talk(file)).await {
            Ok(done) => done.map_err(|error| FileError::NotRun {
                command: self.name.clone(),
                why: error.to_string(),
            })?,
            Err(_) => {
                return Err(FileError::TimedOut {
                    path: self.name.clone(),
                    after: self.deadline,
                });
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(FileError::CommandFailed {
            command: self.name.clone(),
            status: status.to_string(),
            said: without(&said, file.content.expose()),
        })
    }
}

/// Ends the process and all it started when it is dropped early.
struct Running(Child);

impl Running {
    async fn talk(&mut self, file: &File) -> std::io::Result<(std::process::ExitStatus, Vec<u8>)> {
        let (stdin, stderr) = (self.0.stdin.take(), self.0.stderr.take());
        let give = async {
            if let Some(mut stdin) = stdin {
                // one that has read enough may close its end: its status is what counts
                let _ = stdin.write_all(file.content.expose()).await;
                let _ = stdin.shutdown().await;
            }
        };
        let words = stderr.map(|stderr| tokio::spawn(said(stderr, MAX_SAID)));
        let (status, ()) = tokio::join!(self.0.wait(), give);
        let said = match words {
            // something it left running may hold its end open for ever
            Some(words) => tokio::time::timeout(PARTING, words).await.ok(),
            None => None,
        };
        Ok((status?, said.and_then(Result::ok).unwrap_or_default()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // its id is none once it was waited for
        let group = self
            .0
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What it said, unless any of the secret is in it.
fn without(said: &[u8], secret: &[u8]) -> String {
    let parts: HashSet<&[u8]> = secret.windows(TELLTALE).collect();
    if said.windows(TELLTALE).any(|part| parts.contains(part)) {
        return "its words are not shown: some of the secret is among them".to_owned();
    }
    match clip(&String::from_utf8_lossy(said)) {
        said if said.is_empty() => "it said nothing".to_owned(),
        said => format!("it said {said:?}"),
    }
}
