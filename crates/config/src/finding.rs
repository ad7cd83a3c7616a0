//! What is to be said about the file: data, for whoever prints it.

use std::{fmt, path::PathBuf};

use crate::tree::Position;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing to do.
    Note,
    /// Works, but hardly as whoever wrote it expects.
    Warning,
    /// What is written cannot be honoured. `mtk config check` fails; a run says it and goes on with whatever the
    /// error leaves whole.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing found in the file. Never carries the value of a key that may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// The file it is about.
    pub file: PathBuf,
    /// Line, from 1; 0 when it is about something that is not in the file.
    pub line: u32,
    /// Column in characters, from 1; 0 like the line.
    pub column: u32,
    /// The key with its path, parts joined by dots, as written.
    pub key: String,
    /// What is the matter.
    pub message: String,
    /// What to do about it; empty if that is plain.
    pub advice: String,
}

impl fmt::Display for Finding {
    /// `file:line:column: severity: key: message (advice)`, the form editors understand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}: ", self.severity)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if !self.advice.is_empty() {
            write!(f, " ({})", self.advice)?;
        }
        Ok(())
    }
}

/// Collects findings, and the reasons why the service in hand cannot run.
#[derive(Debug)]
pub(crate) struct Reporter {
    files: Vec<PathBuf>,
    findings: Vec<(Position, Finding)>,
    refusals: Vec<String>,
}

impl Reporter {
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            findings: Vec::new(),
            refusals: Vec::new(),
        }
    }

    pub(crate) fn say(
        &mut self,
        severity: Severity,
        at: Position,
        key: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let file = self.files.get(usize::from(at.file)).cloned();
        let finding = Finding {
            severity,
            file: file.unwrap_or_default(),
            line: at.line,
            column: at.column,
            key: key.to_owned(),
            message: message.into(),
            advice: advice.into(),
        };
        self.findings.push((at, finding));
    }

    pub(crate) fn error(
        &mut self,
        at: Position,
        key: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.say(Severity::Error, at, key, message, advice);
    }

    pub(crate) fn warn(
        &mut self,
        at: Position,
        key: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.say(Severity::Warning, at, key, message, advice);
    }

    pub(crate) fn note(
        &mut self,
        at: Position,
        key: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.say(Severity::Note, at, key, message, advice);
    }

    /// About a file beside those of the site, whichever service was in hand: for all of them it is one finding.
    pub(crate) fn elsewhere(
        &mut self,
        severity: Severity,
        file: PathBuf,
        line: u32,
        message: &str,
        advice: &str,
    ) {
        let finding = Finding {
            severity,
            file,
            line,
            column: u32::from(line > 0),
            key: String::new(),
            message: message.to_owned(),
            advice: advice.to_owned(),
        };
        self.findings.push((Position::default(), finding));
    }

    /// An error the service in hand cannot run with.
    pub(crate) fn refuse(
        &mut self,
        at: Position,
        key: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let message = message.into();
        self.refusals.push(format!("{key}: {message}"));
        self.error(at, key, message, advice);
    }

    /// The reasons since the last call.
    pub(crate) fn take_refusals(&mut self) -> Vec<String> {
        std::mem::take(&mut self.refusals)
    }

    /// All findings in the order of the files, each once: a global key wrong for fifty services is one finding.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.findings.sort();
        self.findings.dedup();
        self.findings.into_iter().map(|(_, finding)| finding).collect()
    }
}
