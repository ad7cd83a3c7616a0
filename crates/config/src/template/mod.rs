//! The part of Go's text/template that names of principals and files are written in.
//!
//! Fields by name, `printf`, `index`, `len`, `eq`, `ne`, `if`/`else`, comments and trim markers. Anything else the
//! language has is named as not supported, and what Go would print as garbage (`%!d(string=x)`) is an error.

mod eval;
mod lex;
mod parse;

pub(crate) use eval::Val;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Print(Expr),
    If {
        condition: Expr,
        then: Vec<Part>,
        otherwise: Vec<Part>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expr {
    Field(Field),
    Text(String),
    Int(i64),
    Bool(bool),
    Call(Function, Vec<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Printf,
    Index,
    Len,
    Eq,
    Ne,
}

/// What a template may name: the Go service offers its whole worker configuration, and this is what of it is known
/// before a run.
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
    Nodes,
}

const FIELDS: [(&str, Field); 12] = [
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
    ("Nodes", Field::Nodes),
];

/// Fields the Go service has as well, and why they are of no use here.
const NOT_HERE: [(&str, &str); 8] = [
    ("Schedds", "which schedds there are is known during a run only"),
    (
        "ServiceCreddVaultTokenPathRoot",
        "no token lies in a file on its way to a credd",
    ),
    ("Extras", "it holds the Go service's inner values"),
    ("CommandEnvironment", "there are no commands with an environment"),
    ("Krb5ccname", "tickets lie in memory"),
    ("CondorCreddHost", "there are no commands with an environment"),
    ("CondorCollectorHost", "there are no commands with an environment"),
    ("HtgettokenOpts", "there are no commands with an environment"),
];

impl Template {
    /// Parses what Go would execute to the same text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self)
    }

    /// Whether the template names the field.
    pub(crate) fn names(&self, field: Field) -> bool {
        names(&self.0, field)
    }

    /// The text with each field replaced by what `value` says of it.
    pub(crate) fn render<'v>(&self, value: &dyn Fn(Field) -> Val<'v>) -> Result<String, String> {
        let mut out = String::new();
        eval::parts(&self.0, value, &mut out)?;
        Ok(out)
    }
}

