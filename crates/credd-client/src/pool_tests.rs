//! Against peers that misbehave, over real sockets.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

fn options() -> Options {
    let short = Duration::from_millis(300);
    Options {
        connect: short,
        step: short,
        total: Duration::from_secs(1),
        ..Options::default()
    }
}

/// A peer that does `script` with its first connection.
async fn peer<F: Future<Output = ()> + Send>(script: impl FnOnce(TcpStream) -> F + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(stream).await;
    });
    at
}

async fn asked(entry: String) -> Error {
    schedds(&[entry], Some("true"), &options()).await.unwrap_err()
}

#[tokio::test]
async fn a_peer_that_hangs_meets_the_deadline_of_its_stage() {
    let start = Instant::now();
    let error = asked(
        peer(|stream| async move {
            stream.readable().await.unwrap();
            std::future::pending().await
        })
        .await,
    )
    .await;
    assert!(matches!(error.kind, Kind::Timeout(_)), "{error:?}");
    assert_eq!(error.stage, Stage::Negotiating);
    assert!(
        start.elapsed() < Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_peer_that_drips_meets_it_too() {
    let error = asked(
        peer(|mut stream| async move {
            for b in [1, 0, 0, 1, 0].into_iter().cycle() {
                if stream.write_all(&[b]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await,
    )
    .await;
    assert!(matches!(error.kind, Kind::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn a_peer_that_closes_has_no_policy_for_us() {
    let error = asked(
        peer(|mut stream| async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
        })
        .await,
    )
    .await;
    assert!(
        matches!(error.kind, Kind::Cedar(cedar::Error::NoPolicy)),
        "{error:?}"
    );
    assert!(error.advice().is_some());
}

#[tokio::test]
async fn a_peer_of_another_kind_is_refused_at_once() {
    let cases: [&'static [u8]; 4] = [
        b"SSH-2.0-OpenSSH_10.0\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[1, 0xff, 0xff, 0xff, 0xff],
        &[1, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    for bytes in cases {
        let error = asked(
            peer(move |mut stream| async move {
                stream.write_all(bytes).await.unwrap();
                std::future::pending().await
            })
            .await,
        )
        .await;
        assert!(
            matches!(error.kind, Kind::Cedar(cedar::Error::Malformed(_))),
            "{error:?}"
        );
        assert!(!error.retryable());
    }
}

#[tokio::test]
async fn an_unknown_shared_port_is_told_from_a_refusal() {
    let at = peer(|stream| async move {
        stream.readable().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let error = asked(format!("{at}?sock=gone")).await;
    assert!(
        matches!(&error.kind, Kind::UnknownSharedPort { id } if id == "gone"),
        "{error:?}"
    );
}

#[tokio::test]
async fn nobody_listening_and_no_such_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = asked(at.clone()).await;
    assert!(
        matches!(&error.kind, Kind::Unreachable(tried) if tried.len() == 1),
        "{error:?}"
    );
    let both = schedds(&[at, "no-such-host.invalid".to_owned()], None, &options())
        .await
        .unwrap_err();
    assert!(
        matches!(&both.kind, Kind::NoCollector(failures) if failures.len() == 2),
        "{both:?}"
    );
    assert!(matches!(
        schedds(&[], None, &options()).await.unwrap_err().kind,
        Kind::NoCollector(_)
    ));
}

#[tokio::test]
async fn the_second_collector_is_asked_when_the_first_does_not_answer() {
    let second = peer(|mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
    })
    .await;
    let error = schedds(&["<bad".to_owned(), second], None, &options())
        .await
        .unwrap_err();
    let Kind::NoCollector(failures) = &error.kind else {
        panic!("{error:?}")
    };
    assert_eq!(failures[1].stage, Stage::Negotiating);
}

async fn remembering(keep: Keep, age: Duration) -> Result<Answered, Error> {
    let query = Query::all(AdKind::Schedd, &["Name"]);
    // nobody listens there
    let pool = Pool::new(&["127.0.0.1:1".into(), "<bad".into()], keep, options());
    let at = tokio::time::Instant::now() - age;
    let mut ad = Ad::new();
    ad.set("Name", "a");
    *pool.slot("127.0.0.1:1", &query).lock().await = Some(Remembered {
        ads: Arc::new(vec![ad]),
        at,
    });
    let other = pool.ads(&query.clone().matching(Some("Name == \"a\""))).await;
    assert!(matches!(other.unwrap_err().kind, Kind::NoCollector(_)));
    pool.ads(&query).await
}

#[tokio::test]
async fn a_fresh_answer_is_not_asked_for_again() {
    let keep = Keep {
        fresh: Duration::from_secs(60),
        stale: Duration::ZERO,
    };
    let answered = remembering(keep, Duration::from_secs(1)).await.unwrap();
    assert_eq!((answered.ads.len(), answered.failures.len()), (1, 0));
    assert!(remembering(keep, Duration::from_secs(61)).await.is_err());
}

#[tokio::test]
async fn the_last_good_answer_stands_in_when_nobody_answers() {
    let keep = Keep {
        fresh: Duration::ZERO,
        stale: Duration::from_secs(600),
    };
    let answered = remembering(keep, Duration::from_secs(60)).await.unwrap();
    assert_eq!((answered.ads.len(), answered.failures.len()), (1, 2));
    assert_eq!(answered.collector, "127.0.0.1:1");
    assert!(answered.age >= Duration::from_secs(60));
    let error = remembering(keep, Duration::from_secs(601)).await.unwrap_err();
    assert!(matches!(error.kind, Kind::NoCollector(failures) if failures.len() == 2));
}

/// Two lists of collectors that overlap ask the collector they share once.
#[tokio::test]
async fn what_a_collector_said_is_known_to_every_list_it_is_in() {
    let keep = Keep {
        fresh: Duration::from_secs(60),
        stale: Duration::ZERO,
    };
    let query = Query::all(AdKind::Schedd, &["Name"]);
    let pool = Pool::new(&["127.0.0.1:1".into()], keep, options());
    *pool.slot("127.0.0.1:1", &query).lock().await = Some(Remembered {
        ads: Arc::new(vec![Ad::new()]),
        at: tokio::time::Instant::now(),
    });
    let other = pool.of(&["<bad".into(), "127.0.0.1:1".into()]);
    assert_eq!(other.ads(&query).await.unwrap().ads.len(), 1);
    // another projection is another question
    let more = Query::all(AdKind::Schedd, &["Name", "Machine"]);
    assert!(other.ads(&more).await.is_err());
}

#[test]
fn a_credd_belongs_by_name_then_by_host() {
    let credd = |name: &str, machine: &str| {
        let sinful = "<127.0.0.1:1>".parse().unwrap();
        CreddAddress::new(name.to_owned(), Some(machine.to_owned()), sinful)
    };
    let schedd = |name: &str, machine: &str| Schedd {
        name: name.to_owned(),
        machine: machine.to_owned(),
        version: None,
        credd: None,
    };
    let credds = [credd("a", "host-b"), credd("b", "host-a")];
    assert_eq!(belonging(&schedd("A", "host-a"), &credds), Some(&credds[0]));
    assert_eq!(belonging(&schedd("c", "HOST-A"), &credds), Some(&credds[1]));
    assert_eq!(belonging(&schedd("c", "host-c"), &credds), None);
}
