//! From a digest to a text, by templates that a site may replace.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use minijinja::{Environment, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde};
use pipeline::span;
use serde::Serialize;

use crate::{
    digest::{Digest, Outlet, Why},
    send::Means,
    subject::Severity,
    words::moment,
};

/// The built-in templates, by the names under which a site may have its own.
pub const BUILT_IN: [(&str, &str); 3] = [
    ("admins.txt", include_str!("../templates/admins.txt")),
    ("experiment.txt", include_str!("../templates/experiment.txt")),
    ("slack.txt", include_str!("../templates/slack.txt")),
];

/// Far more than any template has.
const LONGEST: u64 = 256 * 1024;
/// Steps a template may take: one that never ends must not hold up anybody.
const FUEL: u64 = 10_000_000;
/// Problems shown in one message; the rest is counted.
const SHOWN: usize = 200;

/// Why a template of the site is not used. The built-in one takes its place: what is to be told is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It cannot be read.
    #[error("the template {} cannot be read; the built-in one is used", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none, or fails on what it was given.
    #[error("the template {} does not work; the built-in one is used", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        source: Box<minijinja::Error>,
    },
}

/// Where a site has templates of its own, if it does.
#[derive(Debug, Clone, Default)]
pub struct Templates {
    /// The directory.
    pub dir: Option<PathBuf>,
}

/// A message to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// One service in a message.
#[derive(Debug, Serialize)]
struct Service {
    name: String,
    account: String,
    problems: Vec<Trouble>,
}

/// Problems of a service that have one cause.
#[derive(Debug, Serialize)]
struct Trouble {
    what: &'static str,
    kind: &'static str,
    places: Vec<String>,
    why: Why,
    severity: Severity,
    failures: u32,
    error: String,
    peer: String,
    text: String,
    /// When the first of it ends; empty if nothing does.
    ends: String,
    /// How long that is from now, or was.
    left: String,
    over: bool,
    last_success: String,
}

#[derive(Debug, Serialize)]
struct Well {
    service: String,
    what: &'static str,
    place: String,
    since: String,
    lasted: String,
}

impl Templates {
    /// The text for the outlet, and why a template of the site's was not used, if so.
    pub(crate) fn message(&self, digest: &Digest, means: &Means<'_>) -> (Message, Option<TemplateError>) {
        let name = match digest.outlet {
            Outlet::Admins => "admins.txt",
            Outlet::Experiment(_) => "experiment.txt",
            Outlet::Slack | Outlet::Webhook => "slack.txt",
        };
        let context = context_of(digest, means);
        let mut error = None;
        if let Some(path) = self.dir.as_ref().map(|dir| dir.join(name))
            && let Some(read) = read(&path).transpose()
        {
            let rendered = read.and_then(|source| {
                render(name, &source, &context).map_err(|source| TemplateError::Broken {
                    path: path.clone(),
                    source: Box::new(source),
                })
            });
            match rendered {
                Ok(text) => return (parted(&text, digest), None),
                Err(why) => error = Some(why),
            }
        }
        let built_in = BUILT_IN
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, text)| text);
        let text = render(name, built_in, &context).unwrap_or_else(|error| {
            tracing::error!(%error, "a built-in template is broken");
            format!("{context:?}")
        });
        (parted(&text, digest), error)
    }
}

fn read(path: &Path) -> Result<Option<String>, TemplateError> {
    use io::Read;
    let unreadable = |source| TemplateError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // one that is not there is not replaced
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    if !meta.is_file() {
        return Err(unreadable(io::Error::other("it is not a plain file")));
    }
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(unreadable)?;
    Ok(Some(text))
}

fn render(name: &str, source: &str, context: &minijinja::Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    // a typo is an error, not an empty place
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.add_template(name, source)?;
    environment.get_template(name)?.render(context)
}

/// The first line may be `Subject: ...`.
fn parted(text: &str, digest: &Digest) -> Message {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match first.strip_prefix("Subject:") {
        Some(subject) => Message {
            subject: one_line(subject),
            body: rest.trim_start_matches(['\r', '\n']).to_owned(),
        },
        None => Message {
            subject: format!(
                "mtk: {}",
                digest.severity().map_or("all is well again", Severity::word)
            ),
            body: text.to_owned(),
        },
    }
}

fn one_line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect();
    text.trim().to_owned()
}

fn context_of(digest: &Digest, means: &Means<'_>) -> minijinja::Value {
    let (mut services, hidden) = services(digest, means.now);
    services.retain(|service| !service.problems.is_empty());
    let recovered: Vec<Well> = digest
        .recovered
        .iter()
        .map(|r| Well {
            service: format!("{}_{}", r.subject.experiment, r.subject.role),
            what: r.subject.kind.what(),
            place: r.subject.place.clone(),
            since: moment(r.since),
            lasted: span(means.now.duration_since(r.since)),
        })
        .collect();
    let count = |why| digest.problems.iter().filter(|p| p.why == why).count();
    let (new, worse, reminders) = (count(Why::New), count(Why::Worse), count(Why::Reminder));
    let counts = [
        (new, "new"),
        (worse, "worse"),
        (reminders, "still there"),
        (recovered.len(), "well again"),
    ];
    let said: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let experiment = match &digest.outlet {
        Outlet::Experiment(name) => name.as_str(),
        _ => "",
    };
    context! {
        experiment => experiment,
        severity => digest.severity().map_or("well", Severity::word),
        summary => said.join(", "),
        new, worse, reminders,
        services => Serde(services),
        recovered => Serde(recovered),
        known => digest.known,
        hidden => hidden,
        trace_id => means.trace_id,
        host => means.host,
        environment => means.environment,
        version => means.version,
        now => moment(means.now),
        anchor => means.anchor.unwrap_or_default(),
    }
}

fn services(digest: &Digest, now: Timestamp) -> (Vec<Service>, usize) {
    let mut services: Vec<Service> = Vec::new();
    for problem in digest.problems.iter().take(SHOWN) {
        let item = &problem.item;
        let name = format!("{}_{}", item.subject.experiment, item.subject.role);
        let at = match services.iter().position(|s| s.name == name) {
            Some(at) => at,
            None => {
                services.push(Service {
                    name,
                    account: item.account.clone(),
                    problems: Vec::new(),
                });
                services.len() - 1
            }
        };
        let Some(service) = services.get_mut(at) else {
            continue;
        };
        // one line for what fails in one way at several places
        let same = service.problems.iter_mut().find(|t| {
            t.kind == item.subject.kind.word()
                && t.text == item.text
                && t.why == problem.why
                && t.severity == item.severity
        });
        if let Some(trouble) = same {
            trouble.places.push(item.subject.place.clone());
            trouble.failures = trouble.failures.max(item.failures);
            continue;
        }
        let left = item.ends.map(|ends| ends.duration_since(now));
        service.problems.push(Trouble {
            what: item.subject.kind.what(),
            kind: item.subject.kind.word(),
            places: vec![item.subject.place.clone()],
            why: problem.why,
            severity: item.severity,
            failures: item.failures,
            error: item.error_kind.clone(),
            peer: item.peer.clone(),
            text: item.text.clone(),
            ends: item.ends.map(moment).unwrap_or_default(),
            left: left.map(|left| span(left.abs())).unwrap_or_default(),
            over: left.is_some_and(|left| left.is_negative()),
            last_success: item.last_success.map(moment).unwrap_or_default(),
        });
    }
    (services, digest.problems.len().saturating_sub(SHOWN))
}
