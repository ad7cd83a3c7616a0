//! Where the file is, and reading it.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::Error;

/// Where the file is looked for, in this order: ours first, then the Go service's own places.
pub const DIRECTORIES: [&str; 4] = ["/etc/mtk", "/etc/managed-tokens", "$HOME/.managed-tokens", "."];
/// Its name in each of them, in the order in which viper tries endings.
pub const NAMES: [&str; 3] = ["managedTokens.json", "managedTokens.yaml", "managedTokens.yml"];

/// Largest file read.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// What the environment has to say. Whoever owns the process fills it in; this crate reads no environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `_condor_SEC_CREDENTIAL_GETTOKEN_OPTS`: its `-a` names the Vault server, before anything in the file.
    pub gettoken_opts: Option<String>,
    /// `HTGETTOKENOPTS`: the Go service hands it to htgettoken. Here it is not used, which is said.
    pub htgettoken_opts: Option<String>,
    /// `MANAGED_TOKENS_DEV_ENVIRONMENT_LABEL`: before `devEnvironmentLabel` of the file.
    pub dev_label: Option<String>,
    /// The system's configuration of ssh, [`Env::SSH_CONFIG`] in life; read after `~/.ssh/config`.
    pub ssh_config: Option<PathBuf>,
}

impl Env {
    /// Name of the variable behind [`Env::home`].
    pub const HOME: &str = "HOME";
    /// Name of the variable behind [`Env::gettoken_opts`].
    pub const GETTOKEN_OPTS: &str = "_condor_SEC_CREDENTIAL_GETTOKEN_OPTS";
    /// Name of the variable behind [`Env::htgettoken_opts`].
    pub const HTGETTOKENOPTS: &str = "HTGETTOKENOPTS";
    /// Name of the variable behind [`Env::dev_label`].
    pub const DEV_LABEL: &str = "MANAGED_TOKENS_DEV_ENVIRONMENT_LABEL";

    /// Where ssh looks for the system's configuration.
    pub const SSH_CONFIG: &str = "/etc/ssh/ssh_config";

    /// Fills it in by asking for each variable by name; an empty variable counts as none.
    #[must_use]
    pub fn from_lookup(mut variable: impl FnMut(&str) -> Option<String>) -> Self {
        let mut get = |name| variable(name).filter(|v| !v.is_empty());
        Self {
            home: get(Self::HOME).map(PathBuf::from),
            gettoken_opts: get(Self::GETTOKEN_OPTS),
            htgettoken_opts: get(Self::HTGETTOKENOPTS),
            dev_label: get(Self::DEV_LABEL),
            ssh_config: Some(Self::SSH_CONFIG.into()),
        }
    }
}

/// The file to read: the one given, else the first of [`NAMES`] in the first of [`DIRECTORIES`] that has one.
///
/// # Errors
/// [`Error::NotFound`], which lists where it was looked for.
pub fn find(given: Option<&Path>, env: &Env) -> Result<PathBuf, Error> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let mut directories = Vec::new();
    for directory in DIRECTORIES {
        match (directory.strip_prefix("$HOME/"), &env.home) {
            (None, _) => directories.push(PathBuf::from(directory)),
            (Some(rest), Some(home)) => directories.push(home.join(rest)),
            (Some(_), None) => {}
        }
    }
    first_in(&directories)
}

fn first_in(directories: &[PathBuf]) -> Result<PathBuf, Error> {
    directories
        .iter()
        .flat_map(|d| NAMES.iter().map(move |n| d.join(n)))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::NotFound {
            directories: directories.to_vec(),
        })
}

/// The text of the file, and whether others may write it.
pub(crate) fn read(path: &Path) -> Result<(String, bool), Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(Error::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut text = String::new();
    let read = file
        .take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > MAX_SIZE {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            limit: MAX_SIZE,
        });
    }
    Ok((text, about.mode() & 0o002 != 0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_of_the_places_wins_and_json_before_yaml() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(&a).unwrap();
        fs::create_dir_all(&b).unwrap();
        let places = [a.clone(), b.clone()];
        let error = first_in(&places).unwrap_err();
        assert!(error.to_string().contains(a.to_str().unwrap()), "{error}");
        fs::write(b.join("managedTokens.yml"), "").unwrap();
        assert_eq!(first_in(&places).unwrap(), b.join("managedTokens.yml"));
        fs::write(b.join("managedTokens.json"), "{}").unwrap();
        assert_eq!(first_in(&places).unwrap(), b.join("managedTokens.json"));
        fs::write(a.join("managedTokens.yaml"), "").unwrap();
        assert_eq!(first_in(&places).unwrap(), a.join("managedTokens.yaml"));
    }

    #[test]
    fn the_home_directory_is_looked_in() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join(".managed-tokens");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("managedTokens.yml"), "").unwrap();
        let env = Env {
            home: Some(home.path().to_owned()),
            ..Env::default()
        };
        // a machine with a file in /etc would find that one, rightly
        if !Path::new("/etc/mtk").exists() && !Path::new("/etc/managed-tokens").exists() {
            assert_eq!(find(None, &env).unwrap(), place.join("managedTokens.yml"));
        }
        assert_eq!(find(Some(Path::new("x.yml")), &env).unwrap(), Path::new("x.yml"));
    }

    #[test]
    fn what_is_not_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            read(dir.path()),
            Err(Error::NotAFile { .. } | Error::Read { .. })
        ));
        assert!(matches!(read(&dir.path().join("none")), Err(Error::Read { .. })));
    }

    #[test]
    fn the_environment_comes_in_as_a_value() {
        let env = Env::from_lookup(|name| match name {
            "HOME" => Some("/h".into()),
            "HTGETTOKENOPTS" => Some(String::new()),
            _ => None,
        });
        assert_eq!(
            env,
            Env {
                home: Some("/h".into()),
                ssh_config: Some("/etc/ssh/ssh_config".into()),
                ..Env::default()
            }
        );
    }
}
