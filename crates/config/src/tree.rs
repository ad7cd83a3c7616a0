//! The file as a tree in which every key and value knows its line and column.
//!
//! JSON is YAML to this parser, so both forms of the site's file come through here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Options, Spanned};

/// Deepest nesting accepted. The real file has five levels.
const MAX_DEPTH: usize = 32;
/// Most values accepted; a site with a thousand services has some ten thousand.
const MAX_NODES: usize = 500_000;

/// A place in one of the files. Lines and columns count from 1; 0 means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which file, as a place in [`Site::files`](crate::Site::files).
    pub file: u16,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Position {
    fn new(file: u16, at: Location) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            file,
            line: small(at.line()),
            column: small(at.column()),
        }
    }
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// A key with its value, and where the key begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Value {
    /// What a message calls this kind of value.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Why the text is not YAML or JSON.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) at: Position,
    pub(crate) why: String,
}

/// Parses one document, which becomes this one of the site's files.
pub(crate) fn parse(text: &str, file: u16) -> Result<Node, Malformed> {
    let options: Options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: MAX_NODES, max_documents: 1 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // as the Go service reads: `yes` is text, 0012 is not ten
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // a snippet would carry the values around the error, a web hook's address among them
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(tree) => {
            let mut tree = node(tree);
            stamp(&mut tree, file);
            Ok(tree)
        }
        Err(error) => Err(Malformed {
            // without one it is something about the whole, found where that ends
            at: error
                .location()
                .filter(|at| at.line() > 0)
                .map_or_else(|| end(text, file), |at| Position::new(file, at)),
            why: error.to_string(),
        }),
    }
}

fn end(text: &str, file: u16) -> Position {
    Position {
        file,
        line: u32::try_from(text.lines().count().max(1)).unwrap_or(u32::MAX),
        column: 1,
    }
}

fn node(raw: Spanned<Raw>) -> Node {
    Node {
        at: Position::new(0, raw.referenced),
        value: raw.value.0,
    }
}

/// Says of everything in the tree which file it is from.
fn stamp(node: &mut Node, file: u16) {
    node.at.file = file;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| stamp(item, file)),
        Value::Map(entries) => {
            for entry in entries {
                entry.at.file = file;
                stamp(&mut entry.node, file);
            }
        }
        _ => {}
    }
}

/// A value without its place; [`Spanned`] around it adds that.
struct Raw(Value);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw(Value::Int(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw(Value::Int(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw(Value::Text(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw(Value::Text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Raw>>()? {
            list.push(node(item));
        }
        Ok(Raw(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value::<Spanned<Raw>>()?;
            map.push(Entry {
                key: key.value,
                at: Position::new(0, key.referenced),
                node: node(value),
            });
        }
        Ok(Raw(Value::Map(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Node, Malformed> {
        super::parse(text, 0)
    }

    fn at(line: u32, column: u32) -> Position {
        Position {
            file: 0,
            line,
            column,
        }
    }

    fn map(node: &Node) -> &[Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let tree = parse("a: 1\nb:\n  c: [x, 2.5]\n  d: yes\n  e:\n").unwrap();
        let top = map(&tree);
        assert_eq!(
            (top[0].key.as_str(), top[0].at, top[0].node.at),
            ("a", at(1, 1), at(1, 4))
        );
        assert_eq!(top[0].node.value, Value::Int(1));
        let inner = map(&top[1].node);
        assert_eq!((inner[0].at, inner[0].node.at), (at(3, 3), at(3, 6)));
        assert_eq!(inner[1].node.value, Value::Text("yes".into()));
        assert_eq!(inner[2].node.value, Value::Null);
    }

    #[test]
    fn json_is_read_by_the_same_parser() {
        let text =
            "{\n\t\"a\":{\"b\":[\"x\\u00e9\\ud83d\\ude00\\/\",true,null,-3]},\n\t\"1\": 12345678901\n}\n";
        let tree = parse(text).unwrap();
        let top = map(&tree);
        assert_eq!(top[0].at, at(2, 2));
        let Value::List(list) = &map(&top[0].node)[0].node.value else {
            panic!()
        };
        assert_eq!(list[0].value, Value::Text("xé😀/".into()));
        assert_eq!(list[1].value, Value::Bool(true));
        assert_eq!(list[3].value, Value::Int(-3));
        assert_eq!(top[1].key, "1");
    }

    #[test]
    fn numbers_as_keys_are_text() {
        let tree = parse("12: a\ntrue: b\n").unwrap();
        let keys: Vec<_> = map(&tree).iter().map(|e| e.key.as_str()).collect();
        assert_eq!(keys, ["12", "true"]);
    }

    #[test]
    fn what_is_not_one_document_is_an_error_with_its_place() {
        let error = parse("a: 1\nb: [\n").unwrap_err();
        assert!(error.at.line >= 2, "{error:?}");
        let error = parse("a: 1\na: 2\n").unwrap_err();
        assert_eq!(error.at.line, 2, "{error:?}");
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}1{}", "[".repeat(100), "]".repeat(100))).is_err());
    }

    #[test]
    fn an_error_shows_no_value_of_the_file() {
        let error = parse("hook: https://hooks.example.org/SECRET\nhook: https://hooks.example.org/SECRET\n")
            .unwrap_err();
        assert!(!error.why.contains("SECRET"), "{}", error.why);
    }

    #[test]
    fn aliases_and_merge_keys_work_and_bombs_do_not() {
        let tree = parse("x: &a {k: v}\ny:\n  <<: *a\n  z: 1\n").unwrap();
        assert_eq!(map(&map(&tree)[1].node).len(), 2);
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(parse(&bomb).is_err());
    }
}
