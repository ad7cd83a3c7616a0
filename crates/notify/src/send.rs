//! Sending what was planned: all outlets at once, within one deadline.

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::Site;
use jiff::Timestamp;
use serde_json::{Value, json};
use state::Notice;
use telemetry::{Letter, Listener};
use tokio::time::Instant;

use crate::{
    digest::{Digest, Outlet},
    mail::{MailError, Postman},
    plan::Change,
    subject::Severity,
    templates::{TemplateError, Templates},
};

/// Slack cuts longer messages.
const SLACK_LONGEST: usize = 3500;
/// A web hook's address or token has a line.
const SECRET_LONGEST: u64 = 64 * 1024;

/// What sending takes besides the plan.
#[derive(Clone)]
pub struct Means<'a> {
    /// The site.
    pub site: &'a Site,
    /// The verifier of web hooks.
    pub tls: Arc<rustls::ClientConfig>,
    /// CA certificates (DER) beside the system's, for the mail server.
    pub roots: &'a [Vec<u8>],
    /// The run.
    pub trace_id: &'a str,
    /// This host.
    pub host: &'a str,
    /// What the installation is called.
    pub environment: &'a str,
    /// Our version.
    pub version: &'a str,
    /// The moment.
    pub now: Timestamp,
    /// Where the audit log stands, if there is one.
    pub anchor: Option<&'a str>,
    /// Whether those of test runs are meant.
    pub test: bool,
}

/// Why somebody was not told. The next run tells them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Untold {
    /// By mail.
    #[error("{who} were not told by mail; the next run tells them")]
    Mail {
        /// Who.
        who: String,
        /// Why.
        #[source]
        source: Arc<MailError>,
    },
    /// By a web hook.
    #[error("they were not told")]
    Hook(#[source] telemetry::Untold),
    /// A file with an address or a token.
    #[error("{} cannot be read; the next run tells {who}", path.display())]
    File {
        /// Who was to be told.
        who: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// They were told by the built-in template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Who was told.
    pub told: Vec<Outlet>,
    /// What is to be remembered now.
    pub changes: Vec<Change>,
    /// What went wrong.
    pub untold: Vec<Untold>,
}

/// Sends the digests. Whatever is not done by the deadline ([`config::Notifications::timeout`]) is told by the next run.
pub async fn deliver(digests: Vec<Digest>, means: &Means<'_>) -> Delivered {
    let mut delivered = Delivered::default();
    if digests.is_empty() {
        return delivered;
    }
    let deadline = Instant::now() + means.site.notifications.timeout;
    let templates = Templates {
        dir: means.site.notifications.templates.clone(),
    };
    let (mails, hooks): (Vec<_>, Vec<_>) = digests
        .into_iter()
        .partition(|d| matches!(d.outlet, Outlet::Admins | Outlet::Experiment(_)));
    let hooks = hooks.into_iter().map(|digest| {
        let templates = &templates;
        async move {
            let sent = hook(&digest, means, templates, deadline).await;
            (digest, sent)
        }
    });
    let (hooked, mailed) = tokio::join!(
        join_all(hooks.collect()),
        mail(mails, means, &templates, deadline)
    );
    for (digest, sent) in hooked.into_iter().chain(mailed) {
        match sent {
            Ok(troubles) => {
                delivered.untold.extend(troubles);
                delivered.changes.extend(remembered(&digest, means.now));
                delivered.told.push(digest.outlet);
            }
            Err(untold) => delivered.untold.push(untold),
        }
    }
    delivered
}

/// All at once; there are two of them at the most.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut done = Vec::new();
    let mut futures = futures.into_iter();
    match (futures.next(), futures.next()) {
        (Some(a), Some(b)) => {
            let (a, b) = tokio::join!(a, b);
            done.extend([a, b]);
        }
        (Some(a), None) => done.push(a.await),
        _ => {}
    }
    done
}

type Sent = Result<Option<Untold>, Untold>;

/// What is to be remembered of a digest that was delivered.
fn remembered(digest: &Digest, now: Timestamp) -> Vec<Change> {
    let outlet = digest.outlet.to_string();
    let told = digest.problems.iter().map(|problem| {
        let item = &problem.item;
        let notice = Notice {
            since: problem.since,
            told_at: Some(now),
            severity: item.severity.number(),
            failures: item.failures,
        };
        ((item.subject.to_string(), outlet.clone()), Some(notice))
    });
    let over = digest
        .recovered
        .iter()
        .map(|r| ((r.subject.to_string(), outlet.clone()), None));
    told.chain(over).collect()
}

