//! Where the file is, and reading it.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    Error, HtCondor,
    disk::{self, Failed},
};

/// Where the file is looked for, in this order: ours first, then the Go service's own places.
pub const DIRECTORIES: [&str; 4] = ["/etc/mtk", "/etc/managed-tokens", "$HOME/.managed-tokens", "."];
/// Its name in each of them, in the order in which viper tries endings.
pub const NAMES: [&str; 3] = ["managedTokens.json", "managedTokens.yaml", "managedTokens.yml"];

/// Where drop-ins lie, beside the file: those whose names end as in [`NAMES`], in the order of their names, each laid
/// over what came before.
pub const DROP_INS: &str = "conf.d";

/// Files and what they hold.
pub(crate) type Texts = Vec<(PathBuf, String)>;

/// Most bytes read, all files together.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// Most drop-ins.
const MAX_DROP_INS: usize = 4096;

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
    /// What HTCondor's own configuration on this host says: it counts where the file says nothing.
    pub htcondor: HtCondor,
    /// Where WLCG bearer token discovery looks for a token's file, in its order.
    pub bearer_files: Vec<PathBuf>,
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
            htcondor: HtCondor::default(),
            bearer_files: Vec::new(),
        }
    }
}

/// What to read: the file or directory given, else the first of [`NAMES`] in the first of [`DIRECTORIES`] that has one,
/// or its [`DROP_INS`] if only those are there.
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
    let whole = |d: &PathBuf| {
        let file = main_file(d);
        file.or_else(|| Some(d.join(DROP_INS)).filter(|d| drop_ins(d).is_ok_and(|files| !files.is_empty())))
    };
    directories.iter().find_map(whole).ok_or_else(|| Error::NotFound {
        directories: directories.to_vec(),
    })
}

fn main_file(directory: &Path) -> Option<PathBuf> {
    NAMES
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file())
}

/// The files behind a path, in the order in which they are merged.
fn sources(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let (main, directory) = if !path.is_dir() {
        if !NAMES.contains(&name) {
            return Ok(vec![path.to_owned()]);
        }
        (Some(path.to_owned()), path.with_file_name(DROP_INS))
    } else if name == DROP_INS {
        (None, path.to_owned())
    } else {
        (main_file(path), path.join(DROP_INS))
    };
    let mut all: Vec<PathBuf> = main.into_iter().collect();
    all.extend(drop_ins(&directory)?);
    if all.is_empty() {
        return Err(Error::NotFound {
            directories: vec![path.to_owned()],
        });
    }
    Ok(all)
}

/// The drop-ins in a directory, which need not be there.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read {
        path: directory.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // what editors and package managers leave beside a file ends otherwise; a link to nothing is taken, to fail when read
        if ["json", "yaml", "yml"].contains(&ending) && !hidden && !path.is_dir() {
            files.push(path);
        }
        if files.len() > MAX_DROP_INS {
            return Err(Error::TooManyDropIns {
                path: directory.to_owned(),
                limit: MAX_DROP_INS,
            });
        }
    }
    files.sort();
    Ok(files)
}

/// The directory of the drop-ins, if anybody may put one there.
pub(crate) fn loose_directory(files: &[PathBuf]) -> Option<PathBuf> {
    let mut parents = files.iter().filter_map(|file| file.parent());
    let directory = parents.rfind(|d| d.file_name().is_some_and(|name| name == DROP_INS))?;
    let mode = std::fs::metadata(directory).ok()?.mode();
    // in a sticky directory nobody replaces another's file, but anybody adds one
    (mode & 0o002 != 0).then(|| directory.to_owned())
}

/// The files behind a path and their texts, in the order in which they are merged; and those of them that anybody may write.
pub(crate) fn read_all(path: &Path) -> Result<(Texts, Vec<PathBuf>), Error> {
    let mut left = MAX_SIZE;
    let (mut texts, mut loose) = (Vec::new(), Vec::new());
    for file in sources(path)? {
        let (text, writable) = read(&file, left)?;
        left = left.saturating_sub(text.len() as u64);
        if writable {
            loose.push(file.clone());
        }
        texts.push((file, text));
    }
    Ok((texts, loose))
}

/// The text of the file, of no more than so many bytes, and whether others may write it.
fn read(path: &Path, limit: u64) -> Result<(String, bool), Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let (bytes, about) = disk::read(path, limit).map_err(|error| match error {
        Failed::Io(source) => failed(source),
        Failed::NotAFile => Error::NotAFile {
            path: path.to_owned(),
        },
        Failed::TooLong(_) => Error::TooLarge {
            path: path.to_owned(),
            limit: MAX_SIZE,
        },
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|e| failed(io::Error::new(io::ErrorKind::InvalidData, e.utf8_error())))?;
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
    fn drop_ins_are_those_with_the_right_ending_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(DROP_INS);
        fs::create_dir_all(place.join("sub.yml")).unwrap();
        let names = [
            "20-b.json",
            "10-a.yml",
            "30-c.yaml",
            "40.yml.rpmsave",
            ".50.yml",
            "60.yml~",
        ];
        for name in names {
            fs::write(place.join(name), "").unwrap();
        }
        let shown = |path: &Path| -> Vec<String> {
            let all = sources(path).unwrap();
            all.iter()
                .map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string())
                .collect()
        };
        let alone = ["conf.d/10-a.yml", "conf.d/20-b.json", "conf.d/30-c.yaml"];
        assert_eq!(shown(&place), alone);
        assert_eq!(shown(dir.path()), alone);
        assert_eq!(first_in(&[dir.path().to_owned()]).unwrap(), place);
        let main = dir.path().join("managedTokens.yml");
        fs::write(&main, "").unwrap();
        assert_eq!(shown(&main).len(), 4);
        assert_eq!(shown(dir.path())[0], "managedTokens.yml");
        // a file by another name stands alone
        assert_eq!(shown(&dir.path().join("other.yml")), ["other.yml"]);
        assert!(matches!(
            sources(&place.join("sub.yml")),
            Err(Error::NotFound { .. })
        ));
    }

    #[test]
    fn a_drop_in_that_is_a_link_to_nothing_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(DROP_INS);
        fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink("/nowhere/x.yml", place.join("10.yml")).unwrap();
        let files = sources(dir.path()).unwrap();
        assert_eq!(files, [place.join("10.yml")]);
        assert!(matches!(read(&files[0], 99), Err(Error::Read { .. })));
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
            read(dir.path(), 99),
            Err(Error::NotAFile { .. } | Error::Read { .. })
        ));
        assert!(matches!(
            read(&dir.path().join("none"), 99),
            Err(Error::Read { .. })
        ));
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
