//! Where the configuration lies, and the order of it all.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::{Config, Place, Source, macros::Macros, read::Reader};

/// Where the first file is looked for when `CONDOR_CONFIG` does not say; after these comes the home of `condor`.
pub const GLOBAL: [&str; 2] = ["/etc/condor/condor_config", "/usr/local/etc/condor_config"];

/// Of `CONDOR_CONFIG`: there are no files.
const ONLY_ENVIRONMENT: &str = "ONLY_ENV";

/// What is known of the process and its host. Whoever owns the process fills it in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Variables of the process, in their order: of two that differ in case alone the later counts, as with HTCondor.
    pub variables: Vec<(String, String)>,
    /// The home directory of the account `condor`: another place of the first file, and `$(TILDE)`.
    pub condor_home: Option<PathBuf>,
    /// The host's full name, for `$(FULL_HOSTNAME)` and `$(HOSTNAME)`.
    pub host: Option<String>,
    /// Our own account's name, for `$(USERNAME)`.
    pub user: Option<String>,
    /// Whether we are root: then there is no user's own file.
    pub root: bool,
    /// The version of HTCondor as which `if version` is judged; all zero for [`Environment::VERSION`].
    pub version: [u32; 3],
}

/// Variables hold passwords: how many there are is all that is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
            .field("condor_home", &self.condor_home)
            .field("host", &self.host)
            .field("user", &self.user)
            .field("root", &self.root)
            .field("version", &self.version)
            .finish()
    }
}

impl Environment {
    /// The version as which conditions are judged unless another is given.
    pub const VERSION: [u32; 3] = [25, 14, 1];

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

pub(crate) fn all(environment: &Environment, source: &dyn Source) -> Config {
    let version = match environment.version {
        [0, 0, 0] => Environment::VERSION,
        version => version,
    };
    let mut reader = Reader::new(source, version, known(environment));
    let given = environment.variable("CONDOR_CONFIG");
    if given != Some(ONLY_ENVIRONMENT) {
        global(environment, given, source, &mut reader);
        local(&mut reader);
        if !environment.root {
            own(environment, &mut reader);
        }
    }
    from_environment(environment, &mut reader);
    reader.finish()
}

/// What HTCondor finds out by itself.
fn known(environment: &Environment) -> Macros {
    let mut macros = Macros::default();
    macros.variables = environment.variables.iter().cloned().collect();
    let host = environment.host.as_deref().unwrap_or_default();
    let short = host.split('.').next().unwrap_or_default();
    let home = environment
        .condor_home
        .as_deref()
        .map(|home| home.to_string_lossy());
    for (name, value) in [
        ("FULL_HOSTNAME", host),
        ("HOSTNAME", short),
        ("TILDE", home.as_deref().unwrap_or_default()),
        ("USERNAME", environment.user.as_deref().unwrap_or_default()),
        ("CondorIsAdmin", if environment.root { "true" } else { "false" }),
    ] {
        if !value.is_empty() {
            macros.set(name, value, Place::Default);
        }
    }
    macros
}

fn global(environment: &Environment, given: Option<&str>, source: &dyn Source, reader: &mut Reader<'_>) {
    if let Some(given) = given {
        let place = Place::Environment("CONDOR_CONFIG".to_owned());
        return reader.file(Path::new(given), true, Some(place), 0);
    }
    let home = environment
        .condor_home
        .as_deref()
        .map(|home| home.join("condor_config"));
    let all = GLOBAL.iter().map(PathBuf::from).chain(home);
    for path in all {
        // read twice, which is rare enough
        if !matches!(source.file(&path), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
            return reader.file(&path, true, None, 0);
        }
    }
}

fn local(reader: &mut Reader<'_>) {
    let value = |reader: &mut Reader<'_>| match reader.get("LOCAL_CONFIG_DIR") {
        Ok(found) => found.map(|found| (found.value, found.place)),
        Err(error) => {
            reader.say(
                error.place,
                format!("LOCAL_CONFIG_DIR has no value here: {}", error.why),
            );
            None
        }
    };
    let first = value(reader);
    if let Some((directories, place)) = &first {
        directory(directories, place, reader);
    }
    let needed = reader.get("REQUIRE_LOCAL_CONFIG_FILE").ok().flatten();
    let needed =
        needed.is_none_or(|value| !["false", "no", "f", "0"].contains(&value.value.to_lowercase().as_str()));
    reader.listed("LOCAL_CONFIG_FILE", needed);
    let second = value(reader);
    if let Some((directories, place)) = second
        && first.is_none_or(|(before, _)| before != directories)
    {
        directory(&directories, &place, reader);
    }
}

/// Every file in them that no pattern leaves out, in the order of their names.
fn directory(directories: &str, place: &Place, reader: &mut Reader<'_>) {
    let pattern = match reader.get("LOCAL_CONFIG_DIR_EXCLUDE_REGEXP") {
        Ok(Some(found)) => match Regex::new(&found.value) {
            Ok(pattern) => Some(pattern),
            Err(_) => {
                reader.say(
                    found.place,
                    "LOCAL_CONFIG_DIR_EXCLUDE_REGEXP is no regular expression: nothing is left out",
                );
                None
            }
        },
        Ok(None) => None,
        Err(error) => {
            reader.say(
                error.place,
                "LOCAL_CONFIG_DIR_EXCLUDE_REGEXP has no value here: nothing is left out",
            );
            None
        }
    };
    for directory in crate::read::words(directories) {
        let directory = Path::new(directory);
        match reader.names(directory) {
            Ok(mut names) => {
                names.sort_unstable();
                for name in names {
                    if !pattern.as_ref().is_some_and(|pattern| pattern.is_match(&name)) {
                        reader.file(&directory.join(name), true, Some(place.clone()), 0);
                    }
                }
            }
            Err(error) => reader.say(
                place.clone(),
                format!("{} cannot be listed: {error}", directory.display()),
            ),
        }
    }
}

/// `~/.condor/user_config`
fn own(environment: &Environment, reader: &mut Reader<'_>) {
    let (Ok(Some(name)), Some(home)) = (reader.get("USER_CONFIG_FILE"), environment.variable("HOME")) else {
        return;
    };
    let path = Path::new(home).join(".condor").join(name.value);
    reader.file(&path, false, None, 0);
}

fn from_environment(environment: &Environment, reader: &mut Reader<'_>) {
    const PREFIX: &str = "_condor_";
    for (variable, value) in &environment.variables {
        let Some((prefix, name)) = variable.split_at_checked(PREFIX.len()) else {
            continue;
        };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            continue;
        }
        let place = Place::Environment(variable.clone());
        if !crate::lines::is_name(name) {
            reader.say(place, "what is set here has no name that is one");
        } else if !reader.macros.set(name, value, place.clone()) {
            reader.say(place, "there are too many settings: this one is left out");
        }
    }
}