/// One mail after the other: a server that is down is down for all of them.
async fn mail(
    digests: Vec<Digest>,
    means: &Means<'_>,
    templates: &Templates,
    deadline: Instant,
) -> Vec<(Digest, Sent)> {
    let mut done = Vec::new();
    let Some(configured) = &means.site.notifications.mail else {
        return done;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let postman = Postman::new(configured, means, left).map_err(Arc::new);
    for digest in digests {
        let who = who(&digest.outlet);
        let sent = match &postman {
            Ok(postman) => {
                let to = addresses(&digest.outlet, means);
                let (message, trouble) = templates.message(&digest, means);
                let sending = postman.send(to, &message.subject, &message.body, means);
                match tokio::time::timeout_at(deadline, sending).await {
                    Ok(Ok(())) => Ok(trouble.map(Untold::from)),
                    Ok(Err(error)) => Err(Untold::Mail {
                        who,
                        source: Arc::new(error),
                    }),
                    Err(_) => {
                        let (server, after) = (postman.server().to_owned(), left);
                        let source = Arc::new(MailError::Late { server, after });
                        Err(Untold::Mail { who, source })
                    }
                }
            }
            Err(error) => Err(Untold::Mail {
                who,
                source: error.clone(),
            }),
        };
        done.push((digest, sent));
    }
    done
}

fn addresses<'a>(outlet: &Outlet, means: &Means<'a>) -> &'a [String] {
    let wanted = &means.site.notifications;
    match outlet {
        Outlet::Experiment(name) => wanted.stakeholders.get(name).map_or(&[], Vec::as_slice),
        _ if means.test => &wanted.test_receivers.admins,
        _ => &wanted.receivers.admins,
    }
}

fn who(outlet: &Outlet) -> String {
    match outlet {
        Outlet::Experiment(name) => format!("the people of {name}"),
        _ => "the operators".to_owned(),
    }
}

async fn hook(digest: &Digest, means: &Means<'_>, templates: &Templates, deadline: Instant) -> Sent {
    let wanted = &means.site.notifications;
    let timeout = deadline.saturating_duration_since(Instant::now());
    let (who, address, body, bearer, trouble) = if digest.outlet == Outlet::Slack {
        let receivers = if means.test {
            &wanted.test_receivers
        } else {
            &wanted.receivers
        };
        let address = match (&wanted.slack_file, &receivers.slack) {
            (Some(path), _) if !means.test => read_secret(path, "Slack")?,
            (_, Some(hook)) => hook.expose().to_owned(),
            _ => return Ok(None),
        };
        let (message, trouble) = templates.message(digest, means);
        let body = json!({"text": for_slack(&message.body)});
        (Listener::Slack, address, body, None, trouble)
    } else {
        let Some(hook) = &wanted.webhook else {
            return Ok(None);
        };
        let token = wanted.webhook_token.as_ref();
        let bearer = token.map(|path| read_secret(path, "the web hook")).transpose()?;
        (
            Listener::Webhook,
            hook.expose().to_owned(),
            document(digest, means),
            bearer,
            None,
        )
    };
    post(who, &address, body, bearer, timeout, means)
        .await
        .map(|()| trouble.map(Untold::from))
        .map_err(Untold::Hook)
}

async fn post(
    who: Listener,
    address: &str,
    body: Value,
    bearer: Option<String>,
    timeout: Duration,
    means: &Means<'_>,
) -> Result<(), telemetry::Untold> {
    let letter = Letter {
        who,
        timeout,
        content_type: "application/json",
        body: body.to_string().into_bytes(),
        bearer,
    };
    telemetry::tell(letter, address, means.tls.clone()).await
}

