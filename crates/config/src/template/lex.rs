//! Text and actions, and the words of an action.

/// A piece of a template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Word>),
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// `.Account`, without its dot; empty for the dot alone.
    Field(String),
    /// `printf`, `if`, ...
    Name(String),
    Text(String),
    Int(i64),
    Open,
    Close,
}

/// Splits into pieces, the text around trim markers trimmed, comments left out.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let (after, left) = match after.strip_prefix('-') {
            Some(behind) if behind.starts_with(BLANKS) => (behind, true),
            _ => (after, false),
        };
        push(&mut out, before, trim, left);
        let (words, behind, right) = action(after)?;
        if let Some(words) = words {
            out.push(Piece::Action(words));
        }
        trim = right;
        rest = behind;
    }
    push(&mut out, rest, trim, false);
    Ok(out)
}

/// What Go's lexer takes for blanks.
const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

fn push(out: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start {
        text.trim_start_matches(BLANKS)
    } else {
        text
    };
    let text = if trim_end {
        text.trim_end_matches(BLANKS)
    } else {
        text
    };
    if !text.is_empty() {
        out.push(Piece::Text(text.to_owned()));
    }
}

const NOT_CLOSED: &str = "a {{ is not closed by }}";

/// The words of an action, none for a comment; what is behind it; whether blanks there go.
fn action(text: &str) -> Result<(Option<Vec<Word>>, &str, bool), String> {
    if let Some(comment) = text.trim_start_matches(BLANKS).strip_prefix("/*") {
        let (_, behind) = comment.split_once("*/").ok_or("a comment is not closed by */")?;
        let (behind, trim) = end(behind).ok_or("a comment is an action of its own: {{/* ... */}}")?;
        return Ok((None, behind, trim));
    }
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        if let Some((behind, trim)) = end(rest) {
            return Ok((Some(words), behind, trim));
        }
        let blank = rest.starts_with(BLANKS);
        rest = rest.trim_start_matches(BLANKS);
        let (word, behind) = word(rest)?;
        // Go wants a blank between operands, and `(a)(b)` is of no use
        let apart = blank || words.is_empty() || word == Word::Close || words.last() == Some(&Word::Open);
        if !apart {
            return Err(format!("a blank is missing before {rest:?}"));
        }
        words.push(word);
        rest = behind;
    }
}

/// What is behind the end of an action, if this is one, and whether blanks there go.
fn end(text: &str) -> Option<(&str, bool)> {
    let inside = text.trim_start_matches(BLANKS);
    if inside.len() < text.len()
        && let Some(behind) = inside.strip_prefix("-}}")
    {
        return Some((behind, true));
    }
    inside.strip_prefix("}}").map(|behind| (behind, false))
}

fn word(text: &str) -> Result<(Word, &str), String> {
    let first = text.chars().next().ok_or(NOT_CLOSED)?;
    match first {
        '(' => Ok((Word::Open, text.get(1..).unwrap_or_default())),
        ')' => Ok((Word::Close, text.get(1..).unwrap_or_default())),
        '"' => quoted(text.get(1..).unwrap_or_default()),
        '`' => {
            let (inside, behind) = text
                .get(1..)
                .unwrap_or_default()
                .split_once('`')
                .ok_or(NOT_CLOSED)?;
            Ok((Word::Text(inside.to_owned()), behind))
        }
        '.' => {
            let (name, behind) = name(text, |c| c == '.');
            Ok((Word::Field(name.trim_start_matches('.').to_owned()), behind))
        }
        '|' => Err("pipelines are not supported: write the function before its values".into()),
        '$' => Err("variables are not supported".into()),
        '-' | '+' | '0'..='9' => {
            let end = text.get(1..).and_then(|t| t.find(|c: char| !c.is_ascii_digit()));
            let (number, behind) = text.split_at(end.map_or(text.len(), |n| n + 1));
            let number = number
                .parse()
                .map_err(|_| format!("{number:?} is not a whole number"))?;
            Ok((Word::Int(number), behind))
        }
        c if c.is_alphabetic() || c == '_' => {
            let (name, behind) = name(text, |_| false);
            Ok((Word::Name(name.to_owned()), behind))
        }
        c => Err(format!("{c:?} is not supported in a template")),
    }
}

fn name(text: &str, also: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || also(c)));
    text.split_at(end.unwrap_or(text.len()))
}

fn quoted(text: &str) -> Result<(Word, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Ok((Word::Text(out), text.get(index + 1..).unwrap_or_default())),
            '\n' => break,
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(c @ ('"' | '\\')) => out.push(c),
                Some(c) => return Err(format!("\\{c} is not supported in a template")),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err(NOT_CLOSED.into())
}
