//! From text to statements: what begins on which line.

/// A line with those that continue it, trimmed; or a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// One line, continued lines joined.
    Line(String),
    /// `NAME @=tag`, and the lines up to `@tag`, each ended but the last.
    Block { name: String, body: String },
    /// A block without its end.
    Endless { name: String, tag: String },
}

/// The statements of a text, each with the line on which it begins.
pub(crate) struct Statements<'t> {
    lines: std::iter::Enumerate<std::str::Lines<'t>>,
}

impl<'t> Statements<'t> {
    pub(crate) fn of(text: &'t str) -> Self {
        Self {
            lines: text.lines().enumerate(),
        }
    }

    /// The next line with those that continue it: a `\` at its end, blanks behind it or not. Comments end with their line;
    /// one in the middle of continued lines is left out, and ends them unless it has a `\` itself.
    fn logical(&mut self) -> Option<(u32, String)> {
        let mut begun: Option<(u32, String)> = None;
        for (index, line) in self.lines.by_ref() {
            let line = line.trim();
            if line.starts_with('#') {
                match begun {
                    Some(_) if line.ends_with('\\') => continue,
                    Some(begun) => return Some(begun),
                    None => return Some((number(index), line.to_owned())),
                }
            }
            let (part, more) = match line.strip_suffix('\\') {
                Some(part) => (part, true),
                None => (line, false),
            };
            let (_, text) = begun.get_or_insert_with(|| (number(index), String::new()));
            text.push_str(part);
            if !more {
                return begun;
            }
        }
        begun
    }

    fn block(&mut self, name: &str, tag: &str) -> Statement {
        let mut body: Vec<String> = Vec::new();
        while let Some((_, line)) = self.logical() {
            if line.strip_prefix('@') == Some(tag) {
                return Statement::Block {
                    name: name.to_owned(),
                    body: body.join("\n"),
                };
            }
            if !line.starts_with('#') {
                body.push(line);
            }
        }
        Statement::Endless {
            name: name.to_owned(),
            tag: tag.to_owned(),
        }
    }
}

impl Iterator for Statements<'_> {
    type Item = (u32, Statement);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (at, line) = self.logical()?;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // before any `=` that is part of the value
            let statement = match line.split_once("@=") {
                Some((name, tag)) if is_name(name.trim()) && !tag.trim().is_empty() => {
                    self.block(name.trim(), tag.trim())
                }
                _ => Statement::Line(line),
            };
            return Some((at, statement));
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

/// Letters, digits, `_` and `.`; macros in it are expanded before this is asked of an assignment.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u32, String)> {
        let shown = |(at, statement)| match statement {
            Statement::Line(line) => (at, line),
            Statement::Block { name, body } => (at, format!("{name}:{body}")),
            Statement::Endless { name, tag } => (at, format!("{name}?{tag}")),
        };
        Statements::of(text).map(shown).collect()
    }

    /// As condor_config_val 25.14.1 was seen to read them.
    #[test]
    fn lines_are_continued_as_htcondor_continues_them() {
        let at = |line, text: &str| (line, text.to_owned());
        assert_eq!(
            lines("A = x \\\n# c \\\n y\nB = 2"),
            [at(1, "A = x y"), at(4, "B = 2")]
        );
        assert_eq!(lines("A = x \\\n# c\n y"), [at(1, "A = x "), at(3, "y")]);
        assert_eq!(lines("# hello \\\nA = 1"), [at(2, "A = 1")]);
        assert_eq!(lines("A = x \\\n\nB = 2"), [at(1, "A = x "), at(3, "B = 2")]);
        assert_eq!(lines("A = x \\  \nB = 2\n"), [at(1, "A = x B = 2")]);
        assert_eq!(lines("A = x \\"), [at(1, "A = x ")]);
    }

    #[test]
    fn blocks_end_with_their_tag() {
        let text = "A @=end\n l1 $(B)\n # c\n l2 \\\n l3\n@end\nB = 2\n";
        assert_eq!(
            lines(text),
            [(1, "A:l1 $(B)\nl2 l3".to_owned()), (7, "B = 2".to_owned())]
        );
        assert_eq!(lines("A @=x\nb\n@y"), [(1, "A?x".to_owned())]);
    }
}
