//! What is told after a run besides metrics: Loki, a receiver of traces, log files.
//!
//! No registry has a Loki or a collector small enough for a test: a recorder takes their place, and what it took is read
//! by the published schemas (opentelemetry-proto; Loki's push API).

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value, trace::v1::Span,
};
use prost::Message as _;
use serde_json::Value;

use crate::mtk::Operator;

/// Takes POSTs and says yes.
pub struct Recorder {
    pub address: String,
    taken: mpsc::Receiver<Posted>,
}

pub struct Posted {
    pub path: String,
    pub content_type: String,
    pub authorization: Option<String>,
    pub body: Vec<u8>,
}

impl Recorder {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (give, taken) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = Vec::new();
                let mut buffer = [0; 65_536];
                let posted = loop {
                    let n = stream.read(&mut buffer).unwrap();
                    assert_ne!(n, 0, "half a request");
                    bytes.extend_from_slice(&buffer[..n]);
                    if let Some(posted) = whole(&bytes) {
                        break posted;
                    }
                };
                stream
                    .write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
                if give.send(posted).is_err() {
                    return;
                }
            }
        });
        Self { address, taken }
    }

    /// Whether anybody said anything since.
    pub fn is_silent(&self) -> bool {
        self.taken.try_recv().is_err()
    }

    pub fn next(&self) -> Posted {
        self.taken.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

fn whole(bytes: &[u8]) -> Option<Posted> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").unwrap().parse().unwrap();
    let body = bytes.get(end..end + length)?.to_vec();
    Some(Posted {
        path: head.split(' ').nth(1).unwrap().to_owned(),
        content_type: header("content-type").unwrap(),
        authorization: header("authorization"),
        body,
    })
}

fn attribute<'a>(span: &'a Span, key: &str) -> &'a str {
    let value = span.attributes.iter().find(|a| a.key == key);
    match value.and_then(|a| a.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text,
        _ => "",
    }
}

#[test]
fn a_run_is_one_trace_and_its_lines_are_with_loki_and_in_files() {
    let (loki, traces) = (Recorder::new(), Recorder::new());
    let dir = tempfile::tempdir().unwrap();
    let (log, debug) = (dir.path().join("mtk.log"), dir.path().join("mtk.debug.log"));
    let operator = Operator::changed(
        "experiments:\n",
        &format!(
            "loki: {{host: '{}', response_header_timeout: 5s}}\ntracing: {{url: '{}'}}\n\
             logs: {{token-push: {{logfile: {}, debugfile: {}}}}}\nexperiments:\n",
            loki.address,
            traces.address,
            log.display(),
            debug.display()
        ),
    );
    let report = operator.run(&[]);
    report.all(&["done", "fresh"]);
    let id = report.json["trace_id"].as_str().unwrap();
    assert_eq!(id.len(), 32);

    let posted = traces.next();
    assert_eq!(
        (posted.path.as_str(), posted.content_type.as_str()),
        ("/v1/traces", "application/x-protobuf")
    );
    let told = ExportTraceServiceRequest::decode(posted.body.as_slice()).unwrap();
    let resource = &told.resource_spans[0];
    let spans = &resource.scope_spans[0].spans;
    let edges = report.edges().len();
    assert_eq!(
        spans.len(),
        edges + 1,
        "one span for the run and one for each edge"
    );
    let root = &spans[0];
    assert_eq!(root.name, "token-push");
    let hex: String = root.trace_id.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, id);
    let ids: BTreeSet<_> = spans.iter().map(|s| &s.span_id).collect();
    assert_eq!(ids.len(), spans.len());
    for span in &spans[1..] {
        assert_eq!(
            (&span.parent_span_id, &span.trace_id),
            (&root.span_id, &root.trace_id)
        );
        assert!(root.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano);
    }
    let push = spans
        .iter()
        .find(|s| s.name == "pushTokens" && attribute(s, "node") == "gss.mtk.test");
    assert_ne!(attribute(push.unwrap(), "service"), "");
    let names: Vec<&str> = resource
        .resource
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .map(|a| a.key.as_str())
        .collect();
    assert!(names.contains(&"service.name") && names.contains(&"deployment.environment"));

    let posted = loki.next();
    assert_eq!(
        (posted.path.as_str(), posted.content_type.as_str()),
        ("/loki/api/v1/push", "application/json")
    );
    let told: Value = serde_json::from_slice(&posted.body).unwrap();
    let mut stored = 0;
    for stream in told["streams"].as_array().unwrap() {
        let labels: BTreeSet<&str> = stream["stream"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(labels, BTreeSet::from(["app", "command", "environment", "level"]));
        for value in stream["values"].as_array().unwrap() {
            assert!(value[0].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000_000_000_000);
            let line: Value = serde_json::from_str(value[1].as_str().unwrap()).unwrap();
            assert_eq!(line["trace_id"], id, "{line}");
            stored += usize::from(line["msg"] == "edge ended" && line["credd"] == "ap1.mtk.test");
        }
    }
    assert!(stored >= 7, "a line for each store: {stored}");

    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(lines.contains("edge ended") && lines.contains(id), "{lines}");
    assert!(!lines.contains("DEBUG") && std::fs::read_to_string(&debug).unwrap().contains("DEBUG"));
}

#[test]
fn nobody_who_listens_badly_fails_or_delays_a_run() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let operator = Operator::changed(
        "experiments:\n",
        &format!(
            "loki: {{host: 'http://{at}', response_header_timeout: 1s}}\ntracing: {{url: 'http://127.0.0.1:1/'}}\n\
             logs: {{mtk: {{logfile: /nonexistent/mtk.log}}}}\nexperiments:\n"
        ),
    );
    let report = operator.run(&[]);
    report.all(&["done", "fresh"]);
    assert_eq!(report.ran.code, Some(0));
    for part in [
        "Loki at",
        "the receiver of traces at",
        "/nonexistent/mtk.log cannot be written",
    ] {
        assert!(
            report.ran.stderr.contains(part),
            "no {part}: {}",
            report.ran.stderr
        );
    }
    let after = report.ran.took.as_secs_f64() - report.json["seconds"].as_f64().unwrap();
    assert!(after < 15.0, "{after}");
    drop(silent);
}
