//! A map of the file read the way viper reads it: keys in any case, nothing written is nothing set, scalars of one
//! kind taken for another where that loses nothing.

use std::{collections::HashMap, time::Duration};

use crate::{
    AcceptedKey, duration,
    finding::Reporter,
    keys::{self, DEAD, FLAGS, Fate, Key},
    tree::{Entry, Node, Position, Value},
    words,
};

/// A map, and the path of keys that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Section<'t> {
    path: String,
    at: Position,
    entries: &'t [Entry],
}

/// What an unknown key is to the one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// An error that stops nothing.
    Error,
    /// An error the service in hand cannot run with.
    Refuse,
}

impl<'t> Section<'t> {
    pub(crate) fn top(node: &'t Node) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Self {
                path: String::new(),
                at: node.at,
                entries,
            }),
            Value::Null => Some(Self {
                path: String::new(),
                at: node.at,
                entries: &[],
            }),
            _ => None,
        }
    }

    pub(crate) fn at(&self) -> Position {
        self.at
    }

    pub(crate) fn entries(&self) -> &'t [Entry] {
        self.entries
    }

    /// The path of a key in this map, as written.
    pub(crate) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The entry of a key in any case; a key without a value counts as not there, as in viper.
    pub(crate) fn get(&self, key: &str) -> Option<&'t Entry> {
        self.entries
            .iter()
            .find(|e| e.node.value != Value::Null && e.key.eq_ignore_ascii_case(key))
    }

    /// The map below a key; anything else there is an error and reads as empty.
    pub(crate) fn child(&self, key: &str, report: &mut Reporter) -> Section<'t> {
        match self.get(key) {
            Some(entry) => self.below(entry, report),
            None => None,
        }
        .unwrap_or_else(|| self.nothing(key))
    }

    /// The map below a key of a role or experiment, its keys judged. Anything else there stops the service: without what is
    /// meant by it the service would run in another way than its file says.
    pub(crate) fn wanted(
        &self,
        key: &str,
        known: &'static [Key],
        advice: &str,
        report: &mut Reporter,
        later: &mut Vec<AcceptedKey>,
    ) -> Section<'t> {
        let section = self.map_wanted(key, advice, report);
        section.check_keys(known, Unknown::Refuse, report, later);
        section
    }

    /// The same of a map whose keys are names.
    pub(crate) fn map_wanted(&self, key: &str, advice: &str, report: &mut Reporter) -> Section<'t> {
        let Some(entry) = self.get(key) else {
            return self.nothing(key);
        };
        self.map(entry).unwrap_or_else(|why| {
            report.refuse(entry.node.at, &self.path_of(&entry.key), why, advice);
            self.nothing(key)
        })
    }

    /// What stands below a key that is not there: nothing, but by its name.
    fn nothing(&self, key: &str) -> Section<'t> {
        Section {
            path: self.path_of(key),
            at: Position::default(),
            entries: &[],
        }
    }

    /// The map that is an entry's value. An entry without a value is an empty map.
    pub(crate) fn below(&self, entry: &'t Entry, report: &mut Reporter) -> Option<Section<'t>> {
        let said = |why| report.error(entry.node.at, &self.path_of(&entry.key), why, "");
        self.map(entry).map_err(said).ok()
    }

    /// The map that is an entry's value, or why it is none.
    pub(crate) fn map(&self, entry: &'t Entry) -> Result<Section<'t>, String> {
        let entries: &[Entry] = match &entry.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => return Err(format!("a map is wanted here, not {}", other.kind())),
        };
        Ok(Section {
            path: self.path_of(&entry.key),
            at: entry.at,
            entries,
        })
    }

    /// Says which keys are unknown or written twice, and which are accepted without having a function yet.
    pub(crate) fn check_keys(
        &self,
        known: &'static [Key],
        unknown: Unknown,
        report: &mut Reporter,
        later: &mut Vec<AcceptedKey>,
    ) {
        let mut seen: HashMap<String, Position> = HashMap::new();
        for entry in self.entries {
            let path = self.path_of(&entry.key);
            let mut blame = |message: String, advice: String| match unknown {
                Unknown::Error => report.error(entry.at, &path, message, advice),
                Unknown::Refuse => report.refuse(entry.at, &path, message, advice),
            };
            if let Some(first) = seen.get(&entry.key.to_lowercase()) {
                blame(
                    format!("the same key stands in line {} in another case", first.line),
                    "keep one of them".into(),
                );
                continue;
            }
            seen.insert(entry.key.to_lowercase(), entry.at);
            match keys::find(known, &entry.key) {
                // in a role or experiment that is for whoever reads the section, see `wanted`
                Some(key)
                    if unknown == Unknown::Refuse
                        && matches!(key.fate, Fate::Section(_) | Fate::Named(_)) => {}
                Some(key) => self.follow(entry, key.fate, report, later),
                None => {
                    let (message, advice) = self.unknown(&entry.key, known);
                    blame(message, advice);
                }
            }
        }
    }

    fn follow(&self, entry: &'t Entry, fate: Fate, report: &mut Reporter, later: &mut Vec<AcceptedKey>) {
        match fate {
            Fate::Used => {}
            Fate::NotNeeded(reason) => later.push(AcceptedKey {
                key: self.path_of(&entry.key),
                at: entry.at,
                reason,
            }),
            Fate::Section(known) => {
                if let Some(below) = self.below(entry, report) {
                    below.check_keys(known, Unknown::Error, report, later);
                }
            }
            Fate::Named(known) => {
                let below = self.below(entry, report);
                for entry in below.iter().flat_map(|b| b.entries) {
                    if let Some(inner) = below.as_ref().and_then(|b| b.below(entry, report)) {
                        inner.check_keys(known, Unknown::Error, report, later);
                    }
                }
            }
        }
    }

    fn unknown(&self, key: &str, known: &[Key]) -> (String, String) {
        let is = |list: &[&str]| self.path.is_empty() && list.iter().any(|f| f.eq_ignore_ascii_case(key));
        if is(FLAGS) {
            return (
                "this is a flag of the Go service, not a setting".into(),
                "say it on the command line".into(),
            );
        }
        if is(DEAD) {
            return ("nothing reads this key".into(), "remove it".into());
        }
        let advice = match words::nearest(key, known.iter().map(|k| k.name)) {
            Some(near) => format!("is {near} meant?"),
            None if key.to_lowercase().ends_with("override") => "overrides stand inside a role".into(),
            None => "remove it, or see docs/configuration.md for the keys there are".into(),
        };
        ("unknown key".into(), advice)
    }
}

