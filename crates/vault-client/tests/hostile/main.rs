//! A server with a good certificate and bad intentions: whatever it answers is a typed error, soon, in little memory,
//! and without a secret in it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod hashicorp;
mod nodes;
mod oidc;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use credential::{Lifetime, LongToken};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use vault_client::{Client, Error, Options, Quota, SecretPath, SshProof};

const TOKEN: &str = "s.ThisIsTheVaultTokenOfOurs";
const ODD: &str = "eyJvbmUgdGhhdCBub2JvZHkgbWF5IHNlZSBhdCBhbGw";

type Tls = StreamOwned<ServerConnection, TcpStream>;
type Script = dyn Fn(&mut Tls, &str) -> std::io::Result<()> + Send + Sync;

/// A server that reads the head of each request and then does as it is told.
struct Hostile {
    port: u16,
    ca: String,
    tls: Arc<ServerConfig>,
    requests: Arc<AtomicUsize>,
}

impl Hostile {
    fn new(script: impl Fn(&mut Tls) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        Self::reading(move |stream, _| script(stream))
    }

    /// One that does by the head of the request.
    fn reading(script: impl Fn(&mut Tls, &str) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let hostile = Self::with(rustls::ALL_VERSIONS, |_| {});
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        hostile.listen_on(listener, Arc::new(script))
    }

    /// Nobody listens yet.
    fn with(
        versions: &[&'static rustls::SupportedProtocolVersion],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)
                .unwrap();
        Self {
            port: 0,
            ca: ca.pem(),
            tls: Arc::new(tls),
            requests: Arc::default(),
        }
    }

    fn listen_on(mut self, listener: TcpListener, script: Arc<Script>) -> Self {
        self.port = listener.local_addr().unwrap().port();
        self.listen(listener, script);
        self
    }

    fn listen(&self, listener: TcpListener, script: Arc<Script>) {
        let (tls, requests) = (Arc::clone(&self.tls), Arc::clone(&self.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, requests, script) = (Arc::clone(&tls), Arc::clone(&requests), Arc::clone(&script));
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
                    while let Some(head) = head(&mut stream) {
                        requests.fetch_add(1, Ordering::Relaxed);
                        if script(&mut stream, &head).is_err() {
                            break;
                        }
                    }
                });
            }
        });
    }

    /// One answer, again and again.
    fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |stream| {
            stream.write_all(&answer)?;
            stream.flush()
        })
    }

    /// Status 200 and this JSON.
    fn json(body: &str) -> Self {
        Self::saying(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn client(&self) -> Client {
        Client::new(self.options()).unwrap()
    }

    fn options(&self) -> Options {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &self.ca).unwrap();
        let trust = tls::Trust {
            system: false,
            ca_file: Some(file),
            ..tls::Trust::default()
        };
        let mut options = Options::new(
            format!("localhost:{}", self.port).parse().unwrap(),
            tls::client_config(&trust).unwrap(),
        );
        options.read_timeout = Duration::from_secs(3);
        options.bearer_timeout = Duration::from_secs(3);
        options.election_patience = Duration::from_millis(200);
        options
    }
}

