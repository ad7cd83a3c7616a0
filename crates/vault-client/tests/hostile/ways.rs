//! The way there: redirects, certificates, versions, clocks and queues.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use vault_client::{Client, Error, Quota, SecretPath, SshProof};

use crate::server::{Hostile, Script, TOKEN, Tls, all, run, say, token};

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