fn read_secret(path: &PathBuf, who: &'static str) -> Result<String, Untold> {
    use std::io::Read;
    let failed = |source| Untold::File {
        who,
        path: path.clone(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is not a plain file")));
    }
    let mut text = String::new();
    file.take(SECRET_LONGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text.trim().to_owned())
}

/// Slack takes three characters for its own.
fn for_slack(text: &str) -> String {
    let mut cut: String = text.chars().take(SLACK_LONGEST).collect();
    if cut.len() < text.len() {
        cut.push_str("\n...");
    }
    cut.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// What the web hook gets: docs/notifications.md.
fn document(digest: &Digest, means: &Means<'_>) -> Value {
    let problems: Vec<Value> = digest
        .problems
        .iter()
        .map(|problem| {
            let item = &problem.item;
            json!({
                "experiment": item.subject.experiment,
                "role": item.subject.role,
                "account": item.account,
                "kind": item.subject.kind,
                "place": item.subject.place,
                "why": problem.why,
                "severity": item.severity,
                "failures": item.failures,
                "error": item.error_kind,
                "peer": item.peer,
                "text": item.text,
                "expires": item.ends.map(|t| t.to_string()),
                "last_success": item.last_success.map(|t| t.to_string()),
            })
        })
        .collect();
    let recovered: Vec<Value> = digest
        .recovered
        .iter()
        .map(|r| {
            json!({
                "experiment": r.subject.experiment,
                "role": r.subject.role,
                "kind": r.subject.kind,
                "place": r.subject.place,
                "since": r.since.to_string(),
            })
        })
        .collect();
    json!({
        "version": 1,
        "severity": digest.severity().map(Severity::word),
        "trace_id": means.trace_id,
        "host": means.host,
        "environment": means.environment,
        "mtk": means.version,
        "time": means.now.to_string(),
        "problems": problems,
        "recovered": recovered,
        "known": digest.known,
    })
}

/// Says something to everybody who would be told, so that a site sees whether it arrives; experiments' people are left alone.
pub async fn test_message(means: &Means<'_>) -> Vec<(String, Result<(), Untold>)> {
    let wanted = &means.site.notifications;
    let receivers = if means.test {
        &wanted.test_receivers
    } else {
        &wanted.receivers
    };
    let deadline = Instant::now() + wanted.timeout;
    let text = format!(
        "A test of mtk {} on {}: what fails would be told here.\n",
        means.version, means.host
    );
    let mut done = Vec::new();
    if let (Some(configured), false) = (&wanted.mail, receivers.admins.is_empty()) {
        let sent = async {
            let postman = Postman::new(configured, means, wanted.timeout)?;
            let sending = postman.send(&receivers.admins, "A test of mtk", &text, means);
            let late = || MailError::Late {
                server: postman.server().to_owned(),
                after: wanted.timeout,
            };
            tokio::time::timeout_at(deadline, sending)
                .await
                .map_err(|_| late())?
        };
        let who = who(&Outlet::Admins);
        let sent = sent.await.map_err(|error| Untold::Mail {
            who,
            source: Arc::new(error),
        });
        done.push((format!("mail to {}", receivers.admins.join(", ")), sent));
    }
    let slack = match (&wanted.slack_file, &receivers.slack) {
        (Some(path), _) if !means.test => Some(read_secret(path, "Slack")),
        (_, Some(hook)) => Some(Ok(hook.expose().to_owned())),
        _ => None,
    };
    if let Some(address) = slack {
        let sent = match address {
            Ok(address) => {
                let body = json!({"text": for_slack(&text)});
                let sent = post(Listener::Slack, &address, body, None, wanted.timeout, means).await;
                sent.map_err(Untold::Hook)
            }
            Err(error) => Err(error),
        };
        done.push(("Slack".to_owned(), sent));
    }
    if let Some(hook) = wanted.webhook.as_ref().filter(|_| !means.test) {
        let token = wanted.webhook_token.as_ref();
        let sent = match token.map(|path| read_secret(path, "the web hook")).transpose() {
            Ok(bearer) => {
                let digest = Digest {
                    outlet: Outlet::Webhook,
                    problems: Vec::new(),
                    recovered: Vec::new(),
                    known: 0,
                };
                let body = document(&digest, means);
                let sent = post(
                    Listener::Webhook,
                    hook.expose(),
                    body,
                    bearer,
                    wanted.timeout,
                    means,
                )
                .await;
                sent.map_err(Untold::Hook)
            }
            Err(error) => Err(error),
        };
        done.push((format!("the web hook {hook}"), sent));
    }
    done
}