/// The head of one request, or `None` when the client has left.
fn head(stream: &mut Tls) -> Option<String> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        seen.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&seen).to_lowercase();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .map_or(0, |n| n.trim().parse::<usize>().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

/// Status 200 or another, and this JSON.
fn say(stream: &mut Tls, status: u16, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn token() -> LongToken {
    LongToken::new(TOKEN.to_owned()).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The error of every kind of request, none of which may show a secret or take long.
#[track_caller]
fn errors(hostile: &Hostile) -> Vec<Error> {
    let begun = Instant::now();
    let client = hostile.client();
    let path = SecretPath::new("dune", "dunepro", "production").unwrap();
    let now = Timestamp::now();
    let life = Lifetime::new(now, SignedDuration::from_hours(1));
    let robot = "dunepro@MTK.TEST".parse().unwrap();
    let errors = run(async {
        vec![
            client
                .login_kerberos("dune", "production", TOKEN.as_bytes(), &robot, now)
                .await
                .map(drop)
                .unwrap_err(),
            client
                .create_child(&token(), life, SignedDuration::from_mins(1), now)
                .await
                .map(drop)
                .unwrap_err(),
            client.bearer(&token(), &path, 60).await.map(drop).unwrap_err(),
            client.lookup_self(&token()).await.map(drop).unwrap_err(),
        ]
    });
    for error in &errors {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("ThisIsTheVaultToken"), "{shown}");
        assert!(!shown.contains(&ODD[..20]), "{shown}");
        assert!(shown.len() < 4000, "{} characters", shown.len());
        assert!(!error.to_string().contains(['\n', '\r', '\u{1b}']), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    errors
}

#[track_caller]
fn all(hostile: &Hostile, kind: impl Fn(&Error) -> bool) {
    for error in errors(hostile) {
        assert!(kind(&error), "{error:?}");
    }
}

#[test]
fn a_body_that_ends_too_soon() {
    let cut = Hostile::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"auth\":")?;
        stream.flush()?;
        Err(std::io::ErrorKind::BrokenPipe.into())
    });
    all(&cut, |e| matches!(e, Error::Interrupted { .. }) && e.retryable());
}

#[test]
fn a_body_without_an_end() {
    let sent = Arc::new(Mutex::new(0_usize));
    let count = Arc::clone(&sent);
    let endless = Hostile::new(move |stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
        loop {
            stream.write_all(&chunk)?;
            *count.lock().unwrap() += 0x4000;
        }
    });
    all(
        &endless,
        |e| matches!(e, Error::BadAnswer { what, .. } if what.contains("bytes")),
    );
    // a megabyte each, and what lies in the buffers of two kernels
    let sent = *sent.lock().unwrap();
    assert!(sent < 4 * 12 * 1024 * 1024, "{sent} bytes were taken");
}

#[test]
fn a_body_that_is_announced_as_too_long() {
    let huge = Hostile::saying("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{");
    all(&huge, |e| matches!(e, Error::BadAnswer { .. }));
}

#[test]
fn headers_without_an_end() {
    let many = Hostile::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        for n in 0..100_000 {
            write!(stream, "X-{n}: y\r\n")?;
        }
        stream.write_all(b"Content-Length: 2\r\n\r\n{}")?;
        stream.flush()
    });
    all(&many, |e| matches!(e, Error::Interrupted { .. }));
    let long = Hostile::new(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
        loop {
            stream.write_all(&[b'y'; 4096])?;
        }
    });
    all(&long, |e| matches!(e, Error::Interrupted { .. }));
}

#[test]
fn no_answer_at_all() {
    let silent = Hostile::new(|_| {
        std::thread::sleep(Duration::from_secs(15));
        Ok(())
    });
    let client = silent.client();
    let error = run(client.lookup_self(&token())).map(drop).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let garbage = Hostile::saying([0, 159, 146, 150].repeat(64));
    all(&garbage, |e| matches!(e, Error::Interrupted { .. }));
}

#[test]
fn json_that_is_deep_or_odd() {
    let deep = format!("{{\"auth\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", "{\"data\":".repeat(10_000), "}".repeat(10_000));
    for body in [
        deep.as_str(),
        objects.as_str(),
        "",
        "null",
        "[]",
        "7",
        "<html>",
        "{\"auth\":7,\"data\":7}",
        "{\"auth\":{\"client_token\":{}},\"data\":{\"access_token\":[],\"ttl\":\"x\"}}",
        "{\"auth\":{},\"data\":{}}",
        "{\"auth\":null,\"data\":null}",
        "{\"auth\":{\"client_token\":\"s.x\",\"lease_duration\":1e99},\"data\":{\"ttl\":1e99}}",
        "{\"auth\":{\"client_token\":\"s.x\",\"lease_duration\":-1}}",
    ] {
        let odd = Hostile::json(body);
        all(&odd, |e| {
            matches!(e, Error::BadAnswer { .. } | Error::WrongIdentity { .. }) && !e.retryable()
        });
    }
}

