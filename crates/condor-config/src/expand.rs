//! `$(NAME)` and its relatives, as HTCondor expands them: the first that can be, until there is none.

use crate::macros::Macros;

/// Steps for one value. A value that refers to itself in a circle makes the real tools hang.
const STEPS: usize = 1000;
/// No value is longer.
const LONGEST: usize = 64 * 1024;
/// Bytes that may be looked at for one value's references and their ends: `$(A:$(A:$(A:` has none.
pub(crate) const WORK: usize = 512 * 1024;

/// Functions that HTCondor has and that are not evaluated here.
const FUNCTIONS: [&str; 9] = [
    "INT",
    "REAL",
    "STRING",
    "EVAL",
    "SUBSTR",
    "CHOICE",
    "RANDOM_CHOICE",
    "RANDOM_INTEGER",
    "RANDOM",
];

/// One reference in a text.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'t> {
    start: usize,
    end: usize,
    /// What stands between `$` and `(`: nothing for a macro.
    function: &'t str,
    name: &'t str,
    default: Option<&'t str>,
}

/// The first reference from `from` on whose name is one. `work` is what may still be looked at to find ends.
fn next<'t>(text: &'t str, from: usize, work: &mut usize) -> Option<Reference<'t>> {
    let mut from = from;
    loop {
        let start = from + text.get(from..)?.find('$')?;
        spend(work, start + 1 - from)?;
        from = start + 1;
        let rest = text.get(from..)?;
        // $$(X) is the job's business
        if rest.starts_with('$') {
            let more = rest.bytes().take_while(|b| *b == b'$').count();
            spend(work, more)?;
            from += more;
            continue;
        }
        let function = word(rest, |b| b.is_ascii_alphabetic() || b == b'_');
        spend(work, function.len())?;
        let Some(body) = rest
            .get(function.len()..)
            .and_then(|behind| behind.strip_prefix('('))
        else {
            continue;
        };
        let is_macro = function.is_empty() || function == "ENV";
        if is_macro {
            let name = word(body, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
            spend(work, name.len())?;
            let behind = body.as_bytes().get(name.len());
            if name.is_empty() || !matches!(behind, Some(b')' | b':')) {
                continue;
            }
        }
        let Some(body) = closed(body, work) else { continue };
        let (name, default) = match body.split_once(':') {
            Some((name, default)) if is_macro => (name, Some(default)),
            _ => (body, None),
        };
        return Some(Reference {
            start,
            end: from + function.len() + 1 + body.len() + 1,
            function,
            name,
            default,
        });
    }
}

/// Takes what was looked at off the work that is left; `None` once there is none.
fn spend(work: &mut usize, looked_at: usize) -> Option<()> {
    *work = work.saturating_sub(looked_at);
    (*work > 0).then_some(())
}

