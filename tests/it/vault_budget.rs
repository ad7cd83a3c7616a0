//! Vault's rate limit, scaled down in time: nobody is blocked who keeps to it, and a block is waited out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::{
    bed::vault,
    site::{self, Account},
};

use crate::{
    bed::bed,
    mtk::{Operator, Report},
    waiting::wait_until,
};

/// What a server lets through: so many requests in a window, else a block as long as one.
#[derive(Clone, Copy)]
struct Quota {
    requests: usize,
    window: Duration,
}

/// The documented quota, a window of 5 minutes in 20 seconds.
const DOCUMENTED: Quota = Quota {
    requests: 360,
    window: Duration::from_secs(20),
};
const SMALL: Quota = Quota {
    requests: 40,
    window: Duration::from_secs(4),
};

/// A quota at the server, and HTCondor's credmons asleep: they ask from the same address as we do.
struct Limited {
    credmons: Vec<Pid>,
}

impl Limited {
    fn to(quota: Quota) -> Self {
        let credmons = credmons();
        for pid in &credmons {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        let seconds = format!("{}s", quota.window.as_secs());
        let body = json!({"rate": quota.requests, "interval": seconds, "block_interval": seconds});
        bed()
            .vault("POST", "/v1/sys/quotas/rate-limit/budget", Some(body))
            .unwrap();
        Self { credmons }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // while the address is blocked, not even this gets through
        let gone = || {
            let asked = bed().vault("DELETE", "/v1/sys/quotas/rate-limit/budget", None);
            asked.is_ok()
        };
        wait_until(gone, || "the quota does not go".to_owned());
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

/// Services for these robots, as many as there are names: none stores in credds, each has a node token to make, and
/// `more` is said of all.
fn configuration(quota: Option<Quota>, more: &str, services: &[(String, Account)]) -> String {
    let bulk = std::fs::read_to_string(bed().dir.join("bulk.yml")).unwrap();
    let (head, _) = bulk.split_once("minTokenLifetime:").unwrap();
    let quota = quota.map_or_else(String::new, |quota| {
        let (requests, seconds) = (quota.requests, quota.window.as_secs());
        format!("vault: {{quota: {{requests: {requests}, window: {seconds}s, block: {seconds}s}}}}, ")
    });
    let mut text = format!("{head}disableNotifications: true\nmtk: {{{quota}{more}}}\nexperiments:\n");
    for (name, account) in services {
        text += &format!(
            "  {name}:\n    emails: [operators@mtk.test]\n    experimentOverride: dune\n    roles:\n      production:\n        \
             account: {}\n        desiredUIDOverride: {}\n        tokenGetterOverride: getToken\n        \
             destinationNodes: [none.mtk.test]\n",
            account.name, account.uid
        );
    }
    text
}

/// The budget as `mtk status` shows it.
fn standing(operator: &Operator) -> Value {
    let ran = operator.mtk(&["status", "--output", "json"]);
    let status: Value = serde_json::from_str(&ran.stdout).unwrap();
    status["vaults"][0].clone()
}

/// When the login of each service ended, node token and all.
fn ends(report: &Report) -> Vec<(String, f64)> {
    let logins = report.edges().into_iter().filter(|edge| edge.kind == "login");
    logins.map(|edge| (edge.experiment, edge.ended)).collect()
}

#[test]
fn a_cold_start_of_200_services_is_never_blocked_and_loses_no_time() {
    let robots = site::bulk();
    let services: Vec<(String, Account)> = (0..200)
        .map(|n| (format!("many{n:03}"), robots[n % robots.len()].clone()))
        .collect();
    // the whole of it is ours: no credmon asks meanwhile
    let config = configuration(
        Some(DOCUMENTED),
        "limits: {vaultConcurrency: 16}, node: {tokenLifetime: 7d}",
        &services,
    );
    let operator = Operator::with(&config);
    let limited = Limited::to(DOCUMENTED);
    let report = operator.report(&["refresh", "--output", "json"]);
    let standing = standing(&operator);
    drop(limited);
    report.all(&["done"]);
    assert_eq!(standing["blocks"], 0, "{standing}");
    // a login, a bearer token and a node token each
    let requests = 3 * services.len();
    assert_eq!(report.traffic("vault_requests"), requests as u64);
    let windows = (requests - 1) / DOCUMENTED.requests;
    let least = (DOCUMENTED.window * u32::try_from(windows).unwrap()).as_secs_f64();
    let logins = ends(&report);
    assert_eq!(logins.len(), services.len());
    let latest = |before: f64| {
        let ended = logins.iter().map(|(_, ended)| *ended);
        ended.filter(|ended| *ended < before).fold(0.0, f64::max)
    };
    // how long this machine takes for what the quota lets through at once: as long it takes for the rest
    let burst = latest(least * 0.9);
    assert!(
        burst < least / 2.0,
        "{burst} s for the first of them: was anything let through at once?"
    );
    let last = latest(f64::INFINITY);
    assert!(
        last <= least * 1.1 + burst,
        "the last was done after {last} s where {least} s are enough, and {burst} s for the requests"
    );
    assert!(last >= least * 0.9, "{last} s: was there no quota at all?");
}

#[test]
fn with_another_client_eating_half_the_quota_there_is_one_block_at_most_and_the_order_holds() {
    let robots = site::bulk();
    let services: Vec<(String, Account)> = (0..30)
        .map(|n| (format!("some{n:02}"), robots[n].clone()))
        .collect();
    let operator = Operator::with("");
    // what stands last in the file ends first
    let groups = [(6, 0..10), (5, 10..20), (4, 20..30)];
    for (days, group) in groups.clone() {
        let life = format!("node: {{tokenLifetime: {days}d}}");
        std::fs::write(&operator.config, configuration(None, &life, &services[group])).unwrap();
        operator.report(&["refresh", "--output", "json"]).all(&["done"]);
    }
    let config = configuration(Some(SMALL), "node: {tokenLifetime: 7d}", &services);
    let config = config.replacen("experiments:", "minTokenLifetime: 6d12h\nexperiments:", 1);
    std::fs::write(&operator.config, config).unwrap();
    let limited = Limited::to(SMALL);
    let stop = Arc::new(AtomicBool::new(false));
    let other = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // whatever it is answered, it counts
                let _refused = vault::raw("GET", "/v1/auth/token/lookup-self", None, None);
                std::thread::sleep(SMALL.window / (u32::try_from(SMALL.requests).unwrap() / 2));
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

    let logins = ends(&report);
    assert_eq!(logins.len(), services.len());
    let middle = |group: &std::ops::Range<usize>| {
        let names: Vec<&String> = services[group.clone()].iter().map(|(name, _)| name).collect();
        let mut ended: Vec<f64> = logins
            .iter()
            .filter(|(name, _)| names.contains(&name))
            .map(|(_, ended)| *ended)
            .collect();
        ended.sort_by(f64::total_cmp);
        ended[ended.len() / 2]
    };
    let [last, second, first] = groups.map(|(_, group)| middle(&group));
    assert!(
        first < second && second < last,
        "the earliest ends were done after {first} s, the next after {second} s, the last after {last} s: {logins:?}"
    );
}
