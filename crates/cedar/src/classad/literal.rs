//! Literals in "old ClassAd" syntax: the only escape in a string is `\"` (cedar.md 2.3).

use std::fmt;

use crate::Unsendable;

/// What stands behind the `=` of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A boolean.
    Boolean(bool),
    /// A real.
    Real(f64),
    /// `undefined`.
    Undefined,
    /// `error`.
    Error,
    /// Anything else, kept as it was written.
    Expression(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl Value {
    /// Reads a right-hand side; what is no literal is kept as text. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes.trim_ascii_start());
        if let Some(rest) = text.strip_prefix('"') {
            return match string(rest) {
                Some(value) => Self::Text(value),
                None => Self::Expression(text.into_owned()),
            };
        }
        let word = text.trim_ascii_end();
        let known = match word.to_ascii_lowercase().as_str() {
            "true" => Some(Self::Boolean(true)),
            "false" => Some(Self::Boolean(false)),
            "undefined" => Some(Self::Undefined),
            "error" => Some(Self::Error),
            "real(\"nan\")" => Some(Self::Real(f64::NAN)),
            "real(\"inf\")" => Some(Self::Real(f64::INFINITY)),
            "real(\"-inf\")" => Some(Self::Real(f64::NEG_INFINITY)),
            _ => None,
        };
        known
            .or_else(|| number(word))
            .unwrap_or_else(|| Self::Expression(word.to_owned()))
    }
}

fn number(word: &str) -> Option<Value> {
    // Rust's parser also takes words such as "inf" and a leading plus
    let bytes = word.as_bytes();
    if !bytes.iter().all(|b| b.is_ascii_digit() || b"+-.eE".contains(b)) || bytes.first() == Some(&b'+') {
        return None;
    }
    word.parse()
        .map(Value::Integer)
        .ok()
        .or_else(|| word.parse().map(Value::Real).ok())
}

/// The string whose opening quote is already gone, if the text ends with its closing quote.
fn string(text: &str) -> Option<String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // text that goes on makes it an escape; else the backslash is literal and the quote closes
            '\\' if chars.as_str().starts_with('"') && chars.as_str().len() > 1 => {
                chars.next();
                value.push('"');
            }
            '"' => return chars.as_str().trim_ascii().is_empty().then_some(value),
            c => value.push(c),
        }
    }
    None
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "\"{}\"", text.replace('"', "\\\"")),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Real(value) if value.is_nan() => f.write_str("real(\"NaN\")"),
            Self::Real(value) if value.is_infinite() => {
                write!(f, "real(\"{}INF\")", if *value < 0.0 { "-" } else { "" })
            }
            Self::Real(value) => write!(f, "{value:.15E}"),
            Self::Undefined => f.write_str("undefined"),
            Self::Error => f.write_str("error"),
            Self::Expression(text) => f.write_str(text),
        }
    }
}

/// A string literal to stand inside a larger expression, where one that ends in a backslash would not end.
pub(crate) fn in_expression(what: &'static str, text: &str) -> Result<String, Unsendable> {
    if text.ends_with('\\') || text.contains('\n') {
        return Err(Unsendable::Characters {
            what,
            text: text.to_owned(),
        });
    }
    Ok(Value::from(text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_round_trip() {
        for text in [
            "", "a", "\"", "a\"b", "\\", "a\\", "\\w+", "\\\"", "\"\\", "a\nb", "\\\\", "ä", "\"\"",
        ] {
            let written = Value::from(text).to_string();
            assert_eq!(Value::parse(written.as_bytes()), Value::from(text), "{written}");
        }
        assert_eq!(Value::from("\\w\"").to_string(), r#""\w\"""#);
        assert_eq!(
            Value::parse(br#""ends in a backslash\""#),
            Value::from("ends in a backslash\\")
        );
    }

    #[test]
    fn other_literals() {
        for (text, value) in [
            ("-1", Value::Integer(-1)),
            (" 1795319343 ", Value::Integer(1_795_319_343)),
            ("TRUE", Value::Boolean(true)),
            ("false", Value::Boolean(false)),
            ("Undefined", Value::Undefined),
            ("error", Value::Error),
            ("1.5E+00", Value::Real(1.5)),
            ("real(\"INF\")", Value::Real(f64::INFINITY)),
            ("inf", Value::Expression("inf".into())),
            ("+1", Value::Expression("+1".into())),
            ("{ 1, 2 }", Value::Expression("{ 1, 2 }".into())),
            ("\"a\" + \"b\"", Value::Expression("\"a\" + \"b\"".into())),
            ("\"open", Value::Expression("\"open".into())),
            ("", Value::Expression(String::new())),
        ] {
            assert_eq!(Value::parse(text.as_bytes()), value, "{text}");
        }
        assert_eq!(
            Value::parse(Value::Real(0.1).to_string().as_bytes()),
            Value::Real(0.1)
        );
        assert!(in_expression("a name", "x\\").is_err());
    }
}
