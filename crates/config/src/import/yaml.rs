//! YAML as people keep it: keys in one order, each explained, texts quoted where they must be.

use super::{Comments, alone, below, canonical, same_table, sorted};
use crate::{
    keys::{self, EXPERIMENT, Fate, Key, MTK, ROLE, TOP},
    tree::{Entry, Node, Value},
};

pub(super) const HEAD: [&str; 3] = [
    "Configuration of mtk, which also reads the files in conf.d beside this one, in the order of their names.",
    "yaml-language-server: $schema=managedTokens.schema.json",
    "`mtk config check` judges it, `mtk config show --origin` says what is in effect.",
];
pub(super) const OPTIONAL: &str = "Keys of mtk, all optional. The Go service ignores them.";
pub(super) const LEFT: &str = "Comments that stood at no key:";
/// Longest list on one line.
const WIDTH: usize = 100;

/// The main file.
pub(super) fn main(tree: &Node, comments: &mut Comments) -> String {
    let mut out = Writer {
        text: String::new(),
        comments,
    };
    let mut head: Vec<String> = HEAD.iter().map(|l| (*l).to_owned()).collect();
    head.append(&mut out.comments.head);
    out.comment(&head, 0);
    let entries = match &tree.value {
        Value::Map(entries) => entries.as_slice(),
        _ => &[],
    };
    for entry in sorted(entries, TOP) {
        out.text.push('\n');
        out.entry(entry, TOP, 0);
    }
    let set: Vec<&Entry> = entries
        .iter()
        .filter(|e| e.key.eq_ignore_ascii_case("mtk"))
        .collect();
    let given = match set.first().map(|e| &e.node.value) {
        Some(Value::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let missing = optional(MTK, given);
    if !missing.is_empty() {
        out.text.push('\n');
        out.comment(&[OPTIONAL.to_owned(), "mtk:".to_owned()], 0);
        for line in missing {
            out.text.push_str(&format!("# {line}\n"));
        }
    }
    let rest = out.comments.rest();
    if !rest.is_empty() {
        out.text.push('\n');
        out.comment(&[LEFT.to_owned()], 0);
        out.comment(&rest, 0);
    }
    out.text
}

/// One experiment's file.
pub(super) fn experiment(entry: Entry, comments: &mut Comments) -> String {
    let mut out = Writer {
        text: String::new(),
        comments,
    };
    if let Value::Map(entries) = &alone(entry).value {
        for entry in entries {
            out.entry(entry, TOP, 0);
        }
    }
    out.text
}

/// A line for every key that is not given, without the sign of a comment.
pub(super) fn optional(known: &'static [Key], given: &[Entry]) -> Vec<String> {
    fn lines(known: &'static [Key], given: &[Entry], indent: usize, out: &mut Vec<String>) {
        for key in known {
            let there = given.iter().find(|e| e.key.eq_ignore_ascii_case(key.name));
            let pad = " ".repeat(indent);
            match (key.fate, there.map(|e| &e.node.value)) {
                (Fate::Section(below), there) => {
                    let given = match there {
                        Some(Value::Map(entries)) => entries.as_slice(),
                        _ => &[],
                    };
                    let mut inner = Vec::new();
                    lines(below, given, indent + 2, &mut inner);
                    if !inner.is_empty() {
                        out.push(format!("{pad}{}:  # {}", key.name, key.about));
                        out.append(&mut inner);
                    }
                }
                (_, None) => out.push(format!("{pad}{}:  # {}", key.name, key.about)),
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    lines(known, given, 2, &mut out);
    out
}

struct Writer<'c> {
    text: String,
    comments: &'c mut Comments,
}

impl Writer<'_> {
    fn comment(&mut self, lines: &[String], indent: usize) {
        for line in lines {
            let line = format!("{}# {line}", " ".repeat(indent));
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    fn entry(&mut self, entry: &Entry, known: &'static [Key], indent: usize) {
        let key = keys::find(known, &entry.key);
        // inside roles the keys speak for themselves, and stand there many times
        let about = key.filter(|_| !same_table(known, ROLE) && !same_table(known, EXPERIMENT));
        let mut lines: Vec<String> = about.map(|k| k.about.to_owned()).into_iter().collect();
        lines.extend(self.comments.take(entry.at));
        self.comment(&lines, indent);
        let written = canonical(&entry.key, known);
        self.text
            .push_str(&format!("{}{}:", " ".repeat(indent), scalar(&written)));
        match (written.as_str(), &entry.node.value) {
            ("experiments", Value::Map(inner)) if same_table(known, TOP) => {
                self.named(inner, EXPERIMENT, indent)
            }
            ("roles", Value::Map(inner)) if same_table(known, EXPERIMENT) => self.named(inner, ROLE, indent),
            _ => {
                let below = match key.map(|k| k.fate) {
                    Some(Fate::Named(_)) => &[],
                    _ => below(&entry.key, known),
                };
                self.value(&entry.node, below, indent);
            }
        }
    }

    /// A map from names the site chose, whose keys are in this table.
    fn named(&mut self, entries: &[Entry], known: &'static [Key], indent: usize) {
        if entries.is_empty() {
            self.text.push_str(" {}");
        }
        self.text.push('\n');
        for entry in entries {
            let lines = self.comments.take(entry.at);
            self.comment(&lines, indent + 2);
            self.text
                .push_str(&format!("{}{}:", " ".repeat(indent + 2), scalar(&entry.key)));
            self.value(&entry.node, known, indent + 2);
        }
    }

    /// What stands behind a key's colon, to the end of the last line.
    fn value(&mut self, node: &Node, known: &'static [Key], indent: usize) {
        match &node.value {
            Value::Map(entries) if entries.is_empty() => self.text.push_str(" {}\n"),
            Value::Map(entries) => {
                self.text.push('\n');
                for entry in sorted(entries, known) {
                    self.entry(entry, known, indent + 2);
                }
            }
            Value::List(items) => self.list(items, indent),
            // written out: behind an empty value the parser looks ahead through no more than so many comments
            Value::Null => self.text.push_str(" null\n"),
            other => self.text.push_str(&format!(" {}\n", show(other))),
        }
    }

    fn list(&mut self, items: &[Node], indent: usize) {
        let plain = |item: &Node| !matches!(item.value, Value::Map(_) | Value::List(_));
        let line = items
            .iter()
            .map(|i| show(&i.value))
            .collect::<Vec<_>>()
            .join(", ");
        let last = items.last().map_or(0, |i| i.at.line.saturating_add(1));
        let commented = items
            .first()
            .is_some_and(|first| self.comments.any_within(first.at, last));
        if items.iter().all(plain) && line.len() + indent < WIDTH && !commented {
            self.text.push_str(&format!(" [{line}]\n"));
            return;
        }
        self.text.push('\n');
        for item in items {
            let lines = self.comments.take(item.at);
            self.comment(&lines, indent + 2);
            // lists of lists are nowhere in this file; whoever wrote one keeps it, on one line
            self.text
                .push_str(&format!("{}- {}\n", " ".repeat(indent + 2), show(&item.value)));
        }
    }
}

/// A value on one line.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Text(text) => scalar(text),
        Value::List(items) => format!(
            "[{}]",
            items
                .iter()
                .map(|i| show(&i.value))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Value::Map(entries) => {
            let all: Vec<String> = entries
                .iter()
                .map(|e| format!("{}: {}", scalar(&e.key), show(&e.node.value)))
                .collect();
            format!("{{{}}}", all.join(", "))
        }
    }
}

/// A text, quoted unless every reader of YAML takes it for itself.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 10] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_' || c == '$');
    let plain = begins
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/_.@+$-".contains(c))
        && !WORDS.contains(&text.to_lowercase().as_str())
        && !["inf", "infinity"].contains(&text.to_lowercase().as_str());
    // spans of time: no reader takes them for numbers
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let plain = plain || (unit.len() < text.len() && ["ms", "s", "m", "h", "d"].contains(&unit));
    let single = text
        .chars()
        .all(|c| c == ' ' || c.is_ascii_graphic() || (c.is_alphanumeric() && !c.is_control()));
    match text {
        text if plain => text.to_owned(),
        text if single && !text.is_empty() => format!("'{}'", text.replace('\'', "''")),
        text => {
            let escape = |c: char| match c {
                '"' | '\\' => format!("\\{c}"),
                ' ' => " ".to_owned(),
                c if c.is_ascii_graphic() || c.is_alphanumeric() => c.to_string(),
                c => format!("\\U{:08x}", u32::from(c)),
            };
            format!("\"{}\"", text.chars().map(escape).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::parse;

    #[test]
    fn a_text_is_read_back_as_it_was() {
        for text in [
            "",
            "x",
            "yes",
            "No",
            "null",
            "~",
            "3",
            "0x10",
            "1.5",
            "1e3",
            ".inf",
            "inf",
            "3d",
            "a: b",
            "a #b",
            "#b",
            "it's",
            "\"",
            "- x",
            "{{.Account}}/x@R",
            "a\nb",
            "\u{7f}",
            "é",
            "\u{85}",
            "\u{feff}",
            "*a",
            "&a",
            "!t",
            "@x",
            "`x`",
            "%x",
            "2026-01-01",
            "12:30",
            " x ",
            "x:",
            "[x",
            "host:8200",
            "$schema",
            "=",
            "<<",
        ] {
            let yaml = format!("k: {}\n", scalar(text));
            let Value::Map(map) = parse(&yaml, 0).unwrap().value else {
                panic!()
            };
            assert_eq!(map[0].node.value, Value::Text(text.into()), "{yaml}");
            let yaml = format!("{}: 1\n", scalar(text));
            let Value::Map(map) = parse(&yaml, 0).unwrap().value else {
                panic!()
            };
            assert!(map[0].key == text || text == "<<", "{yaml}");
        }
    }
}
