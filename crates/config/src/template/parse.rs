//! From words to a tree.

use super::{
    Expr, FIELDS, Field, Function, NOT_HERE, Part,
    lex::{self, Piece, Word},
};
use crate::words;

/// Longest template, in bytes.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting of `if`, and of brackets.
const MAX_DEPTH: usize = 16;

/// An `if` that is not yet ended.
struct Open {
    condition: Expr,
    then: Vec<Part>,
    /// The parts after `else`, once it was met.
    otherwise: Option<Vec<Part>>,
    /// An `else if` ends with the `if` around it.
    chained: bool,
}

pub(super) fn parse(text: &str) -> Result<Vec<Part>, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("a template is {MAX_LENGTH} bytes long at the most"));
    }
    let mut done: Vec<Part> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for piece in lex::pieces(text)? {
        let words = match piece {
            Piece::Text(text) => {
                push(&mut done, &mut open, Part::Text(text));
                continue;
            }
            Piece::Action(words) => words,
        };
        match words.split_first() {
            None => return Err("an action is empty: {{}}".into()),
            Some((Word::Name(name), rest)) if name == "if" => begin(&mut open, rest, false)?,
            Some((Word::Name(name), rest)) if name == "else" => {
                let last = open.last_mut().ok_or("there is no {{if}} before {{else}}")?;
                if last.otherwise.is_some() {
                    return Err("there are two {{else}} to one {{if}}".into());
                }
                last.otherwise = Some(Vec::new());
                match rest.split_first() {
                    None => {}
                    Some((Word::Name(name), rest)) if name == "if" => begin(&mut open, rest, true)?,
                    Some(_) => return Err("behind else only if is supported".into()),
                }
            }
            Some((Word::Name(name), [])) if name == "end" => loop {
                let last = open.pop().ok_or("there is no {{if}} before {{end}}")?;
                let part = Part::If {
                    condition: last.condition,
                    then: last.then,
                    otherwise: last.otherwise.unwrap_or_default(),
                };
                push(&mut done, &mut open, part);
                if !last.chained {
                    break;
                }
            },
            Some(_) => {
                let part = Part::Print(whole(&words)?);
                push(&mut done, &mut open, part);
            }
        }
    }
    if !open.is_empty() {
        return Err("there is no {{end}} to an {{if}}".into());
    }
    Ok(done)
}

fn begin(open: &mut Vec<Open>, condition: &[Word], chained: bool) -> Result<(), String> {
    if open.len() >= MAX_DEPTH {
        return Err("ifs are nested too deep".into());
    }
    open.push(Open {
        condition: whole(condition)?,
        then: Vec::new(),
        otherwise: None,
        chained,
    });
    Ok(())
}

fn push(done: &mut Vec<Part>, open: &mut [Open], part: Part) {
    match open.last_mut() {
        Some(Open {
            otherwise: Some(parts),
            ..
        }) => parts.push(part),
        Some(Open { then, .. }) => then.push(part),
        None => done.push(part),
    }
}

/// All of these words as one expression.
fn whole(words: &[Word]) -> Result<Expr, String> {
    let (expr, rest) = call(words, 0)?;
    if rest.is_empty() {
        Ok(expr)
    } else {
        Err("a bracket is closed that was not opened".into())
    }
}

/// A value, or a function with its values, up to the end or a closing bracket.
fn call(words: &[Word], depth: usize) -> Result<(Expr, &[Word]), String> {
    if depth > MAX_DEPTH {
        return Err("brackets are nested too deep".into());
    }
    let function = match words.first() {
        Some(Word::Name(name)) => function(name)?,
        _ => None,
    };
    let mut rest = if function.is_some() {
        words.get(1..).unwrap_or_default()
    } else {
        words
    };
    let mut values = Vec::new();
    while !matches!(rest.first(), None | Some(Word::Close)) {
        let (value, behind) = operand(rest, depth)?;
        values.push(value);
        rest = behind;
    }
    let expr = match (function, values.len()) {
        (Some(function), _) => Expr::Call(function, values),
        (None, 1) => values.pop().unwrap_or(Expr::Bool(false)),
        (None, 0) => return Err("a value is missing".into()),
        (None, _) => {
            return Err("several values stand where one is wanted; a function is named first".into());
        }
    };
    Ok((expr, rest))
}

fn operand(words: &[Word], depth: usize) -> Result<(Expr, &[Word]), String> {
    let Some((first, rest)) = words.split_first() else {
        return Err("a value is missing".into());
    };
    let expr = match first {
        Word::Field(name) => Expr::Field(field(name)?),
        Word::Text(text) => Expr::Text(text.clone()),
        Word::Int(number) => Expr::Int(*number),
        Word::Name(name) if name == "true" || name == "false" => Expr::Bool(name == "true"),
        Word::Name(name) => match function(name)? {
            Some(_) => {
                return Err(format!(
                    "{name} as a value of another function wants brackets around it"
                ));
            }
            None => Expr::Bool(false),
        },
        Word::Open => {
            let (expr, behind) = call(rest, depth + 1)?;
            let Some((Word::Close, behind)) = behind.split_first() else {
                return Err("a bracket is not closed".into());
            };
            return Ok((expr, behind));
        }
        Word::Close => return Err("a value is missing".into()),
    };
    Ok((expr, rest))
}

/// A function by its name; none if the name is a truth value.
fn function(name: &str) -> Result<Option<Function>, String> {
    Ok(Some(match name {
        "true" | "false" => return Ok(None),
        "printf" => Function::Printf,
        "index" => Function::Index,
        "len" => Function::Len,
        "eq" => Function::Eq,
        "ne" => Function::Ne,
        other => {
            return Err(format!(
                "{other} is not supported; there are fields such as .Account, printf, index, len, eq, ne, if, else"
            ));
        }
    }))
}

fn field(name: &str) -> Result<Field, String> {
    if name.is_empty() {
        return Err("the dot alone is not supported, only fields such as .Account".into());
    }
    if let Some((_, field)) = FIELDS.iter().find(|(n, _)| *n == name) {
        return Ok(*field);
    }
    let first = name.split('.').next().unwrap_or_default();
    if let Some((_, why)) = NOT_HERE.iter().find(|(n, _)| *n == first) {
        return Err(format!(".{name} is not supported: {why}"));
    }
    Err(match words::nearest(name, FIELDS.iter().map(|(n, _)| *n)) {
        Some(near) => format!("there is no field .{name}; .{near} may be meant"),
        None => format!("there is no field .{name}"),
    })
}
