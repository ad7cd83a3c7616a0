//! The part of Go's text/template that names of principals and files are written in: `{{.Account}}`.

/// A parsed template: text and fields in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What a template may name. The Go service offers its whole worker configuration; these are the scalars of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Account,
    DesiredUid,
    Experiment,
    Role,
    Name,
    UserPrincipal,
    KeytabPath,
    VaultServer,
}

const FIELDS: [(&str, Field); 11] = [
    ("Account", Field::Account),
    ("DesiredUID", Field::DesiredUid),
    ("Experiment", Field::Experiment),
    ("Service.Experiment", Field::Experiment),
    ("Role", Field::Role),
    ("Service.Role", Field::Role),
    ("Name", Field::Name),
    ("Service.Name", Field::Name),
    ("UserPrincipal", Field::UserPrincipal),
    ("KeytabPath", Field::KeytabPath),
    ("VaultServer", Field::VaultServer),
];

impl Template {
    /// Parses what Go would execute to the same text; whatever else the language has is an error.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim_next = false;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, tail) = after.split_once("}}").ok_or("a {{ is not closed by }}")?;
            // Go's trim markers: `{{- ` takes blanks before, ` -}}` those after
            let (inside, left) = match inside.strip_prefix('-') {
                Some(i) if i.starts_with([' ', '\t', '\n', '\r']) => (i, true),
                _ => (inside, false),
            };
            let (inside, right) = match inside.strip_suffix('-') {
                Some(i) if i.ends_with([' ', '\t', '\n', '\r']) => (i, true),
                _ => (inside, false),
            };
            push_text(&mut parts, before, trim_next, left);
            trim_next = right;
            rest = tail;
            let inside = inside.trim();
            if inside.starts_with("/*") && inside.ends_with("*/") {
                continue;
            }
            let name = inside.strip_prefix('.').ok_or_else(|| {
                format!("{{{{{inside}}}}} is not supported, only fields such as {{{{.Account}}}}")
            })?;
            let (_, field) = FIELDS.iter().find(|(n, _)| *n == name).ok_or_else(|| {
                match crate::words::nearest(name, FIELDS.iter().map(|(n, _)| *n)) {
                    Some(near) => format!("there is no field .{name}; .{near} may be meant"),
                    None => format!("there is no field .{name}"),
                }
            })?;
            parts.push(Part::Field(*field));
        }
        push_text(&mut parts, rest, trim_next, false);
        Ok(Self(parts))
    }

    /// Whether the template names the field.
    pub(crate) fn names(&self, field: Field) -> bool {
        self.0.contains(&Part::Field(field))
    }

    /// The text with each field replaced by what `value` says of it.
    pub(crate) fn render<'v>(&self, value: impl Fn(Field) -> &'v str) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Field(field) => value(*field),
            })
            .collect()
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, String> {
        Ok(Template::parse(text)?.render(|field| match field {
            Field::Account => "dunepro",
            Field::DesiredUid => "50001",
            Field::Experiment => "dune",
            Field::Role => "production",
            _ => "?",
        }))
    }

    #[test]
    fn fields_are_filled_in() {
        for (text, expected) in [
            (
                "/tmp/default_role_{{.Experiment}}_{{.DesiredUID}}",
                "/tmp/default_role_dune_50001",
            ),
            (
                "{{ .Account }}/managedtokens/host@R",
                "dunepro/managedtokens/host@R",
            ),
            (
                "a {{- .Account -}} b",
                "adunepro", /* trimmed on both sides */
            ),
            ("{{/* why */}}x{{.Service.Role}}", "xproduction"),
            ("plain", "plain"),
            ("", ""),
        ] {
            let got = render(text).unwrap();
            assert!(got.starts_with(expected), "{text}: {got}");
        }
        assert_eq!(render("a {{- .Account -}} b").unwrap(), "aduneprob");
    }

    #[test]
    fn what_go_would_refuse_or_we_cannot_do_is_an_error() {
        for text in [
            "{{.Account",
            "{{if .Account}}x{{end}}",
            "{{.Acount}}",
            "{{.Nodes}}",
            "{{}}",
            "{{.}}",
            "{{.account}}",
        ] {
            assert!(render(text).is_err(), "{text}");
        }
        assert!(
            render("{{.Acount}}")
                .unwrap_err()
                .contains(".Account may be meant")
        );
    }
}
