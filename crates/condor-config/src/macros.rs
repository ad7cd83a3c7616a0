//! The table of settings, and what a client may assume of those that nobody set.

use std::{collections::BTreeMap, fmt};

use crate::{Place, Unevaluated, expand};

/// What a tool's own settings begin with.
const SUBSYSTEM: &str = "tool.";

/// HTCondor's defaults (23.9 and 25.14) of what concerns a client. Others are taken as not set.
const DEFAULTS: [(&str, &str); 6] = [
    ("user_config_file", "user_config"),
    ("require_local_config_file", "true"),
    ("release_dir", "/usr"),
    ("tool", ""),
    ("subsystem", "TOOL"),
    (
        "local_config_dir_exclude_regexp",
        r"^((\..*)|(.*\.pl)|(.*\.py)|(.*\.sh)|(.*~)|(#.*)|(.*\.rpmsave)|(.*\.rpmnew)|(.*\.dpkg-old)|(.*\.dpkg-dist)|(.*\.cfsaved))$",
    ),
];

/// No configuration comes near it.
const MOST: usize = 100_000;
/// All values ever set together: settings that double themselves in files that include themselves.
const BYTES: usize = 64 * 1024 * 1024;

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The name asked for.
    pub name: String,
    /// Its value, macros expanded.
    pub value: String,
    /// Where it is set.
    pub place: Place,
}

#[derive(Clone)]
pub(crate) struct Macro {
    pub(crate) raw: String,
    pub(crate) place: Place,
}

/// All settings by name in small letters.
#[derive(Clone, Default)]
pub(crate) struct Macros {
    set: BTreeMap<String, Macro>,
    bytes: usize,
    /// Variables of the environment that `$ENV()` may ask for.
    pub(crate) variables: BTreeMap<String, String>,
}

impl fmt::Debug for Macros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Macros")
            .field("set", &self.set.len())
            .field("variables", &self.variables.len())
            .finish_non_exhaustive()
    }
}

impl Macros {
    /// Sets it; references to itself are expanded now. `false` if there is no room for more.
    pub(crate) fn set(&mut self, name: &str, raw: &str, place: Place) -> bool {
        if self.bytes > BYTES {
            return false;
        }
        let key = name.to_ascii_lowercase();
        let old = self.set.get(&key).map(|old| old.raw.clone()).unwrap_or_default();
        let raw = expand::own(&key, &old, raw);
        self.bytes += raw.len();
        if self.bytes > BYTES || self.set.len() >= MOST {
            return false;
        }
        self.set.insert(key, Macro { raw, place });
        true
    }

    /// As a tool finds it: its own first. What is empty is not set.
    pub(crate) fn raw(&self, name: &str) -> Option<(&str, Place)> {
        let key = name.to_ascii_lowercase();
        let set = self
            .set
            .get(&format!("{SUBSYSTEM}{key}"))
            .or_else(|| self.set.get(&key));
        match set {
            Some(set) => Some((set.raw.as_str(), set.place.clone())),
            None => DEFAULTS
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| (*value, Place::Default)),
        }
        .filter(|(raw, _)| !raw.trim().is_empty())
    }

    pub(crate) fn get(&self, name: &str, work: &mut usize) -> Result<Option<Setting>, Unevaluated> {
        let Some((raw, place)) = self.raw(name) else {
            return Ok(None);
        };
        match self.expand(raw, work) {
            Ok(value) => Ok(Some(value.trim().to_owned())
                .filter(|value| !value.is_empty())
                .map(|value| Setting {
                    name: name.to_owned(),
                    value,
                    place,
                })),
            Err(why) => Err(Unevaluated {
                name: name.to_owned(),
                place,
                why,
            }),
        }
    }

    /// `work` is what may still be looked at.
    pub(crate) fn expand(&self, text: &str, work: &mut usize) -> Result<String, String> {
        expand::all(text, self, work)
    }
}
