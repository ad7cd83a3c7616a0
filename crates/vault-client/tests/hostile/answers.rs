//! Bodies and heads that no Vault sends.

use std::{
    io::Write,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use vault_client::Error;

use crate::server::{Hostile, ODD, TOKEN, all, errors, run, token};

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
