//! Several addresses behind one name: the dead are dropped, the good one is remembered, standbys and sealed nodes are no
//! answer where another node has one, and what a node that is behind says is not believed at once.

use std::{
    io::Write,
    net::{IpAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use vault_client::{Client, Error, offline};

use crate::server::{Hostile, Script, Tls, run, say, token};

const GOOD: &str = r#"{"data":{"ttl":60}}"#;
const DENIED: &str = r#"{"errors":["permission denied"]}"#;

fn nodes(all: Vec<Arc<Script>>) -> (Client, Vec<Arc<AtomicUsize>>, Hostile) {
    let mut hostile = Hostile::with(rustls::ALL_VERSIONS, |_| {});
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut counts = Vec::new();
    for (n, script) in all.into_iter().enumerate() {
        let address = IpAddr::from([127, 0, 0, u8::try_from(n).unwrap() + 11]);
        let listener = TcpListener::bind((address, hostile.port)).unwrap();
        hostile.port = listener.local_addr().unwrap().port();
        hostile.requests = Arc::default();
        counts.push(Arc::clone(&hostile.requests));
        hostile.listen(listener, script);
        addresses.push(address);
    }
    let client = hostile.client();
    offline::at(&client, &addresses).unwrap();
    (client, counts, hostile)
}

fn script(script: impl Fn(&mut Tls, &str) -> std::io::Result<()> + Send + Sync + 'static) -> Arc<Script> {
    Arc::new(script)
}

fn always(status: u16, body: &'static str) -> Arc<Script> {
    script(move |stream, _| say(stream, status, body))
}

fn counted(counts: &[Arc<AtomicUsize>]) -> Vec<usize> {
    counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
}

#[test]
fn a_dead_address_is_left_and_the_good_one_remembered() {
    let (client, counts, hostile) = nodes(vec![always(200, GOOD)]);
    let good = IpAddr::from([127, 0, 0, 11]);
    // one that refuses, and one that takes a connection and says nothing of TLS
    let mute = TcpListener::bind(("127.0.0.42", hostile.port)).unwrap();
    let knocked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&knocked);
    std::thread::spawn(move || {
        for stream in mute.incoming().flatten() {
            counting.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let dead = [[127, 0, 0, 41], [127, 0, 0, 42]].map(IpAddr::from);
    offline::at(&client, &[dead[0], dead[1], good]).unwrap();
    run(async {
        for _ in 0..5 {
            // what broke after the connection was made may have been sent, which only the caller can judge
            let first = client.lookup_self(&token()).await;
            if let Err(error) = first {
                assert!(error.retryable(), "{error:?}");
                client.lookup_self(&token()).await.unwrap();
            }
        }
    });
    assert!(
        knocked.load(Ordering::Relaxed) <= 2,
        "the dead one was tried again and again"
    );
    assert!(counted(&counts).iter().sum::<usize>() >= 5);
}

#[test]
fn a_sealed_node_is_no_answer_where_another_has_one() {
    let sealed = || always(503, r#"{"errors":["Vault is sealed"]}"#);
    let (client, counts, _keep) = nodes(vec![sealed(), always(200, GOOD)]);
    run(client.lookup_self(&token())).unwrap();
    run(client.lookup_self(&token())).unwrap();
    assert_eq!(counted(&counts), [1, 2], "the good one is remembered");
    let (client, counts, _keep) = nodes(vec![sealed(), sealed()]);
    let error = run(client.lookup_self(&token())).unwrap_err();
    assert!(matches!(error, Error::Sealed { .. }), "{error:?}");
    assert_eq!(
        counted(&counts).iter().sum::<usize>(),
        4,
        "each was asked, and for its health"
    );
}

#[test]
fn a_server_that_was_never_set_up_is_told_from_a_sealed_one() {
    for (health, wanted) in [
        (r#"{"initialized":false,"sealed":true,"standby":true}"#, false),
        (r#"{"initialized":true,"sealed":true,"standby":true}"#, true),
    ] {
        let node = script(move |stream, head| match head.contains("sys/health") {
            true => say(stream, 200, health),
            false => say(stream, 503, r#"{"errors":["Vault is sealed"]}"#),
        });
        let (client, _, _keep) = nodes(vec![node]);
        let error = run(client.lookup_self(&token())).unwrap_err();
        match wanted {
            true => assert!(
                matches!(error, Error::Sealed { .. }) && error.retryable(),
                "{error:?}"
            ),
            false => assert!(
                matches!(error, Error::Uninitialised { .. }) && !error.retryable(),
                "{error:?}"
            ),
        }
    }
}

#[test]
fn a_standby_that_cannot_forward_names_the_leader_and_is_followed_once() {
    let leader = Hostile::with(rustls::ALL_VERSIONS, |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let leader = leader.listen_on(listener, always(200, GOOD));
    let port = leader.port;
    let standby = script(move |stream, _| {
        write!(
            stream,
            "HTTP/1.1 307 X\r\nLocation: https://localhost:{port}/v1/auth/token/lookup-self\r\nContent-Length: 0\r\n\r\n"
        )?;
        stream.flush()
    });
    leader.listen(TcpListener::bind(("127.0.0.12", port)).unwrap(), standby);
    let client = leader.client();
    offline::at(&client, &[IpAddr::from([127, 0, 0, 12])]).unwrap();
    run(client.lookup_self(&token())).unwrap();
    assert_eq!(
        leader.requests.load(Ordering::Relaxed),
        2,
        "the standby and the leader"
    );
    assert_eq!(client.requests(), 2, "both count");
}

/// The first node answers once and is gone; the second does not know the token yet, as it says in its own way.
fn behind(status: u16, said: &'static str) {
    let leader = Arc::new(AtomicUsize::new(0));
    let dies = script(move |stream, _| match leader.fetch_add(1, Ordering::Relaxed) {
        0 => say(stream, 200, GOOD),
        _ => Err(std::io::ErrorKind::BrokenPipe.into()),
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let late = script(move |stream, _| match asked.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => say(stream, status, said),
        _ => say(stream, 200, GOOD),
    });
    let (client, counts, hostile) = nodes(vec![dies, late]);
    let mut options = hostile.options();
    options.election_patience = Duration::from_secs(5);
    let patient = Client::new(options).unwrap();
    offline::at(&patient, &[11, 12].map(|last| IpAddr::from([127, 0, 0, last]))).unwrap();
    drop(client);
    run(async {
        patient.lookup_self(&token()).await.unwrap();
        let lost = patient.lookup_self(&token()).await.unwrap_err();
        assert!(matches!(lost, Error::Interrupted { .. }), "{lost:?}");
        patient.lookup_self(&token()).await.unwrap();
    });
    assert_eq!(counted(&counts).last(), Some(&3), "asked until it knew");
}

#[test]
fn what_a_node_that_is_behind_says_is_not_believed_at_once() {
    behind(403, DENIED);
    behind(412, r#"{"errors":["required index state not present"]}"#);
}

#[test]
fn a_token_that_is_really_refused_is_refused_at_once() {
    let (client, counts, _keep) = nodes(vec![always(403, DENIED), always(200, GOOD)]);
    let error = run(client.lookup_self(&token())).unwrap_err();
    assert!(matches!(error, Error::TokenInvalid { .. }), "{error:?}");
    assert_eq!(counted(&counts), [1, 0]);
}