#[test]
fn a_token_that_would_split_a_header() {
    let body = format!(
        "{{\"auth\":{{\"client_token\":\"{ODD}\\r\\nX-Evil: 1\",\"lease_duration\":60,\
         \"metadata\":{{\"user\":\"dunepro\",\"domain\":\"MTK.TEST\"}}}},\
         \"data\":{{\"access_token\":\"{ODD}\\n\"}}}}"
    );
    all(&Hostile::json(&body), |e| matches!(e, Error::BadAnswer { .. }));
}

#[test]
fn refusals_that_repeat_our_secrets() {
    let body = format!(
        "{{\"errors\":[\"no such token {TOKEN}\\u001b[2J {ODD} {}\"]}}",
        "x".repeat(100_000)
    );
    for status in [400, 403, 404, 418, 500, 502, 503] {
        let loud = Hostile::saying(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        errors(&loud);
    }
}

#[test]
fn storms_of_server_errors_are_passing_trouble() {
    for status in [500, 502, 503, 504] {
        let storm = Hostile::saying(format!(
            "HTTP/1.1 {status} Bad\r\nContent-Length: 9\r\n\r\n<html>bad"
        ));
        for _ in 0..5 {
            all(&storm, |e| {
                matches!(e, Error::ServerFailed { status: s, .. } if *s == status) && e.retryable()
            });
        }
        // none is asked again behind the caller's back
        assert_eq!(storm.requests.load(Ordering::Relaxed), 20);
    }
}

#[test]
fn nobody_sends_us_elsewhere() {
    let seen = Hostile::json("{}");
    let places = [
        format!("http://localhost:{}/v1/x", seen.port),
        format!("https://localhost:{}/v1/auth/token/lookup-self", seen.port),
        "https://example.invalid:8200/".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ];
    for place in places {
        for status in [301, 302, 303, 307, 308] {
            let away = Hostile::saying(format!(
                "HTTP/1.1 {status} Away\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
            ));
            let error = run(away.client().lookup_self(&token())).map(drop).unwrap_err();
            match status {
                307 => assert!(matches!(error, Error::NoActiveNode { .. }), "{error:?}"),
                _ => assert!(matches!(error, Error::Rejected { .. }), "{error:?}"),
            }
        }
    }
    assert_eq!(seen.requests.load(Ordering::Relaxed), 0);
}

#[test]
fn a_redirect_to_a_host_with_another_certificate_gets_no_token() {
    let port = Arc::new(OnceLock::new());
    let script: Arc<Script> = {
        let port = Arc::clone(&port);
        Arc::new(move |stream: &mut Tls, _: &str| {
            write!(
                stream,
                "HTTP/1.1 307 Away\r\nLocation: https://127.0.0.2:{}/v1/auth/token/lookup-self\r\n\
                 Content-Length: 0\r\n\r\n",
                port.get().unwrap()
            )?;
            stream.flush()
        })
    };
    let away = {
        let script = Arc::clone(&script);
        Hostile::reading(move |stream, head| script(stream, head))
    };
    port.set(away.port).unwrap();
    // the same port on another address, with a certificate for localhost only
    away.listen(TcpListener::bind(("127.0.0.2", away.port)).unwrap(), script);
    let error = run(away.client().lookup_self(&token())).map(drop).unwrap_err();
    assert!(matches!(error, Error::NoActiveNode { .. }), "{error:?}");
    // the first host alone
    assert_eq!(away.requests.load(Ordering::Relaxed), 1);
}

#[test]
fn a_certificate_of_tomorrow_is_a_clock_off_by_hours() {
    let hours = |hours: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(hours);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.as_second()).unwrap())
    };
    for (from, until) in [(3, 30), (-30, -3)] {
        let away = Hostile::with(rustls::ALL_VERSIONS, |leaf| {
            (leaf.not_before, leaf.not_after) = (hours(from), hours(until));
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let away = away.listen_on(
            listener,
            Arc::new(|stream: &mut Tls, _: &str| say(stream, 200, "{}")),
        );
        all(&away, |e| matches!(e, Error::Certificate { .. }));
        assert_eq!(away.requests.load(Ordering::Relaxed), 0);
    }
}

/// Whatever the server's clock says, what counts is ours.
#[test]
fn a_server_whose_clock_is_off_by_hours_changes_no_life() {
    let now = Timestamp::now();
    let off = now.as_second() - 5 * 3600;
    let body = format!(
        "{{\"initialized\":true,\"sealed\":false,\"server_time_utc\":{off},\"data\":{{\"ttl\":-7,\"access_token\":\"x\",\
         \"expire_time\":\"{}\"}},\"auth\":{{\"client_token\":\"s.x\",\"lease_duration\":3600,\"metadata\":\
         {{\"user\":\"dunepro\",\"domain\":\"MTK.TEST\"}}}}}}",
        Timestamp::from_second(off).unwrap()
    );
    let server = Hostile::json(&body);
    let client = server.client();
    let robot = "dunepro@MTK.TEST".parse().unwrap();
    let path = SecretPath::new("dune", "dunepro", "production").unwrap();
    run(async {
        let login = client
            .login_kerberos("dune", "production", b"x", &robot, now)
            .await
            .unwrap();
        assert_eq!(login.lifetime.until(), now + SignedDuration::from_hours(1));
        let bearer = client.bearer(&login.token, &path, 60).await.unwrap();
        assert_eq!(bearer.expires, Some(Timestamp::from_second(off).unwrap()));
        assert_eq!(
            client.lookup_self(&login.token).await.unwrap().ttl,
            SignedDuration::from_secs(-7)
        );
        assert_eq!(
            client.health().await.unwrap().clock,
            Some(Timestamp::from_second(off).unwrap())
        );
    });
}

#[test]
fn both_versions_of_tls_are_spoken_and_nothing_older() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Hostile::with(&[version], |_| {});
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = server.listen_on(
            listener,
            Arc::new(|stream: &mut Tls, _: &str| say(stream, 200, "{\"data\":{\"ttl\":60}}")),
        );
        let client = server.client();
        run(client.lookup_self(&token())).unwrap();
    }
    // a server that knows TLS 1.1 at most answers a ClientHello with an alert: protocol_version
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut old = Hostile::with(rustls::ALL_VERSIONS, |_| {});
    old.port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = [0; 1024];
            let _read = stream.read(&mut hello);
            let _sent = stream.write_all(&[21, 3, 2, 0, 2, 2, 70]);
        }
    });
    let error = run(old.client().lookup_self(&token())).map(drop).unwrap_err();
    assert!(!error.to_string().contains(TOKEN), "{error}");
    assert!(
        matches!(
            error,
            Error::Unreachable { .. } | Error::Interrupted { .. } | Error::Certificate { .. }
        ),
        "{error:?}"
    );
}

#[test]
fn a_nonce_does_not_age_in_our_own_queue() {
    let server = Hostile::reading(|stream, head| {
        let body = if head.contains("/nonce") {
            r#"{"data":{"nonce":"N"}}"#
        } else {
            r#"{"auth":{"client_token":"s.x","accessor":"a","lease_duration":60}}"#
        };
        say(stream, 200, body)
    });
    let mut options = server.options();
    // the nonce and its login, and nothing for hours
    options.quota = Quota {
        requests: 2,
        window: Duration::from_secs(36_000),
        share: 100,
        patience: Duration::from_millis(50),
        ..Quota::default()
    };
    let client = Client::new(options).unwrap();
    run(async {
        let nonce = client.ssh_nonce("dune", "production").await.unwrap();
        // somebody else of ours comes while the agent signs
        let other = client.lookup_self(&token()).await.map(drop);
        assert!(matches!(other, Err(Error::RateLimited { .. })), "{other:?}");
        let proof = SshProof {
            issuer: "dune",
            role: "production",
            credkey: "alice",
            public_key: "ssh-ed25519 AAAA",
            signature: b"x",
        };
        client.login_ssh(nonce, &proof, Timestamp::now()).await.unwrap();
    });
    assert_eq!(client.requests(), 2);
}