/// The bytes it begins with that are of a kind.
fn word(text: &str, is: impl Fn(u8) -> bool) -> &str {
    let end = text.bytes().position(|b| !is(b)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// What stands before the parenthesis that closes, those in it paired.
fn closed<'t>(text: &'t str, work: &mut usize) -> Option<&'t str> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        spend(work, 1)?;
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => return text.get(..at),
            b')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What a setting says of itself, replaced by what it said before.
pub(crate) fn own(key: &str, old: &str, text: &str) -> String {
    let mut out = String::new();
    let (mut from, mut done, mut work) = (0, 0, WORK);
    while let Some(found) = next(text, from, &mut work) {
        if found.function.is_empty() && found.name.eq_ignore_ascii_case(key) && out.len() < LONGEST {
            out.push_str(text.get(done..found.start).unwrap_or_default());
            match (old.is_empty(), found.default) {
                (true, Some(default)) => out.push_str(default),
                _ => out.push_str(old),
            }
            done = found.end;
            from = found.end;
        } else {
            // a default may hold one
            from = found.start + 1;
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// Everything expanded. `work` is what may still be looked at.
pub(crate) fn all(text: &str, macros: &Macros, work: &mut usize) -> Result<String, String> {
    let mut text = text.to_owned();
    let mut from = 0;
    for _ in 0..STEPS {
        let found = next(&text, from, work);
        if *work == 0 {
            return Err("it takes too long to expand".to_owned());
        }
        let Some(found) = found else {
            return Ok(text.replace("$(DOLLAR)", "$"));
        };
        if found.function.is_empty() && found.name.eq_ignore_ascii_case("DOLLAR") {
            // at the very end, so that what it makes is not expanded; without case, as any other name
            let (start, end) = (found.start, found.end);
            text.replace_range(start..end, "$(DOLLAR)");
            from = end;
            continue;
        }
        let value = value(&found, macros, work)?;
        let (start, end) = (found.start, found.end);
        let Some(value) = value else {
            // not one of HTCondor's functions: it leaves such things alone
            from = start + 1;
            continue;
        };
        text.replace_range(start..end, &value);
        if text.len() > LONGEST {
            return Err(format!("it expands to more than {LONGEST} bytes"));
        }
        // what it expands to may make a name that stood before it
        from = 0;
    }
    Err(format!(
        "it refers to itself, or takes more than {STEPS} steps to expand"
    ))
}

fn value(found: &Reference<'_>, macros: &Macros, work: &mut usize) -> Result<Option<String>, String> {
    let set = |name: &str| macros.raw(name).map(|(raw, _)| raw.to_owned());
    let default = || found.default.unwrap_or_default().to_owned();
    Ok(Some(match found.function {
        "" => set(found.name).unwrap_or_else(default),
        "ENV" => {
            let variable = macros.variables.get(found.name).cloned();
            variable.unwrap_or_else(|| found.default.unwrap_or("UNDEFINED").to_owned())
        }
        "BASENAME" | "DIRNAME" => {
            let name = found.name.trim();
            let path = macros.expand_once(set(name).unwrap_or_else(|| name.to_owned()), work)?;
            let (directory, file) = path.rsplit_once('/').map_or(("", path.as_str()), |(d, f)| (d, f));
            match (found.function, path.contains('/')) {
                ("BASENAME", _) => file.to_owned(),
                (_, true) => format!("{directory}/"),
                (_, false) => String::new(),
            }
        }
        function if FUNCTIONS.contains(&function) || is_file_function(function) => {
            return Err(format!("${function}() is not evaluated here"));
        }
        _ => return Ok(None),
    }))
}

/// `$F(x)`, `$Fpdnx(x)`, ...
fn is_file_function(function: &str) -> bool {
    function
        .strip_prefix('F')
        .is_some_and(|options| options.bytes().all(|b| b"fpdnxbwuqa".contains(&b)))
}

impl Macros {
    /// A path that a function wants; references in it are few.
    fn expand_once(&self, text: String, work: &mut usize) -> Result<String, String> {
        let mut text = text;
        for _ in 0..20 {
            let Some(found) = next(&text, 0, work) else {
                return Ok(text);
            };
            if !found.function.is_empty() && found.function != "ENV" {
                return Err(format!("${}() in a path is not evaluated here", found.function));
            }
            let value = value(&found, self, work)?.unwrap_or_default();
            let (start, end) = (found.start, found.end);
            text.replace_range(start..end, &value);
            if text.len() > LONGEST {
                break;
            }
        }
        Err("a path in it cannot be expanded".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Place;

    fn macros(set: &[(&str, &str)]) -> Macros {
        let mut macros = Macros::default();
        macros.variables.insert("HOME".into(), "/root".into());
        for (name, value) in set {
            assert!(macros.set(name, value, Place::Default));
        }
        macros
    }

    /// As condor_config_val 25.14.1 was seen to expand them.
    #[test]
    fn references_are_expanded_as_htcondor_expands_them() {
        let macros = macros(&[
            ("A", "1"),
            ("A", "$(A) 2"),
            ("c", "3"),
            ("E", ""),
            ("P", "/x/y.z"),
            ("TOOL.T", "5"),
            ("T", "4"),
            ("X5", "made"),
            ("A.B", "dotted"),
        ]);
        for (text, expected) in [
            ("$(A)", "1 2"),
            ("$(A:x) $(C:dflt $(A)) $(D)|", "1 2 3 |"),
            ("$(D:dflt $(A))", "dflt 1 2"),
            ("$ENV(HOME) $ENV(NOPE) $ENV(NOPE:zz)", "/root UNDEFINED zz"),
            ("$$(X) $(DOLLAR) $(dollar)", "$$(X) $ $"),
            ("$(E:x)", "x"),
            ("$(T)", "5"),
            ("$(X$(T))", "made"),
            ("$BASENAME(P) $DIRNAME(P)", "y.z /x/"),
            (
                "$UNKNOWN(x) $ $( $(A.B:c) $(x y) $5",
                "$UNKNOWN(x) $ $( dotted $(x y) $5",
            ),
            ("$(D:a:b)", "a:b"),
        ] {
            assert_eq!(
                macros.expand(text, &mut { WORK }).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn circles_and_what_is_not_evaluated_are_errors() {
        let macros = macros(&[
            ("A", "$(B)"),
            ("B", "$(A)"),
            ("G", "$(H)$(H)"),
            ("H", "$(G)$(G)x"),
        ]);
        let endless = "$(Z:".repeat(16_000);
        for text in [
            endless.as_str(),
            "$(A)",
            "$(G)",
            "$INT(A)",
            "$RANDOM_CHOICE(1,2)",
            "$Fn(A)",
            "$DIRNAME(A)",
        ] {
            assert!(macros.expand(text, &mut { WORK }).is_err(), "{text}");
        }
    }
}