fn names(parts: &[Part], field: Field) -> bool {
    fn inside(expr: &Expr, field: Field) -> bool {
        match expr {
            Expr::Field(f) => *f == field,
            Expr::Call(_, arguments) => arguments.iter().any(|a| inside(a, field)),
            _ => false,
        }
    }
    parts.iter().any(|part| match part {
        Part::Text(_) => false,
        Part::Print(expr) => inside(expr, field),
        Part::If {
            condition,
            then,
            otherwise,
        } => inside(condition, field) || names(then, field) || names(otherwise, field),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [&str; 2] = ["gpvm01.example.org", "gpvm02.example.org"];

    fn render(text: &str) -> Result<String, String> {
        let nodes: Vec<String> = NODES.iter().map(|n| (*n).to_owned()).collect();
        Template::parse(text)?.render(&|field| match field {
            Field::Account => Val::Text("dunepro".into()),
            Field::DesiredUid => Val::Number("50001".into()),
            Field::Experiment => Val::Text("dune".into()),
            Field::Role => Val::Text("production".into()),
            Field::Nodes => Val::List(nodes.clone()),
            _ => Val::Text("?".into()),
        })
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
            ("a {{- .Account -}} b", "aduneprob"),
            ("a {{- /* why */ -}} b", "ab"),
            ("{{/* why }} */}}x{{.Service.Role}}", "xproduction"),
            ("plain", "plain"),
            ("", ""),
            ("{{(.Account)}}", "dunepro"),
            // as Go prints them
            ("{{.Nodes}}", "[gpvm01.example.org gpvm02.example.org]"),
            ("{{\"}}\"}}{{`a\\b`}}{{3}}{{true}}", "}}a\\b3true"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
        }
    }

    // compared with what Go prints for the same texts
    #[test]
    fn functions_do_what_go_does() {
        for (text, expected) in [
            (r#"{{printf "%s_%d" .Account .DesiredUID}}"#, "dunepro_50001"),
            (
                r#"{{printf "%v:%v" .DesiredUID .Nodes}}"#,
                "50001:[gpvm01.example.org gpvm02.example.org]",
            ),
            (
                r#"{{printf "%08d|%-8s|%8s|%%" .DesiredUID .Experiment .Experiment}}"#,
                "00050001|dune    |    dune|%",
            ),
            (r#"{{printf "%q" .Experiment}}"#, "\"dune\""),
            (
                r#"{{printf "%08s|%-08d|" .Experiment .DesiredUID}}"#,
                "0000dune|50001   |",
            ),
            ("{{index .Nodes 1}}", "gpvm02.example.org"),
            ("{{len .Nodes}}-{{len .Account}}", "2-7"),
            (r#"{{if eq .Role "production"}}pro{{else}}ana{{end}}"#, "pro"),
            (r#"{{if ne .Role "production"}}pro{{else}}ana{{end}}"#, "ana"),
            (r#"{{if eq .Experiment "mu2e" "dune"}}x{{end}}"#, "x"),
            (
                r#"{{if eq (len .Nodes) 3}}three{{else if eq (len .Nodes) 2}}two{{else}}other{{end}}"#,
                "two",
            ),
            (r#"{{if .Nodes}}{{if .Account}}y{{end}}{{end}}"#, "y"),
            (r#"{{eq .DesiredUID 50001}}"#, "true"),
            (r#"{{if eq .Role "x"}}{{index .Nodes 9}}{{end}}-"#, "-"),
            ("a\n{{- if .Account }}\nb\n{{- end -}}\nc", "a\nbc"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_go_would_refuse_or_we_cannot_do_is_an_error() {
        for (text, why) in [
            ("{{.Account", "not closed"),
            ("{{\"x}}", "not closed"),
            ("{{.Acount}}", ".Account may be meant"),
            ("{{.account}}", ".Account may be meant"),
            ("{{}}", "empty"),
            ("{{.}}", "not supported"),
            ("{{if .Account}}x", "no {{end}}"),
            ("{{end}}", "no {{if}}"),
            ("{{else}}", "no {{if}}"),
            ("{{range .Nodes}}{{.}}{{end}}", "range is not supported"),
            ("{{with .Account}}x{{end}}", "with is not supported"),
            ("{{.Account | printf \"%s\"}}", "pipelines"),
            ("{{$x := 1}}", "variables"),
            ("{{and .Account .Role}}", "and is not supported"),
            ("{{urlquery .Account}}", "urlquery is not supported"),
            ("{{.Schedds}}", "during a run only"),
            ("{{.Extras}}", "inner values"),
            ("{{printf .DesiredUID}}", "format"),
            (r#"{{printf "%d" .Account}}"#, "%d"),
            (r#"{{printf "%s" .DesiredUID}}"#, "%s"),
            (r#"{{printf "%s"}}"#, "too few"),
            (r#"{{printf "x" .Account}}"#, "too many"),
            (r#"{{printf "%x" .Account}}"#, "not supported"),
            (r#"{{printf "%999999999s" .Account}}"#, "width"),
            ("{{index .Nodes 2}}", "only 2"),
            ("{{index .Nodes -1}}", "only 2"),
            ("{{index .Account 0}}", "index"),
            ("{{len 3}}", "len"),
            ("{{eq .Account 3}}", "different kinds"),
            ("{{eq .Account}}", "eq wants"),
            ("{{.Account .Role}}", "function"),
            (
                "{{((((((((((((((((((((((((.Account))))))))))))))))))))))))}}",
                "deep",
            ),
        ] {
            let got = render(text);
            assert!(got.as_ref().is_err_and(|e| e.contains(why)), "{text}: {got:?}");
        }
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        let template = Template::parse("{{if eq .Role \"x\"}}{{printf \"%d\" .DesiredUID}}{{end}}").unwrap();
        assert!(
            template.names(Field::Role)
                && template.names(Field::DesiredUid)
                && !template.names(Field::Account)
        );
    }
}
