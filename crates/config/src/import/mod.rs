//! An old file rewritten into a tidy one: the same meaning, every key explained, each experiment in a file of its own.

mod comments;
mod yaml;

use std::{collections::HashSet, path::PathBuf};

use serde_json::Map;

use crate::{
    DROP_INS, Error, Site,
    keys::{self, EXPERIMENT, Fate, Key, MTK, ROLE, TOP},
    tree::{Entry, Node, Position, Value},
};
use comments::Comments;

/// The name an imported file gives its schema; see [`crate::schema()`].
pub const SCHEMA_NAME: &str = "managedTokens.schema.json";

/// The form a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, with comments.
    Yaml,
    /// JSON, which has no comments: the schema beside it explains the keys.
    Json,
}

/// What an import came to.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Each file by its name below the directory it belongs in, the main file first.
    pub files: Vec<(PathBuf, String)>,
}

/// Rewrites files already read, each laid over those before, as [`crate::parse_all`] takes them. With `single` all
/// goes into one file, for a site where the Go service, which knows no drop-ins, is to read it as well.
///
/// Comments are kept with the key they stand at; those of no key stand at the end of the main file.
///
/// # Errors
/// [`Error::Syntax`] and [`Error::NotAMap`], and [`Error::Twice`] where a key stands twice in one map: whoever wrote
/// it has to say which is meant.
pub fn import<T: AsRef<str>>(
    texts: &[(PathBuf, T)],
    format: Format,
    single: bool,
) -> Result<Imported, Error> {
    let files: Vec<PathBuf> = texts.iter().map(|(path, _)| path.clone()).collect();
    let mut tree = crate::merged(texts, &mut crate::Reporter::new(files.clone()))?;
    unique(&tree, "", &files)?;
    let apart = if single {
        Vec::new()
    } else {
        take_experiments(&mut tree)
    };
    let digits = apart.len().to_string().len().max(2);
    let named = |number: usize, entry: &Entry, ending: &str| {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        };
        let name: String = entry.key.chars().take(64).map(safe).collect();
        // the number keeps the order, which decides who owns a file several services want
        PathBuf::from(format!(
            "{DROP_INS}/{number:0digits$}-{name}.{ending}",
            number = number + 1
        ))
    };
    let mut out = Vec::new();
    match format {
        Format::Yaml => {
            let mut comments = Comments::of(texts, &generated());
            let mut drop_ins = Vec::new();
            for (number, entry) in apart.into_iter().enumerate() {
                let name = named(number, &entry, "yml");
                drop_ins.push((name, yaml::experiment(entry, &mut comments)));
            }
            out.push(("managedTokens.yml".into(), yaml::main(&tree, &mut comments)));
            out.extend(drop_ins);
        }
        Format::Json => {
            out.push(("managedTokens.json".into(), json_main(&tree)));
            for (number, entry) in apart.into_iter().enumerate() {
                let name = named(number, &entry, "json");
                out.push((name, pretty(&json(&alone(entry), EXPERIMENTS))));
            }
        }
    }
    Ok(Imported { files: out })
}

/// Whether two sites come to the same plan, wherever their values stand.
#[must_use]
pub fn same_meaning(one: &Site, other: &Site) -> bool {
    meaning(one) == meaning(other)
}

fn meaning(site: &Site) -> String {
    let mut site = site.clone();
    let values = |values: &[crate::Effective]| -> Vec<String> {
        values
            .iter()
            .map(|v| format!("{}={}", v.key.to_lowercase(), v.value))
            .collect()
    };
    let mut all = vec![format!("{:?}", values(&site.values))];
    for service in &mut site.services {
        service.at = Position::default();
        all.push(format!("{:?}", values(&std::mem::take(&mut service.values))));
    }
    let later = site.later.drain(..).map(|k| k.key.to_lowercase());
    let mut later: Vec<String> = later.filter(|key| key != "$schema").collect();
    later.sort();
    all.push(format!("{later:?}"));
    all.extend(
        site.broken
            .drain(..)
            .map(|b| format!("{} {}", b.id, b.reason.to_lowercase())),
    );
    (site.path, site.files, site.values) = (PathBuf::new(), Vec::new(), Vec::new());
    all.push(format!("{site:?}"));
    all.join("\n")
}

/// The keys of `{experiments: ...}`, for whoever asks by table.
const EXPERIMENTS: &[Key] = &[keys::key("experiments", Fate::Used, keys::Form::Map, "")];

/// Whether two tables are one.
fn same_table(one: &[Key], other: &[Key]) -> bool {
    let first = |table: &[Key]| table.first().map(|key| key.name);
    one.len() == other.len() && first(one) == first(other)
}

