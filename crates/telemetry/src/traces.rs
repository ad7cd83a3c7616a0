//! A run as a trace: one span for the run, one for each edge, told over OTLP/HTTP once the run is over.
//!
//! The spans are made of the report, so that tracing costs a run nothing and cannot hold it up.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use pipeline::{Edge, Outcome, Report, ServiceReport, Target};
use prost::Message as _;
use rand::Rng as _;

use crate::http::{self, Letter, Listener, Untold};

/// Where OTLP/HTTP receivers take traces unless the address says something else.
const DEFAULT_PATH: &str = "/v1/traces";

/// Who tells the trace.
#[derive(Debug, Clone, Copy)]
pub struct Teller<'a> {
    /// The name of the run's span: the Go service's program, `token-push`.
    pub executable: &'a str,
    /// The environment's label.
    pub environment: &'a str,
    /// Our version.
    pub version: &'a str,
    /// This host.
    pub host: &'a str,
}

/// The trace of a run, to be sent with [`send_trace`].
#[derive(Debug, Clone)]
pub struct Trace(ExportTraceServiceRequest);

impl Trace {
    /// One span per edge below one of the run. `service.name` and the attributes are the Go service's.
    #[must_use]
    pub fn of(report: &Report, teller: &Teller<'_>) -> Self {
        let clock = Clock(report.started);
        let trace_id = report.trace_id.as_bytes().to_vec();
        let root: [u8; 8] = rand::rng().random();
        let mut run = span(
            &trace_id,
            teller.executable,
            clock.at(0.0),
            clock.at(report.seconds),
        );
        run.span_id = root.to_vec();
        run.status = Some(status(report.all_fresh() && !report.interrupted, ""));
        run.attributes = vec![attribute("executable", teller.executable)];
        let edges = report.edges().map(|(service, edge)| {
            let mut span = span(
                &trace_id,
                name(&edge.target),
                clock.at(edge.began),
                clock.at(edge.ended),
            );
            span.span_id = rand::rng().random::<[u8; 8]>().to_vec();
            span.parent_span_id = root.to_vec();
            span.attributes = attributes(service, edge);
            span.status = Some(status(
                edge.outcome != Outcome::Failed,
                edge.failure.as_ref().map_or("", |f| &f.text),
            ));
            span
        });
        let resource = Resource {
            attributes: vec![
                attribute("service.name", "managed-tokens"),
                attribute("service.version", teller.version),
                attribute("deployment.environment", teller.environment),
                attribute("host.name", teller.host),
            ],
            ..Resource::default()
        };
        let scope = InstrumentationScope {
            name: "mtk".into(),
            version: teller.version.into(),
            ..InstrumentationScope::default()
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans: std::iter::once(run).chain(edges).collect(),
            ..ScopeSpans::default()
        };
        Self(ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![spans],
                ..ResourceSpans::default()
            }],
        })
    }
}

/// Sends it as protobuf. An address without a path means `/v1/traces`.
///
/// # Errors
/// [`Untold`], never later than the timeout.
pub async fn send_trace(
    trace: &Trace,
    address: &str,
    timeout: Duration,
    tls: Arc<rustls::ClientConfig>,
) -> Result<(), Untold> {
    let mut url = http::parse(Listener::Traces, address)?;
    if url.path() == "/" {
        url.set_path(DEFAULT_PATH);
    }
    let letter = Letter {
        who: Listener::Traces,
        timeout,
        content_type: "application/x-protobuf",
        body: trace.0.encode_to_vec(),
        bearer: None,
    };
    http::post(letter, url, tls).await
}

/// Seconds of a run as moments.
struct Clock(Timestamp);

impl Clock {
    /// Nanoseconds since 1970.
    fn at(&self, seconds: f64) -> u64 {
        let since = SignedDuration::try_from_secs_f64(seconds).unwrap_or_default();
        let moment = self.0.checked_add(since).unwrap_or(self.0);
        u64::try_from(moment.as_nanosecond()).unwrap_or_default()
    }
}

fn span(trace_id: &[u8], name: &str, start: u64, end: u64) -> Span {
    Span {
        trace_id: trace_id.to_vec(),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        ..Span::default()
    }
}

fn status(fine: bool, message: &str) -> Status {
    let code = if fine { StatusCode::Ok } else { StatusCode::Error };
    Status {
        message: message.to_owned(),
        code: code.into(),
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

/// What the edge is, in the words of the Go service's workers.
fn name(target: &Target) -> &'static str {
    match target {
        Target::Setup => "serviceConfigSetup",
        Target::Login { .. } => "getToken",
        Target::Discover { .. } => "getSchedds",
        Target::Store { .. } => "storeAndGetToken",
        Target::Push { .. } | Target::Here { .. } | Target::Command { .. } => "pushTokens",
        Target::Bearer { .. } => "getBearerToken",
    }
}

fn attributes(service: &ServiceReport, edge: &Edge) -> Vec<KeyValue> {
    let mut all = vec![
        attribute("service", &format!("{}_{}", service.experiment, service.role)),
        attribute("experiment", &service.experiment),
        attribute("role", &service.role),
        attribute("account", &service.account),
        attribute("outcome", edge.outcome.word()),
    ];
    match &edge.target {
        Target::Setup => {}
        Target::Login { vault } => all.push(attribute("vaultServer", vault)),
        Target::Discover { collectors } => all.push(attribute("collector", collectors)),
        Target::Store { credd, credential } => {
            all.extend([attribute("credd", credd), attribute("credential", credential)]);
        }
        Target::Bearer { output } | Target::Command { output } => all.push(attribute("output", output)),
        Target::Here { path } => all.push(attribute("path", path)),
        Target::Push { node, path } => all.extend([attribute("node", node), attribute("path", path)]),
    }
    if let Some(failure) = &edge.failure {
        all.extend([
            attribute("error.kind", &failure.kind),
            attribute("peer", &failure.peer),
        ]);
    }
    all
}
