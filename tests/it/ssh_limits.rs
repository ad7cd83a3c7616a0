//! Many nodes, of which some hang: the others do not notice.

use std::{
    io::Write,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use distribute::{Error, Gate, Identity, Limits, Login, Mode, Node, Stage};
use tokio::task::JoinSet;

use crate::sshd::{Folder, Sshd, file, node, place_through};
use crate::waiting::block;

/// Nodes that work, each on an address of its own, fifteen of each sshd (it listens on sixteen at most), and nodes that
/// hang. `MTK_MANY_NODES=500` in the environment is the size of a large site, for `cargo xtask soak`.
fn sizes() -> (usize, usize) {
    let all = std::env::var("MTK_MANY_NODES").ok();
    match all.and_then(|all| all.parse::<usize>().ok()) {
        Some(all) => (all - all / 10, all / 10),
        None => (60, 6),
    }
}

const PER_SSHD: usize = 15;

/// Services that want something of each node.
const SERVICES: usize = 3;

/// The n-th address of a block of 127.0.0.0/8.
fn address(block: usize, n: usize) -> String {
    format!("127.{block}.{}.{}", n / 250, n % 250 + 1)
}

/// Says its banner and nothing more, to everybody; counts who came.
fn hang(address: &str) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((address, 22)).unwrap();
    let came = Arc::new(AtomicUsize::new(0));
    let counter = came.clone();
    // Ends with the tests' process; it holds nothing but its connections.
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
            open.push(stream);
        }
    });
    came
}

type Done = (String, Duration, Result<(), Error>);

fn all(nodes: &[Node], limits: &Limits) -> Vec<Done> {
    let gate = Gate::default();
    let began = Instant::now();
    block(async {
        let mut sessions = JoinSet::new();
        for service in 0..SERVICES {
            for node in nodes {
                let (gate, node, limits) = (gate.clone(), node.clone(), *limits);
                sessions.spawn(async move {
                    let name = format!("limits-{}-{service}", node.host);
                    let placed =
                        distribute::place(&gate, &node, &[file(&name, "x")], Mode::Verify, &limits).await;
                    (node.host.clone(), began.elapsed(), placed.map(drop))
                });
            }
        }
        let mut done = Vec::new();
        while let Some(one) = sessions.join_next().await {
            done.push(one.unwrap());
        }
        done
    })
}

#[test]
fn nodes_that_hang_after_the_banner_cost_the_others_nothing() {
    let folder = Folder::new("limits");
    let key = folder.key("user", "ed25519");
    folder.write("authorized", &folder.read("user.pub"));
    let (nodes, hanging) = sizes();
    let mut sshds = Vec::new();
    for (index, group) in (0..nodes).collect::<Vec<_>>().chunks(PER_SSHD).enumerate() {
        let more: String = group
            .iter()
            .map(|n| format!("ListenAddress {}:22\n", address(40, *n)))
            .collect();
        sshds.push(Sshd::start(&folder, 10 + u8::try_from(index).unwrap(), &more));
    }
    let known = folder.write(
        "known_hosts",
        &format!("127.40.*,127.50.* {}\n", folder.read("host.pub")),
    );
    let login = || Login::PublicKey { key: key.clone() };
    let healthy: Vec<Node> = (0..nodes)
        .map(|n| node(&address(40, n), &known, login()))
        .collect();
    let limits = Limits {
        connect: Duration::from_secs(20),
        ..Limits::default()
    };
    let without = all(&healthy, &limits);
    assert!(without.iter().all(|(_, _, result)| result.is_ok()), "{without:?}");

    let addresses: Vec<String> = (0..hanging).map(|n| address(50, n)).collect();
    let came: Vec<_> = addresses.iter().map(|address| hang(address)).collect();
    let silent = addresses.iter().map(|address| node(address, &known, login()));
    // those that hang come first in line
    let mixed: Vec<Node> = silent.chain(healthy).collect();
    let with = all(&mixed, &limits);
    let (hung, fine): (Vec<_>, Vec<_>) = with
        .into_iter()
        .partition(|(host, ..)| host.starts_with("127.50."));
    assert!(fine.iter().all(|(_, _, result)| result.is_ok()), "{fine:?}");
    for (host, _, result) in &hung {
        let timed_out = matches!(
            result,
            Err(Error::TimedOut {
                stage: Stage::KeyExchange,
                ..
            })
        );
        assert!(timed_out, "{host}: {result:?}");
    }
    // one finds out for all
    for (address, came) in addresses.iter().zip(came) {
        assert_eq!(
            came.load(Ordering::SeqCst),
            1,
            "{address} was asked more than once"
        );
    }
    let last = |done: &[Done]| done.iter().map(|(_, took, _)| *took).max().unwrap();
    let (before, after) = (last(&without), last(&fine));
    println!(
        "{} sessions to {nodes} nodes: {before:.2?} alone, {after:.2?} beside {hanging} nodes that hang",
        fine.len()
    );
    // Not a measurement, which is printed: only that nobody waited for the hanging ones.
    assert!(
        after < before + limits.connect / 2,
        "{before:?} alone, {after:?} beside them"
    );
}

