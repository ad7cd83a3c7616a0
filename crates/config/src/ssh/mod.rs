//! How nodes are reached, as ssh is told it: `sshOptions` of the site, then `~/.ssh/config` and `/etc/ssh/ssh_config`.
//!
//! Of each option the first value met counts, as for ssh. What mtk does not do is named, never passed over: it may
//! have been what kept somebody out.

mod file;
mod options;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(crate) use file::ConfigFiles;
pub(crate) use options::{SshOptions, Target};

use crate::words;

/// Something in the options that is not as its writer meant it, or weakens trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) grave: bool,
    pub(crate) message: String,
    pub(crate) advice: &'static str,
    /// The line of a configuration file that it is about; the message begins with it, too.
    pub(crate) place: Option<Place>,
}

/// A line of a file of ssh's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    pub(crate) line: u32,
}

/// Reads a line of ssh options.
pub(crate) fn parse(text: &str) -> Result<SshOptions, &'static str> {
    let mut out = SshOptions::default();
    let words = words::split(text)?;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "-F" {
            match words.next() {
                Some(file) => out.config_file = Some(file.clone()),
                None => out.complain(true, "-F names no file".to_owned(), ""),
            }
            continue;
        }
        let option = match word.strip_prefix("-o") {
            Some("") => words.next().map(String::as_str),
            other => other,
        };
        match option.and_then(|o| o.split_once(['=', ' '])) {
            Some((name, value)) => match file::arguments(value) {
                Ok(values) => out.option(name.trim(), &values, ""),
                Err(why) => out.complain(true, format!("{name}: {why}"), ""),
            },
            None => out.complain(
                true,
                format!("{:?} is not of the form -o Name=value", option.unwrap_or(word)),
                "the Go service drops such words silently",
            ),
        }
    }
    Ok(out)
}

/// A path with `~`, `~/` and `%d` put in; `None` if the home directory is wanted and unknown, or for other tokens.
pub(crate) fn expand(path: &str, home: Option<&Path>) -> Option<PathBuf> {
    let rest = path.strip_prefix('~').or_else(|| path.strip_prefix("%d"));
    match rest {
        Some("") => home.map(Path::to_owned),
        Some(rest) => Some(home?.join(rest.strip_prefix('/')?)),
        None if path.contains('%') => None,
        None => Some(PathBuf::from(path)),
    }
}
