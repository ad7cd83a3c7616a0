//! Runs that end before their end: told to, or killed at any moment.
//!
//! `MTK_KILLS` says how often the last test kills (20 here, a thousand in the soak), `MTK_SEED` repeats a run of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use testkit::site::{self, SERVICES};

use crate::{
    bed::{bed, terminate, top_token},
    mtk::{Operator, Report, ran},
    waiting::wait_until,
    whole_way::walk,
};

/// The nodes whose sshd bears killed clients. The third takes each for a visitor that does not log in, and after some
/// of them lets nobody in from here for a while (PerSourcePenalties): rightly, and not what is tested here.
const NODES: [site::Host; 2] = [site::GSS_NODE, site::KEY_NODE];

fn operator() -> Operator {
    Operator::changed(", both.mtk.test]", "]")
}

/// Small, and good enough to choose moments.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("MTK_SEED").ok().and_then(|s| s.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64 | 1
        });
        println!("MTK_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % limit.as_micros() as u64)
    }
}

/// Temporary files of ours on the nodes and in the state directory.
fn left_over(operator: &Operator) -> Vec<PathBuf> {
    let nodes = NODES
        .iter()
        .flat_map(|node| walk(&bed().node_path(node.server, "/tmp")));
    let local = walk(operator.path());
    let temporary = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(".mtk") || name.ends_with(".new")
    };
    nodes.chain(local).filter(temporary).collect()
}

/// Every token lies in its own robot's place.
fn nothing_is_wrong() {
    let mut seen = BTreeSet::new();
    let mut robots = BTreeMap::new();
    for access_point in site::ACCESS_POINTS {
        for service in SERVICES {
            let (token, url) = top_token(access_point.server, service.account, service.condor);
            let own = format!("/creds/{}/{}/", service.issuer(), service.account);
            assert!(url.contains(&own), "{url} is not {}'s", service.account);
            assert_eq!(bed().alias_of(&token), service.account().credkey(), "{url}");
            // each role has a mount of its own, and there the robot a name of its own
            robots.insert((service.account, service.condor), bed().entity_of(&token));
            seen.insert((service.account, service.condor, token));
        }
    }
    // stored in each credd, perhaps by different logins, never by another robot
    let tokens: BTreeSet<_> = seen.iter().map(|(_, _, token)| token).collect();
    assert_eq!(tokens.len(), seen.len(), "two services share a token");
    for node in NODES {
        let mut node_tokens = BTreeSet::new();
        for service in SERVICES {
            let path = bed().node_path(
                node.server,
                &format!("/tmp/vt_u{}-{}", service.uid, service.condor),
            );
            let token = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(
                bed().entity_of(token.trim()),
                robots[&(service.account, service.condor)],
                "{}",
                path.display()
            );
            assert!(
                node_tokens.insert(token),
                "two services share a token on {}",
                node.name
            );
        }
    }
}

#[test]
fn a_run_told_to_stop_ends_soon_cleanly_and_remembers_what_it_did() {
    let mut random = Random::new();
    let mut remembered = 0;
    for (turn, signal) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        let operator = self::operator();
        let child = operator.start(&["run", "--output", "json"]);
        if turn == 0 {
            // not before something is stored, so that there is something to remember
            wait_until(
                || exported(&operator).is_some_and(|state| rows(&state) > 0),
                || "the run stores nothing".to_owned(),
            );
        } else {
            std::thread::sleep(Duration::from_millis(150) + random.below(Duration::from_millis(900)));
        }
        let told = Instant::now();
        if signal == "TERM" {
            terminate(&child);
        } else {
            let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let took = told.elapsed();
        assert!(took < Duration::from_secs(5), "it took {took:?} to end");
        let Ok(text) = String::from_utf8(output.stdout.clone()) else {
            panic!()
        };
        if text.is_empty() {
            // before the first step, when nobody listens for signals yet
            assert_eq!(output.status.code(), None);
        } else {
            let stopped = Report::of(ran(output, told));
            let done: BTreeSet<(String, String, String)> = stopped
                .edges()
                .into_iter()
                .filter(|e| e.outcome == "done" && e.kind != "login")
                .map(|e| (e.account, e.place, e.path))
                .collect();
            let state = exported(&operator).unwrap();
            assert!(rows(&state) >= done.len(), "{done:?}\n{state:#}");
            remembered += rows(&state);
        }
        let left = left_over(&operator);
        assert!(left.is_empty(), "temporary files were left: {left:?}");
        operator.run(&[]).all(&["done", "fresh"]);
    }
    assert!(
        remembered > 0,
        "no run had done anything when it was told to stop"
    );
    nothing_is_wrong();
}

/// The state as `mtk state export` has it, if there is one yet.
fn exported(operator: &Operator) -> Option<serde_json::Value> {
    serde_json::from_str(&operator.mtk(&["state", "export"]).stdout).ok()
}

/// How much lies at credds and on nodes by the state.
fn rows(state: &serde_json::Value) -> usize {
    let of = |table: &str| state["tables"][table].as_array().unwrap().len();
    of("store") + of("push")
}

#[test]
fn a_run_killed_at_any_moment_loses_nothing() {
    let kills: usize = std::env::var("MTK_KILLS").map_or(20, |n| n.parse().unwrap());
    let mut random = Random::new();
    let began = Instant::now();
    operator().run(&[]).all(&["done", "fresh"]);
    // as long as a whole run takes here and now, so that kills fall on every part of it
    let whole = began.elapsed();
    let mut operator = self::operator();
    let mut midway = 0;
    for n in 0..kills {
        // a fifth begins with nothing, the others go on from where the one before was killed
        if n % 5 == 0 {
            operator = self::operator();
        } else {
            let service = &SERVICES[n % SERVICES.len()];
            let node = &NODES[n % NODES.len()];
            let path = format!("/tmp/vt_u{}-{}", service.uid, service.condor);
            drop(std::fs::remove_file(bed().node_path(node.server, &path)));
            let top = format!("{}.top", service.condor);
            drop(std::fs::remove_file(bed().oauth_file(
                "ap1",
                service.account,
                &top,
            )));
        }
        let mut child = operator.start(&["run"]);
        let moment = random.below(whole);
        std::thread::sleep(moment);
        let killed = child.try_wait().unwrap().is_none();
        midway += usize::from(killed);
        child.kill().unwrap();
        child.wait().unwrap();
        // every fifth is looked at whole; the others are killed once more on top of it
        if n % 5 == 4 || n + 1 == kills {
            // a node's file may be of a run that lives, so those of dead ones stay for an hour: it is over now
            let hours_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
            for path in left_over(&operator)
                .iter()
                .filter(|p| !p.starts_with(operator.path()))
            {
                std::fs::File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_modified(hours_ago)
                    .unwrap();
            }
            let next = operator.run(&[]);
            next.all(&["done", "fresh"]);
            assert_eq!(
                next.ran.code,
                Some(0),
                "kill {n} after {moment:?}: {}",
                next.ran.stderr
            );
            nothing_is_wrong();
            let left = left_over(&operator);
            assert!(left.is_empty(), "kill {n} after {moment:?}: {left:?}");
        }
    }
    println!("{midway} of {kills} kills fell into a run");
    assert!(midway > 0, "only {midway} of {kills} kills fell into a run");
    operator.run(&[]).all(&["fresh"]);
    // lines that a kill cut off were put right, and nothing is missing between them
    let audit = operator.mtk(&["audit", "verify"]);
    assert_eq!(audit.code, Some(0), "{}{}", audit.stdout, audit.stderr);
}
