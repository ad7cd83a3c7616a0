//! Vault's rate limit, scaled down in time: nobody is blocked who keeps to it, and a block is waited out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{bed::vault, site};

use crate::{bed::bed, mtk::Operator};

const REQUESTS: usize = 40;
const WINDOW: Duration = Duration::from_secs(8);

/// A quota at the server, and HTCondor's credmons asleep: they ask from the same address as we do.
struct Limited {
    credmons: Vec<Pid>,
}

impl Limited {
    fn new() -> Self {
        let credmons = credmons();
        for pid in &credmons {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        let seconds = format!("{}s", WINDOW.as_secs());
        let body = json!({"rate": REQUESTS, "interval": seconds, "block_interval": seconds});
        bed()
            .vault("POST", "/v1/sys/quotas/rate-limit/budget", Some(body))
            .unwrap();
        Self { credmons }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        // while the address is blocked, not even this gets through
        while bed()
            .vault("DELETE", "/v1/sys/quotas/rate-limit/budget", None)
            .is_err()
        {
            assert!(Instant::now() < end, "the quota does not go");
            std::thread::sleep(Duration::from_millis(500));
        }
        for pid in &self.credmons {
            kill_process(*pid, Signal::CONT).unwrap();
        }
    }
}

fn credmons() -> Vec<Pid> {
    let named = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("condor_credmon"))
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| named(*pid))
        .filter_map(Pid::from_raw)
        .collect()
}

/// All bulk robots, with the quota in the configuration.
fn operator() -> Operator {
    let text = std::fs::read_to_string(bed().dir.join("bulk.yml")).unwrap();
    let seconds = WINDOW.as_secs();
    let quota =
        format!("mtk: {{vault: {{quota: {{requests: {REQUESTS}, window: {seconds}s, block: {seconds}s}}}}}}");
    let config = text.replacen("vaultServer:", &format!("{quota}\nvaultServer:"), 1);
    assert_ne!(config, text);
    Operator::with(&config)
}

/// The budget as `mtk status` shows it.
fn standing(operator: &Operator) -> Value {
    let ran = operator.mtk(&["status", "--output", "json"]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    status["vaults"][0].clone()
}

#[test]
fn a_cold_start_of_many_services_is_never_blocked_and_loses_no_time() {
    let operator = operator();
    let limited = Limited::new();
    let report = operator.report(&["refresh", "--output", "json"]);
    let standing = standing(&operator);
    drop(limited);
    report.all(&["done"]);
    assert_eq!(standing["blocks"], 0, "{standing}");
    // a login and a bearer token each
    let requests = 2 * site::bulk().len();
    assert_eq!(report.traffic("vault_requests"), requests as u64);
    let least = WINDOW * u32::try_from((requests - 1) / REQUESTS).unwrap();
    let last = report
        .edges()
        .iter()
        .filter(|edge| edge.kind == "login")
        .map(|edge| edge.ended)
        .fold(0.0, f64::max);
    assert!(
        last <= least.as_secs_f64() * 1.1,
        "the last was done after {last} s where {least:?} are enough"
    );
    assert!(
        last >= least.as_secs_f64() * 0.9,
        "{last} s: was there no quota at all?"
    );
}

#[test]
fn with_another_client_eating_half_the_quota_there_is_one_block_at_most() {
    let operator = operator();
    let limited = Limited::new();
    let stop = Arc::new(AtomicBool::new(false));
    let other = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // whatever it is answered, it counts
                let _refused = vault::raw("GET", "/v1/auth/token/lookup-self", None, None);
                std::thread::sleep(WINDOW / (u32::try_from(REQUESTS).unwrap() / 2));
            }
        })
    };
    let report = operator.report(&["refresh", "--output", "json"]);
    let standing = standing(&operator);
    stop.store(true, Ordering::Relaxed);
    other.join().unwrap();
    drop(limited);
    report.all(&["done"]);
    assert!(standing["blocks"].as_u64().unwrap() <= 1, "{standing}");
    let text = operator.mtk(&["status"]).stdout;
    assert!(text.contains("Vault vault.mtk.test:8200: "), "{text}");
}