/// Text; numbers and truth values are taken as they are written, as viper's GetString does.
pub(crate) fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        Value::Int(n) => Ok(n.to_string()),
        Value::Float(n) => Ok(n.to_string()),
        Value::Bool(b) => Ok(b.to_string()),
        other => Err(format!("text is wanted here, not {}", other.kind())),
    }
}

/// A list of words: a list, or one text in which blanks (as in viper) or commas part them.
pub(crate) fn list(value: &Value) -> Result<Vec<(String, Option<Position>)>, String> {
    match value {
        Value::List(items) => items
            .iter()
            .filter(|item| item.value != Value::Null)
            .map(|item| Ok((text(&item.value)?.trim().to_owned(), Some(item.at))))
            .collect(),
        other => Ok(text(other)?
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(|word| (word.to_owned(), None))
            .collect()),
    }
}

/// A truth value as Go's ParseBool takes it. The Go service reads `yes`, and any other text, as false without a word.
pub(crate) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(b) => Ok(*b),
        Value::Int(0) => Ok(false),
        Value::Int(1) => Ok(true),
        Value::Text(text) if ["1", "t", "T", "true", "TRUE", "True"].contains(&text.as_str()) => Ok(true),
        Value::Text(text) if ["0", "f", "F", "false", "FALSE", "False"].contains(&text.as_str()) => Ok(false),
        Value::Text(text) => Err(format!("{text:?} is neither true nor false")),
        other => Err(format!("true or false is wanted here, not {}", other.kind())),
    }
}

/// A whole number that fits; text that is one will do, and so will 3.0, as JSON tools write it.
pub(crate) fn count(value: &Value) -> Result<u32, String> {
    let number = match value {
        Value::Int(n) => Some(*n),
        Value::Text(text) => text.trim().parse().ok(),
        // a number written 3.0 shows without its fraction, any other does not parse
        Value::Float(n) => n.to_string().parse().ok(),
        other => return Err(format!("a whole number is wanted here, not {}", other.kind())),
    };
    number.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| {
        format!(
            "{} is not a whole number from 0 to {}",
            text(value).unwrap_or_default(),
            u32::MAX
        )
    })
}

/// A span of time: text, or a bare number of seconds.
pub(crate) fn span(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Text(_) | Value::Int(_) | Value::Float(_) => duration::parse(&text(value)?),
        other => Err(format!("a span of time is wanted here, not {}", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn value(text: &str) -> Value {
        tree::parse(text, 0).unwrap().value
    }

    #[test]
    fn keys_in_any_case_and_null_is_unset() {
        let tree = tree::parse("VaultServer: x\nemail:\nEXPERIMENTS: {a: 1}\n", 0).unwrap();
        let top = Section::top(&tree).unwrap();
        assert_eq!(top.get("vaultserver").unwrap().key, "VaultServer");
        assert!(top.get("email").is_none());
        assert!(top.get("experiments").is_some());
    }

    #[test]
    fn scalars_where_lists_are_meant() {
        let words = |t| {
            list(&value(t))
                .unwrap()
                .into_iter()
                .map(|(w, _)| w)
                .collect::<Vec<_>>()
        };
        assert_eq!(words("[a, b]"), ["a", "b"]);
        assert_eq!(words("a b"), ["a", "b"]);
        assert_eq!(words("a,b , c"), ["a", "b", "c"]);
        assert_eq!(words("5"), ["5"]);
        assert!(list(&value("{a: 1}")).is_err());
        assert!(list(&value("[[a]]")).is_err());
    }

    #[test]
    fn numbers_truth_and_spans() {
        assert_eq!(count(&value("12345")), Ok(12345));
        assert_eq!(count(&value("\"12345\"")), Ok(12345));
        assert_eq!(count(&value("3.0")), Ok(3));
        for text in ["3.5", "-1", "x", "4294967296", "[1]", "true"] {
            assert!(count(&value(text)).is_err(), "{text}");
        }
        assert_eq!(boolean(&value("true")), Ok(true));
        assert_eq!(boolean(&value("\"True\"")), Ok(true));
        assert_eq!(boolean(&value("0")), Ok(false));
        assert!(boolean(&value("yes")).is_err());
        assert_eq!(span(&value("90")), Ok(Duration::from_secs(90)));
        assert_eq!(span(&value("\"3d\"")), Ok(Duration::from_secs(259_200)));
        assert_eq!(text(&value("12345")), Ok("12345".into()));
    }
}
