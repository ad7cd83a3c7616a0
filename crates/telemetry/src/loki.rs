//! What is logged at INFO and above, told to Loki when a run is over.
//!
//! A layer keeps the lines in memory, a bounded number of them, and nothing is sent before the run has ended: Loki being
//! away can delay nothing.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use crate::http::{self, Letter, Listener, Untold};

/// Lines kept; of more, the oldest are forgotten, and how many is said.
const MOST_LINES: usize = 20_000;
/// Bytes of one field.
const MOST_FIELD: usize = 8_192;
const PATH: &str = "/loki/api/v1/push";

/// The lines of this process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    forgotten: u64,
}

#[derive(Debug, Clone)]
struct Line {
    at: Timestamp,
    level: Level,
    body: Map<String, Value>,
}

/// The labels of the stream. Services and nodes are in the lines, never in labels: each would be a stream of its own.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    /// The Go service's program: `token-push`.
    pub command: &'a str,
    /// The environment's label.
    pub environment: &'a str,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut body = Map::new();
        event.record(&mut Fields(&mut body));
        body.insert("caller".into(), meta.target().into());
        let line = Line {
            at: Timestamp::now(),
            level: *meta.level(),
            body,
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.lines.len() == MOST_LINES {
            kept.lines.pop_front();
            kept.forgotten += 1;
        }
        kept.lines.push_back(line);
    }
}

impl Lines {
    /// The lines so far in the form of Loki's push API, and none of them kept any longer; `None` if there are none.
    #[must_use]
    pub fn take(&self, labels: &Labels<'_>, trace_id: &str) -> Option<Value> {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let forgotten = (kept.forgotten > 0).then(|| {
            let mut body = Map::new();
            body.insert(
                "msg".into(),
                format!("{} lines before were not kept", kept.forgotten).into(),
            );
            Line {
                at: kept.lines.front().map_or_else(Timestamp::now, |l| l.at),
                level: Level::WARN,
                body,
            }
        });
        let lines: Vec<Line> = forgotten.into_iter().chain(kept.lines).collect();
        let levels = [
            (Level::ERROR, "error"),
            (Level::WARN, "warning"),
            (Level::INFO, "info"),
        ];
        let streams: Vec<Value> = levels
            .iter()
            .filter_map(|(level, word)| {
                let values: Vec<Value> = lines
                    .iter()
                    .filter(|line| line.level == *level)
                    .map(|line| {
                        let mut body = line.body.clone();
                        body.insert("level".into(), (*word).into());
                        body.insert("time".into(), line.at.to_string().into());
                        body.insert("executable".into(), labels.command.into());
                        body.insert("trace_id".into(), trace_id.into());
                        json!([
                            line.at.as_nanosecond().to_string(),
                            Value::Object(body).to_string()
                        ])
                    })
                    .collect();
                let stream = json!({
                    "app": "managed-tokens", "command": labels.command,
                    "environment": labels.environment, "level": word,
                });
                (!values.is_empty()).then(|| json!({"stream": stream, "values": values}))
            })
            .collect();
        (!streams.is_empty()).then(|| json!({"streams": streams}))
    }
}

/// Sends what [`Lines::take`] gave.
///
/// # Errors
/// [`Untold`], never later than the timeout. The lines are on stderr and in the log files all the same.
pub async fn send_lines(
    lines: &Value,
    address: &str,
    timeout: Duration,
    tls: Arc<rustls::ClientConfig>,
) -> Result<(), Untold> {
    let mut url = http::parse(Listener::Loki, address)?;
    if url.path() == "/" {
        url.set_path(PATH);
    }
    let letter = Letter {
        who: Listener::Loki,
        timeout,
        content_type: "application/json",
        body: lines.to_string().into_bytes(),
        bearer: None,
    };
    http::post(letter, url, tls).await
}

/// What fits into a field.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MOST_FIELD)).unwrap_or(text)
}

/// The fields of an event; the message is `msg`, as logrus has it.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn keep(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, cut(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, cut(value).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const LABELS: Labels<'_> = Labels {
        command: "token-push",
        environment: "test",
    };

    #[test]
    fn lines_are_streams_by_level_with_services_in_the_lines() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(service = "dune_production", node = %"n1", tries = 3, "edge ended");
            tracing::warn!("hm");
        });
        let pushed = lines.take(&LABELS, "abc").unwrap();
        let info = pushed["streams"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["stream"]["level"] == "info")
            .unwrap();
        assert_eq!(info["stream"]["app"], "managed-tokens");
        assert!(info["stream"].get("service").is_none());
        let line: Value = serde_json::from_str(info["values"][0][1].as_str().unwrap()).unwrap();
        assert_eq!(
            (&line["msg"], &line["service"], &line["node"], &line["tries"]),
            (
                &json!("edge ended"),
                &json!("dune_production"),
                &json!("n1"),
                &json!(3)
            )
        );
        assert_eq!(line["trace_id"], "abc");
        assert!(lines.take(&LABELS, "abc").is_none(), "told twice");
    }

    #[test]
    fn a_field_is_cut_by_its_bytes_between_two_letters() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        // the limit falls into the middle of a letter
        let long = format!("x{}", "\u{e4}".repeat(MOST_FIELD));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(typed = long.as_str(), shown = %long, "x");
        });
        let pushed = lines.take(&LABELS, "abc").unwrap();
        let line = pushed["streams"][0]["values"][0][1].as_str().unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        for field in ["typed", "shown"] {
            assert_eq!(line[field].as_str().unwrap().len(), MOST_FIELD - 1, "{field}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_said() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..MOST_LINES + 7 {
                tracing::info!("x");
            }
        });
        let text = lines.take(&LABELS, "abc").unwrap().to_string();
        assert!(text.contains("7 lines before were not kept"));
    }
}
