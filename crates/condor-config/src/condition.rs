//! What `if` may ask.

use std::cmp::Ordering;

use crate::{macros::Macros, templates};

/// The version as which conditions are judged.
pub(crate) type Version = [u32; 3];

/// Whether it holds.
pub(crate) fn holds(text: &str, macros: &Macros, version: Version, work: &mut usize) -> Result<bool, String> {
    let text = macros.expand(text, work)?;
    let mut text = text.trim();
    let mut negated = false;
    while let Some(rest) = text.strip_prefix('!') {
        negated = !negated;
        text = rest.trim_start();
    }
    let holds = judge(text, macros, version)?;
    Ok(holds != negated)
}

fn judge(text: &str, macros: &Macros, version: Version) -> Result<bool, String> {
    let end = text
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let rest = rest.trim();
    match word.to_ascii_lowercase().as_str() {
        "true" | "yes" if rest.is_empty() => return Ok(true),
        "false" | "no" if rest.is_empty() => return Ok(false),
        "defined" => return Ok(defined(rest, macros)),
        "version" => return compare(rest, version),
        _ => {}
    }
    match text.parse::<f64>() {
        Ok(number) => Ok(number != 0.0),
        Err(_) => Err(
            "it is no condition that is understood: defined, version, a number or a truth value".to_owned(),
        ),
    }
}

fn defined(what: &str, macros: &Macros) -> bool {
    let mut words = what.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), Some(template)) if word.eq_ignore_ascii_case("use") => templates::is_known(template),
        (Some(name), None) => macros.raw(name).is_some(),
        _ => false,
    }
}

type Is = fn(Ordering) -> bool;

fn compare(text: &str, version: Version) -> Result<bool, String> {
    let operators: [(&str, Is); 6] = [
        (">=", Ordering::is_ge),
        ("<=", Ordering::is_le),
        ("==", Ordering::is_eq),
        ("!=", Ordering::is_ne),
        (">", Ordering::is_gt),
        ("<", Ordering::is_lt),
    ];
    let wrong = || "it compares the version with something that is none".to_owned();
    let found = operators
        .iter()
        .find_map(|(sign, is)| Some((text.strip_prefix(sign)?, is)));
    let (text, is) = found.ok_or_else(wrong)?;
    let mut other: Version = [0; 3];
    let mut parts = text.trim().split('.');
    for (index, number) in other.iter_mut().enumerate() {
        match parts.next() {
            Some(part) => *number = part.parse().map_err(|_| wrong())?,
            None if index > 0 => {}
            None => return Err(wrong()),
        }
    }
    if parts.next().is_some() {
        return Err(wrong());
    }
    Ok(is(version.cmp(&other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;

    #[test]
    fn conditions_of_htcondor() {
        let mut macros = Macros::default();
        macros.set("A", "1", Place::Default);
        macros.set("E", "", Place::Default);
        let holds = |text| holds(text, &macros, [25, 14, 1], &mut 1000);
        for yes in [
            "true",
            "Yes",
            "1",
            "$(A)",
            "defined A",
            "! defined E",
            "version >= 23.0",
            "version > 24",
            "version == 25.14.1",
            "!false",
            "!!true",
            "version<26",
            "defined use ROLE:Personal",
            "0.5",
        ] {
            assert_eq!(holds(yes), Ok(true), "{yes}");
        }
        for no in [
            "false",
            "no",
            "0",
            "defined B",
            "version < 23.0.1",
            "! defined A",
            "defined use X:Y",
        ] {
            assert_eq!(holds(no), Ok(false), "{no}");
        }
        for bad in [
            "",
            "(1 > 0)",
            "$(B)",
            "version 25.14.1",
            "version > x",
            "version > 1.2.3.4",
            "maybe",
        ] {
            assert!(holds(bad).is_err(), "{bad}");
        }
    }
}
