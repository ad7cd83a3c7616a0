//! Servers that mean ill, over both transports: typed errors, by their deadline, with bounded memory.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use distribute::{Error, Limits, Mode, Node, Stage};

use crate::sshd::{Folder, both, node};
use crate::waiting::runtime;

/// What one of them does with a connection.
type Script = fn(TcpStream);

/// Plays `script` to everybody, on a port of its own, and says what came of a session over each transport.
fn against(script: Script) -> Vec<Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the tests' process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || script(stream));
        }
    });
    let folder = Folder::new("hostile");
    let key = folder.key("user", "ed25519");
    let known = folder.write("known_hosts", &format!("* {}\n", folder.read("user.pub")));
    let limits = Limits {
        connect: Duration::from_secs(2),
        auth: Duration::from_secs(2),
        per_file: Duration::from_secs(2),
        total: Duration::from_secs(6),
    };
    let runtime = runtime();
    both(key)
        .into_iter()
        .map(|login| {
            let node = Node {
                port,
                ..node("127.0.0.1", &known, login)
            };
            let gate = distribute::Gate::default();
            let began = Instant::now();
            let memory = resident();
            let placed = runtime.block_on(distribute::place(&gate, &node, &[], Mode::Verify, &limits));
            assert!(
                began.elapsed() < limits.total,
                "{:?} took {:?}",
                node.login,
                began.elapsed()
            );
            let grown = resident().saturating_sub(memory);
            assert!(grown < 64 * 1024, "{:?}: {grown} KiB more", node.login);
            placed.unwrap_err()
        })
        .collect()
}

/// KiB of memory in use.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn stay(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(8)));
    let mut sink = [0; 4096];
    while matches!(stream.read(&mut sink), Ok(n) if n > 0) {}
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.9\r\n";

/// A packet without encryption: its length, padding and content.
fn packet(length: u32, content: &[u8]) -> Vec<u8> {
    let mut packet = length.to_be_bytes().to_vec();
    packet.push(4);
    packet.extend_from_slice(content);
    packet
}

#[test]
fn garbage_for_a_banner() {
    for error in against(|mut stream| {
        say(&mut stream, &[0xff; 20_000]);
        stay(stream);
    }) {
        assert!(matches!(error, Error::NotSsh { .. }), "{error:?}");
    }
}

#[test]
fn lines_before_a_banner_without_end() {
    for error in against(
        |mut stream| {
            while stream.write_all(b"welcome, welcome\r\n").is_ok() {}
        },
    ) {
        assert!(matches!(error, Error::NotSsh { .. }), "{error:?}");
    }
}

#[test]
fn a_banner_line_without_end() {
    for error in against(|mut stream| {
        say(&mut stream, b"SSH-2.0-");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    }) {
        assert_eq!(error.stage(), Stage::KeyExchange, "{error:?}");
    }
}

#[test]
fn silence_after_the_banner() {
    for error in against(|mut stream| {
        say(&mut stream, BANNER);
        stay(stream);
    }) {
        let stage = Stage::KeyExchange;
        assert!(
            matches!(&error, Error::TimedOut { stage: at, .. } if *at == stage),
            "{error:?}"
        );
    }
}

#[test]
fn packets_that_lie_about_their_length() {
    for script in [
        (|mut stream| {
            say(&mut stream, BANNER);
            say(&mut stream, &packet(u32::MAX, &[20; 64]));
            stay(stream);
        }) as Script,
        |mut stream| {
            say(&mut stream, BANNER);
            say(&mut stream, &packet(0, &[]));
            stay(stream);
        },
        |mut stream| {
            say(&mut stream, BANNER);
            // a key exchange whose lists are longer than the packet
            let mut content = vec![20; 17];
            content.extend_from_slice(&[0x7f; 7]);
            say(&mut stream, &packet(28, &content));
            stay(stream);
        },
    ] {
        for error in against(script) {
            assert_eq!(error.stage(), Stage::KeyExchange, "{error:?}");
        }
    }
}

#[test]
fn messages_that_mean_nothing_without_end() {
    for error in against(|mut stream| {
        say(&mut stream, BANNER);
        // SSH_MSG_IGNORE with an empty string
        let ignore = packet(12, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        while stream.write_all(&ignore).is_ok() {}
    }) {
        assert_eq!(error.stage(), Stage::KeyExchange, "{error:?}");
    }
}
