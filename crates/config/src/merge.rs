//! Drop-ins laid over the file: maps are merged key by key, anything else is replaced.

use std::collections::{HashMap, HashSet};

use crate::tree::{Entry, Node, Position, Value};

/// A value that a later file replaced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The key with its path, as the later file writes it.
    pub(crate) key: String,
    /// Where the value in effect stands.
    pub(crate) at: Position,
    /// Where the one it replaced stands.
    pub(crate) before: Position,
    /// Whether one of the two is a map and the other is not.
    pub(crate) unlike: bool,
}

/// Lays the maps of `over` over those of `base`. Keys are the same in any case, as everywhere; a key without a value
/// changes nothing.
pub(crate) fn merge(base: &mut Node, over: Node, replaced: &mut Vec<Replaced>) {
    maps(base, over, "", replaced);
}

fn maps(base: &mut Node, over: Node, path: &str, replaced: &mut Vec<Replaced>) {
    let (Value::Map(entries), Value::Map(new)) = (&mut base.value, over.value) else {
        return;
    };
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        places.entry(entry.key.to_lowercase()).or_insert(index);
    }
    let mut seen = HashSet::new();
    for entry in new {
        let folded = entry.key.to_lowercase();
        // twice in one file is an error, which is found where keys are judged
        let twice = !seen.insert(folded.clone());
        let there = places.get(&folded).filter(|_| !twice);
        match there.and_then(|index| entries.get_mut(*index)) {
            Some(old) => one(old, entry, path, replaced),
            None => entries.push(entry),
        }
    }
}

fn one(old: &mut Entry, new: Entry, path: &str, replaced: &mut Vec<Replaced>) {
    let key = if path.is_empty() {
        new.key.clone()
    } else {
        format!("{path}.{}", new.key)
    };
    match (&old.node.value, &new.node.value) {
        (_, Value::Null) => {}
        (Value::Null, _) => *old = new,
        (Value::Map(_), Value::Map(_)) => maps(&mut old.node, new.node, &key, replaced),
        (one, other) => {
            replaced.push(Replaced {
                key,
                at: new.at,
                before: old.at,
                unlike: matches!(one, Value::Map(_)) != matches!(other, Value::Map(_)),
            });
            *old = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::parse;

    fn merged(files: &[&str]) -> (String, Vec<String>) {
        let mut trees = files
            .iter()
            .zip(0..)
            .map(|(text, file)| parse(text, file).unwrap());
        let mut base = trees.next().unwrap();
        let mut replaced = Vec::new();
        for tree in trees {
            merge(&mut base, tree, &mut replaced);
        }
        (shape(&base), replaced.into_iter().map(|r| r.key).collect())
    }

    fn shape(node: &Node) -> String {
        match &node.value {
            Value::Map(entries) => {
                let all: Vec<_> = entries
                    .iter()
                    .map(|e| format!("{}@{}:{}", e.key, e.at.file, shape(&e.node)))
                    .collect();
                format!("{{{}}}", all.join(" "))
            }
            Value::List(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(" ")),
            Value::Text(text) => text.clone(),
            Value::Int(n) => n.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn maps_are_merged_and_the_rest_is_replaced() {
        let (shape, replaced) = merged(&[
            "a: 1\nm: {x: 1, l: [1, 2]}\nn:\n",
            "M: {X: 2, y: 3, l: [4]}\nn: {k: v}\na:\n",
        ]);
        assert_eq!(shape, "{a@0:1 m@0:{X@1:2 l@1:[4] y@1:3} n@1:{k@1:v}}");
        assert_eq!(replaced, ["M.X", "M.l"]);
    }

    #[test]
    fn a_key_twice_in_one_drop_in_stays_there_twice() {
        let (shape, _) = merged(&["a: 1\n", "A: 2\na: 3\n"]);
        assert_eq!(shape, "{A@1:2 a@1:3}");
    }

    #[test]
    fn a_map_and_another_value_are_unlike() {
        let mut base = parse("a: {b: 1}\n", 0).unwrap();
        let mut replaced = Vec::new();
        merge(&mut base, parse("a: 1\n", 1).unwrap(), &mut replaced);
        assert!(replaced[0].unlike);
    }
}