/// An sshd with `lines`, a key it takes and one it does not.
struct Stern {
    folder: Folder,
    sshd: Sshd,
    known: PathBuf,
    last: u8,
}

impl Stern {
    fn start(name: &str, last: u8, lines: &str) -> Self {
        let folder = Folder::new(name);
        folder.key("user", "ed25519");
        folder.key("stranger", "ed25519");
        folder.write("authorized", &folder.read("user.pub"));
        let sshd = Sshd::start(&folder, last, lines);
        let known = sshd.known_hosts(&folder);
        Self {
            folder,
            sshd,
            known,
            last,
        }
    }

    fn node(&self, key: &str) -> Node {
        let identities = vec![Identity::Key(self.folder.join(key))];
        node(&self.sshd.host, &self.known, Login::Libssh2 { identities })
    }

    /// How often its log has these words.
    fn said(&self, words: &str) -> usize {
        self.folder
            .read(&format!("log.{}", self.last))
            .to_lowercase()
            .matches(words)
            .count()
    }

    /// So many sessions at once, each again where that may help, as a run does it.
    fn wave(&self, gate: &Gate, sessions: usize) {
        block(async {
            let mut all = JoinSet::new();
            for n in 0..sessions {
                let (gate, node) = (gate.clone(), self.node("user"));
                all.spawn(async move {
                    let files = [file(&format!("wave-{n}"), "x")];
                    let until = Instant::now() + Duration::from_secs(60);
                    loop {
                        match distribute::place(&gate, &node, &files, Mode::Verify, &Limits::default()).await
                        {
                            Err(error) if error.retryable() && Instant::now() < until => {
                                let kept_out = matches!(error, Error::KeptOut { .. });
                                assert!(!kept_out, "nobody counts against us here: {error}");
                                tokio::time::sleep(Duration::from_millis(300)).await;
                            }
                            done => return done.map(drop),
                        }
                    }
                });
            }
            while let Some(one) = all.join_next().await {
                one.unwrap().unwrap();
            }
        });
    }
}

#[test]
fn a_node_that_lets_in_few_at_once_is_asked_by_few() {
    let stern = Stern::start("startups", 40, "MaxStartups 2");
    let gate = Gate::new(8, 128);
    let dropped = || stern.said("drop connection");
    stern.wave(&gate, 40);
    let first = dropped();
    let log = stern.folder.read("log.40");
    assert!(first > 0, "nobody was turned away, so nothing was learnt: {log}");
    stern.wave(&gate, 40);
    let second = dropped() - first;
    println!("of 40 sessions {first} were turned away at first, then {second}");
    assert!(second * 2 <= first || second <= 3, "{first}, then {second}");
}

#[test]
fn refusals_of_some_accounts_never_shut_out_the_others() {
    let stern = Stern::start(
        "penalties",
        41,
        "PerSourcePenalties authfail:5s noauth:1s min:15s max:60s",
    );
    let gate = Gate::default();
    place_through(&gate, &stern.node("user"), &[], Mode::Verify).unwrap();
    let refuse = |gate: &Gate, account: &str| {
        let node = Node {
            user: account.to_owned(),
            ..stern.node("stranger")
        };
        place_through(gate, &node, &[], Mode::Verify).unwrap_err()
    };
    let began = Instant::now();
    for account in ["novapro", "mu2epro", "nobody"] {
        let error = refuse(&gate, account);
        assert!(matches!(error, Error::AuthRefused { .. }), "{account}: {error:?}");
    }
    // the third had to wait for a second or so, or sshd would have shut us out
    assert!(
        began.elapsed() > Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    place_through(&gate, &stern.node("user"), &[], Mode::Verify).unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "it waited: {:?}",
        began.elapsed()
    );

    // Without a memory one is shut out; then it is said, and costs one session's attempts.
    let kept_out = (0..4).any(|_| matches!(refuse(&Gate::default(), "novapro"), Error::KeptOut { .. }));
    assert!(kept_out, "this sshd keeps nobody out, so the test says nothing");
    let (gate, drops) = (Gate::default(), stern.said("drop connection"));
    for _ in 0..5 {
        let error = place_through(&gate, &stern.node("user"), &[], Mode::Verify).unwrap_err();
        assert!(
            matches!(error, Error::KeptOut { .. }) && error.retryable(),
            "{error:?}"
        );
    }
    // one of them, with all its knocks
    assert!(stern.said("drop connection") - drops <= 4);
}
