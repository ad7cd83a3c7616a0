//! What monitors are told, by a real Pushgateway, a real Prometheus, and promtool's opinion of the names.

use std::{
    net::TcpListener,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    bed::{Ends, bed, terminate},
    mtk::{Operator, Report, ran},
};

const GATEWAY: &str = "127.0.0.1:9091";
const PROMETHEUS: &str = "127.0.0.1:9090";

/// A server of the bed's Debian, ended when this is dropped.
struct Server(#[expect(dead_code, reason = "it ends the server")] Ends);

impl Server {
    fn start(program: &str, arguments: &[&str], ready: &str) -> Self {
        let child = bed()
            .layout()
            .chroot(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(Ends(child));
        let until = Instant::now() + Duration::from_secs(30);
        while get(ready).is_none() {
            assert!(Instant::now() < until, "{program} does not answer at {ready}");
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn gateway() -> Self {
        let listen = format!("--web.listen-address={GATEWAY}");
        Self::start(
            "prometheus-pushgateway",
            &[&listen],
            &format!("http://{GATEWAY}/-/ready"),
        )
    }
}

fn get(url: &str) -> Option<String> {
    let output = bed()
        .layout()
        .chroot("curl")
        .args(["--silent", "--fail", "--max-time", "5", url])
        .output()
        .unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

fn told() -> String {
    get(&format!("http://{GATEWAY}/metrics")).unwrap()
}

/// The bed's configuration with a Pushgateway, under an instance's name, and with a textfile beside it.
fn operator(instance: &str) -> Operator {
    let textfile = bed().dir.join(format!("{instance}.prom"));
    let to = format!(
        "prometheus: {{host: '{GATEWAY}'}}\n\
         mtk: {{metrics: {{instance: {instance}, timeout: 10s, textfile: {}}}}}\nexperiments:\n",
        textfile.display()
    );
    Operator::changed("experiments:\n", &to)
}

fn textfile(operator: &Operator) -> std::path::PathBuf {
    let text = std::fs::read_to_string(&operator.config).unwrap();
    let path = text
        .split("textfile: ")
        .nth(1)
        .unwrap()
        .split('}')
        .next()
        .unwrap();
    path.into()
}

#[test]
fn two_hosts_and_somebody_else_keep_their_series_at_the_gateway() {
    let _gateway = Server::gateway();
    let foreign = bed()
        .layout()
        .chroot("curl")
        .args(["--silent", "--fail", "--data-binary", "somebody_elses 1\n"])
        .arg(format!("http://{GATEWAY}/metrics/job/managed_tokens_test"))
        .status()
        .unwrap();
    assert!(foreign.success());
    let (first, second) = (operator("first"), operator("second"));
    first.run(&[]).all(&["done", "fresh"]);
    second
        .run(&["--service", "dune_production"])
        .all(&["done", "fresh"]);
    // one service alone, and those of the others stay
    first
        .run(&["--service", "dune_production"])
        .all(&["done", "fresh"]);
    let text = told();
    let has = |parts: &[&str]| text.lines().any(|l| parts.iter().all(|p| l.contains(p)));
    // the environment's label is part of the job, as with the Go service
    let job = r#"job="managed_tokens_test""#;
    assert!(has(&["somebody_elses{", job]), "{text}");
    for parts in [
        [
            "managed_tokens_last_token_push_timestamp{",
            r#"instance="first""#,
            r#"service="nova_production""#,
        ],
        [
            "managed_tokens_last_token_store_timestamp{",
            r#"instance="first""#,
            r#"service="mu2e_default""#,
        ],
        [
            "managed_tokens_last_token_push_timestamp{",
            r#"instance="second""#,
            r#"service="dune_production""#,
        ],
        [
            "managed_tokens_stage_duration_seconds{",
            r#"executable="token-push""#,
            r#"stage="pushTokens""#,
        ],
        [
            "managed_tokens_ping_duration_seconds_bucket{",
            r#"instance="first""#,
            r#"node="gss.mtk.test""#,
        ],
        [
            "mtk_edge_expiry_timestamp_seconds{",
            r#"kind="store""#,
            r#"place="ap1.mtk.test""#,
        ],
    ] {
        assert!(has(&parts) && has(&[parts[0], job]), "no {parts:?} in\n{text}");
    }
}

#[test]
fn prometheus_takes_the_metrics_and_promtool_the_names() {
    let _gateway = Server::gateway();
    let operator = operator("first");
    operator.run(&[]).all(&["done", "fresh"]);

    let text = std::fs::read_to_string(textfile(&operator)).unwrap();
    let copy = "/tmp/mtk.prom";
    std::fs::write(bed().layout().in_root(copy), &text).unwrap();
    let judged = bed()
        .layout()
        .chroot("sh")
        .args(["-c", &format!("promtool check metrics < {copy}")])
        .output()
        .unwrap();
    std::fs::remove_file(bed().layout().in_root(copy)).unwrap();
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    let blamed: Vec<&str> = said
        .lines()
        .filter(|l| !l.starts_with("managed_tokens_"))
        .collect();
    assert!(blamed.is_empty(), "promtool dislikes names of ours: {blamed:?}");
    // it has read them: the Go service's names are as they are
    assert!(said.contains("managed_tokens_failed_kinit_count"), "{said}");

    let config = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: gateway, honor_labels: true, static_configs: [{{targets: ['{GATEWAY}']}}]}}]\n"
    );
    let file = "/tmp/prometheus.yml";
    std::fs::write(bed().layout().in_root(file), config).unwrap();
    // what it kept of an earlier run would answer for this one
    let kept = bed().layout().in_root("/tmp/prometheus");
    let _ = std::fs::remove_dir_all(&kept);
    let prometheus = Server::start(
        "prometheus",
        &[
            &format!("--config.file={file}"),
            "--storage.tsdb.path=/tmp/prometheus",
            &format!("--web.listen-address={PROMETHEUS}"),
        ],
        &format!("http://{PROMETHEUS}/-/ready"),
    );
    // the alert that the Go service's series could never fire: what ages is there to be compared
    let query = "count(time()%20-%20mtk_edge_last_success_timestamp_seconds%20%3C%20600)";
    let until = Instant::now() + Duration::from_secs(30);
    let counted = loop {
        let answer = get(&format!("http://{PROMETHEUS}/api/v1/query?query={query}")).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        if let Some(count) = answer.pointer("/data/result/0/value/1").and_then(Value::as_str) {
            break count.parse::<u32>().unwrap();
        }
        assert!(Instant::now() < until, "Prometheus has nothing: {answer}");
        std::thread::sleep(Duration::from_millis(200));
    };
    let edges = text
        .lines()
        .filter(|l| l.starts_with("mtk_edge_last_success_timestamp_seconds{"))
        .count();
    drop(prometheus);
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::remove_file(bed().layout().in_root(file)).unwrap();
    assert_eq!(counted as usize, edges);
    assert!(edges > 7 * 3, "{edges}");
}

#[test]
fn a_monitor_that_does_not_answer_costs_its_timeout_and_nothing_else() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!(
        "prometheus: {{host: '{}'}}\nmtk: {{metrics: {{timeout: 2s, textfile: /nonexistent/mtk.prom}}}}\nexperiments:\n",
        silent.local_addr().unwrap()
    );
    let operator = Operator::changed("experiments:\n", &to);
    let report = operator.run(&[]);
    report.all(&["done", "fresh"]);
    assert_eq!(report.ran.code, Some(0));
    for part in [
        "the Pushgateway at http://127.0.0.1:",
        "/nonexistent/mtk.prom cannot be written",
        "ReadWritePaths",
    ] {
        assert!(report.ran.stderr.contains(part), "{}", report.ran.stderr);
    }
    let run = report.json["seconds"].as_f64().unwrap();
    let whole = report.ran.took.as_secs_f64();
    assert!(
        whole - run > 2.0,
        "the Pushgateway was not waited for: {whole} s, {run} s"
    );
    assert!(whole - run < 12.0, "the run took {run} s, the command {whole} s");
    drop(silent);
}

#[test]
fn whoever_tells_mtk_to_stop_does_not_wait_for_a_monitor() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!(
        "prometheus: {{host: '{}'}}\nmtk: {{metrics: {{timeout: 30s}}}}\nexperiments:\n",
        silent.local_addr().unwrap()
    );
    let operator = Operator::changed("experiments:\n", &to);
    let child = operator.start(&["run", "--output", "json"]);
    silent.set_nonblocking(true).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let held = loop {
        match silent.accept() {
            Ok(held) => break held,
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("the Pushgateway was not asked: {error}"),
        }
    };
    let told = Instant::now();
    terminate(&child);
    let report = Report::of(ran(child.wait_with_output().unwrap(), told));
    assert!(report.ran.took < Duration::from_secs(5), "{:?}", report.ran.took);
    report.all(&["done", "fresh"]);
    assert_eq!(report.ran.code, Some(0), "{}", report.ran.stderr);
    assert!(
        report.ran.stderr.contains("not every monitor was told"),
        "{}",
        report.ran.stderr
    );
    drop(held);
}