/// The table for what is below a key, if there is one.
fn below(key: &str, known: &'static [Key]) -> &'static [Key] {
    match keys::find(known, key).map(|k| k.fate) {
        Some(Fate::Section(keys)) => keys,
        _ => &[],
    }
}

fn unique(node: &Node, path: &str, files: &[PathBuf]) -> Result<(), Error> {
    let Value::Map(entries) = &node.value else {
        return Ok(());
    };
    let mut seen = HashSet::new();
    for entry in entries {
        let key = if path.is_empty() {
            entry.key.clone()
        } else {
            format!("{path}.{}", entry.key)
        };
        if !seen.insert(entry.key.to_lowercase()) {
            return Err(Error::Twice {
                path: files.get(usize::from(entry.at.file)).cloned().unwrap_or_default(),
                at: entry.at,
                key,
            });
        }
        unique(&entry.node, &key, files)?;
    }
    Ok(())
}

fn take_experiments(tree: &mut Node) -> Vec<Entry> {
    let Value::Map(top) = &mut tree.value else {
        return Vec::new();
    };
    let place = top.iter().position(|e| e.key.eq_ignore_ascii_case("experiments"));
    match place
        .and_then(|place| top.get_mut(place))
        .map(|e| std::mem::replace(&mut e.node.value, Value::Null))
    {
        Some(Value::Map(experiments)) => {
            top.retain(|e| !e.key.eq_ignore_ascii_case("experiments"));
            experiments
        }
        // not a map: it stays what it is, for the check to say
        Some(other) => {
            if let Some(entry) = place.and_then(|place| top.get_mut(place)) {
                entry.node.value = other;
            }
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// An experiment as a file of its own.
fn alone(entry: Entry) -> Node {
    let at = entry.at;
    let experiments = Entry {
        key: "experiments".into(),
        at: Position::default(),
        node: Node {
            at,
            value: Value::Map(vec![entry]),
        },
    };
    Node {
        at: Position::default(),
        value: Value::Map(vec![experiments]),
    }
}

/// The entries in the order of the table, those it does not know last.
fn sorted<'n>(entries: &'n [Entry], known: &[Key]) -> Vec<&'n Entry> {
    let place = |e: &Entry| known.iter().position(|k| k.name.eq_ignore_ascii_case(&e.key));
    let mut all: Vec<&Entry> = entries.iter().collect();
    all.sort_by_key(|e| place(e).unwrap_or(usize::MAX));
    all
}

/// The key as the documentation writes it.
fn canonical(key: &str, known: &'static [Key]) -> String {
    keys::find(known, key).map_or_else(|| key.to_owned(), |k| k.name.to_owned())
}

fn json_main(tree: &Node) -> String {
    let mut map = Map::new();
    map.insert("$schema".into(), SCHEMA_NAME.into());
    if let serde_json::Value::Object(rest) = json(tree, TOP) {
        for (key, value) in rest {
            map.entry(key).or_insert(value);
        }
    }
    pretty(&map.into())
}

fn json(node: &Node, known: &'static [Key]) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
            (Ok(n), _) => n.into(),
            (_, Ok(n)) => n.into(),
            _ => n.to_string().into(),
        },
        Value::Float(n) => serde_json::Number::from_f64(*n).map_or_else(|| n.to_string().into(), Into::into),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(|item| json(item, &[])).collect(),
        Value::Map(entries) => sorted(entries, known)
            .into_iter()
            .map(|e| {
                let key = canonical(&e.key, known);
                let value = match (
                    key.as_str(),
                    same_table(known, TOP) || same_table(known, EXPERIMENTS),
                ) {
                    ("experiments", true) => named(&e.node, EXPERIMENT, |inner| json(inner, EXPERIMENT)),
                    _ if key == "roles" => named(&e.node, ROLE, |inner| json(inner, ROLE)),
                    _ => json(&e.node, below(&e.key, known)),
                };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// A map from names the site chose.
fn named(
    node: &Node,
    known: &'static [Key],
    inner: impl Fn(&Node) -> serde_json::Value,
) -> serde_json::Value {
    match &node.value {
        Value::Map(entries) => entries
            .iter()
            .map(|e| (e.key.clone(), inner(&e.node)))
            .collect::<Map<_, _>>()
            .into(),
        _ => json(node, known),
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Every comment an import writes itself, so that importing twice adds none twice.
fn generated() -> HashSet<String> {
    fn add(keys: &'static [Key], out: &mut HashSet<String>) {
        for key in keys {
            out.insert(key.about.to_owned());
            if let Fate::Section(below) | Fate::Named(below) = key.fate {
                add(below, out);
            }
        }
    }
    let mut all: HashSet<String> = yaml::HEAD
        .iter()
        .chain(&[yaml::OPTIONAL, yaml::LEFT])
        .map(|l| (*l).to_owned())
        .collect();
    for keys in [TOP, EXPERIMENT, ROLE] {
        add(keys, &mut all);
    }
    all.extend(
        yaml::optional(MTK, &[])
            .into_iter()
            .map(|line| line.trim().to_owned()),
    );
    all.insert("mtk:".into());
    all
}
