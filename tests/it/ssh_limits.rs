//! Many nodes, of which some hang: the others do not notice.

use std::{
    io::Write,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use distribute::{Error, Gate, Limits, Login, Mode, Node, Stage};
use tokio::task::JoinSet;

use crate::sshd::{Folder, Sshd, file, node};

/// Sixty nodes on sixty addresses, fifteen of each sshd.
const NODES: u8 = 60;
const HANGING: u8 = 6;
/// Services that want something of each node.
const SERVICES: usize = 3;

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let gate = Gate::default();
    let began = Instant::now();
    runtime.block_on(async {
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
    let mut sshds = Vec::new();
    for group in 0..4_u8 {
        let more: String = (0..15)
            .map(|n| format!("ListenAddress 127.0.4.{}:22\n", group * 15 + n + 1))
            .collect();
        sshds.push(Sshd::start(&folder, 10 + group, &more));
    }
    let known = folder.write(
        "known_hosts",
        &format!("127.0.4.*,127.0.5.* {}\n", folder.read("host.pub")),
    );
    let login = || Login::PublicKey { key: key.clone() };
    let healthy: Vec<Node> = (1..=NODES)
        .map(|n| node(&format!("127.0.4.{n}"), &known, login()))
        .collect();
    let limits = Limits {
        connect: Duration::from_secs(20),
        ..Limits::default()
    };
    let without = all(&healthy, &limits);
    assert!(without.iter().all(|(_, _, result)| result.is_ok()), "{without:?}");

    let addresses: Vec<String> = (1..=HANGING).map(|n| format!("127.0.5.{n}")).collect();
    let came: Vec<_> = addresses.iter().map(|address| hang(address)).collect();
    let hanging = addresses.iter().map(|address| node(address, &known, login()));
    // those that hang come first in line
    let mixed: Vec<Node> = hanging.chain(healthy).collect();
    let with = all(&mixed, &limits);
    let (hung, fine): (Vec<_>, Vec<_>) = with
        .into_iter()
        .partition(|(host, ..)| host.starts_with("127.0.5."));
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
        "{} sessions to {NODES} nodes: {before:.2?} alone, {after:.2?} beside {HANGING} nodes that hang",
        fine.len()
    );
    // Not a measurement, which is printed: only that nobody waited for the hanging ones.
    assert!(after < limits.connect, "{after:?}");
}
