//! The form of files with a token in the state directory: lines that say what it is, whose, and how long it lives.

use credential::{Lifetime, SecretBytes};
use jiff::Timestamp;

/// `owner` is written into the file, so that one under a wrong name is not taken for another account's.
pub(crate) fn render(format: &str, owner: &str, life: Lifetime, token: &str) -> SecretBytes {
    let head = format!("{format}\n{owner}\n{}\n{}\n", life.issued(), life.until());
    // no larger one later: what a vector leaves behind is not wiped
    let mut content = Vec::with_capacity(head.len() + token.len() + 1);
    content.extend_from_slice(head.as_bytes());
    content.extend_from_slice(token.as_bytes());
    content.push(b'\n');
    SecretBytes::new(content)
}

/// The life and the token, or what is wrong with the file. Lines before the token are compared and parsed, never shown.
pub(crate) fn parse<'a>(
    format: &str,
    owner: &str,
    content: &'a SecretBytes,
) -> Result<(Lifetime, &'a str), &'static str> {
    let text = std::str::from_utf8(content.expose()).map_err(|_| "it is not text")?;
    let mut lines = text.split('\n');
    let mut next = || lines.next().ok_or("it is cut off");
    if next()? != format {
        return Err("it does not begin as mtk writes it");
    }
    if next()? != owner {
        return Err("it is of another service or output");
    }
    let issued: Timestamp = next()?.parse().map_err(|_| "its first time is not one")?;
    let until: Timestamp = next()?.parse().map_err(|_| "its second time is not one")?;
    let token = next()?;
    if lines.next() != Some("") || lines.next().is_some() {
        return Err("it is cut off or goes on after the token");
    }
    Ok((Lifetime::between(issued, until), token))
}
