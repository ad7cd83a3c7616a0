//! Runs the real binary, as an operator would, and reads what it says.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::bed::bed;

/// One operator: a configuration and a state directory of his own.
pub struct Operator {
    dir: TempDir,
    pub config: PathBuf,
}

/// What a run of mtk came to.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Operator {
    /// With the bed's own configuration.
    pub fn new() -> Self {
        Self::with(&std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap())
    }

    /// With another configuration.
    pub fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("managedTokens.yml");
        std::fs::write(&path, config).unwrap();
        Self { config: path, dir }
    }

    /// With the bed's configuration, changed. The change must change something.
    pub fn changed(from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
        assert!(
            text.contains(from),
            "the bed's configuration has no {from:?}:\n{text}"
        );
        Self::with(&text.replace(from, to))
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("--config")
            .arg(&self.config)
            .arg("--state-dir")
            .arg(self.state())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub fn mtk(&self, args: &[&str]) -> Ran {
        let began = Instant::now();
        ran(self.command(args).output().unwrap(), began)
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// `mtk run --output json` and its report.
    pub fn run(&self, more: &[&str]) -> Report {
        let args: Vec<&str> = ["run", "--output", "json"].iter().chain(more).copied().collect();
        self.report(&args)
    }

    pub fn report(&self, args: &[&str]) -> Report {
        Report::of(self.mtk(args))
    }
}

pub fn ran(output: Output, began: Instant) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: began.elapsed(),
    }
}

/// The binary under test: `MTK_BIN`, or the one built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MTK_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap();
    let path = exe.ancestors().nth(2).unwrap().join("mtk");
    assert!(
        path.exists(),
        "{} is not built: cargo build -p mtk",
        path.display()
    );
    path
}

/// A report of a run, as `--output json` prints it.
pub struct Report {
    pub ran: Ran,
    pub json: Value,
}

/// One edge of a report; what no test asks for is shown when one fails.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "shown by Debug when a test fails")]
pub struct Edge {
    pub experiment: String,
    pub role: String,
    pub account: String,
    pub kind: String,
    /// The Vault server, the credd or the node.
    pub place: String,
    pub path: String,
    pub outcome: String,
    pub failure: Value,
    pub ended: f64,
}

impl Report {
    pub fn of(ran: Ran) -> Self {
        let json = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| {
            panic!(
                "no report ({e}), exit {:?}:\n{}\n{}",
                ran.code, ran.stdout, ran.stderr
            )
        });
        Self { ran, json }
    }

    pub fn edges(&self) -> Vec<Edge> {
        let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let mut edges = Vec::new();
        for service in self.json["services"].as_array().unwrap() {
            for edge in service["edges"].as_array().unwrap() {
                let target = &edge["target"];
                let place = ["vault", "credd", "node", "collectors"]
                    .iter()
                    .map(|k| text(target, k));
                edges.push(Edge {
                    experiment: text(service, "experiment"),
                    role: text(service, "role"),
                    account: text(service, "account"),
                    kind: text(target, "kind"),
                    place: place.collect(),
                    path: text(target, "path"),
                    outcome: text(edge, "outcome"),
                    failure: edge["failure"].clone(),
                    ended: edge["ended"].as_f64().unwrap(),
                });
            }
        }
        edges
    }

    pub fn traffic(&self, what: &str) -> u64 {
        self.json["traffic"][what].as_u64().unwrap()
    }

    pub fn failed(&self) -> Vec<Edge> {
        self.edges()
            .into_iter()
            .filter(|e| e.outcome == "failed")
            .collect()
    }

    /// Every edge is as wanted; anything else is shown whole.
    #[track_caller]
    pub fn all(&self, outcomes: &[&str]) {
        let other: Vec<Edge> = self
            .edges()
            .into_iter()
            .filter(|e| !outcomes.contains(&e.outcome.as_str()))
            .collect();
        assert!(other.is_empty(), "{other:#?}\n{}", self.ran.stderr);
        assert!(!self.edges().is_empty());
    }

    /// Exactly the edges that `expected` picks have failed, each with one of the kinds; all others are fresh.
    #[track_caller]
    pub fn only_failed(&self, expected: impl Fn(&Edge) -> bool, kinds: &[&str]) {
        assert!(
            self.edges().iter().any(&expected),
            "no edge is expected to fail: {:#?}",
            self.edges()
        );
        for edge in self.edges() {
            if expected(&edge) {
                assert_eq!(edge.outcome, "failed", "should have failed: {edge:#?}");
                let kind = edge.failure["kind"].as_str().unwrap();
                assert!(
                    kinds.contains(&kind),
                    "failed as {kind}, not as {kinds:?}: {edge:#?}"
                );
            } else {
                assert!(
                    ["done", "fresh", "trusted"].contains(&edge.outcome.as_str()),
                    "should not have failed: {edge:#?}"
                );
            }
        }
        assert_eq!(self.ran.code, Some(1));
    }
}
