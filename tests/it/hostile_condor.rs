//! HTCondor daemons that mean ill: whatever they do, our client ends in an error of its own, in bounded memory and
//! before its deadline.

mod credd;
mod relayed;
mod witness;

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use credd_client::{Error, Kind, Options, Schedd};
use testkit::hostile::{
    Peer, Session,
    credd_scripts::CREDD_SCRIPTS,
    scripts::{self, SCRIPTS, Script},
};

use crate::waiting::block;

/// A stage's time for peers that want it all.
const SHORT: Duration = Duration::from_millis(400);

/// Time for peers that keep us busy until a bound is reached: debug builds, on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

/// What one conversation may add to our memory: an answer's bound of 64 MiB, each byte of it at most three where it
/// is no UTF-8, and what is being read meanwhile.
const BOUND: u64 = 256 * 1024 * 1024;

fn options(step: Duration) -> Options {
    Options {
        connect: LONG,
        step,
        total: LONG.max(step),
        ..Options::default()
    }
}

fn ask(collector: SocketAddr, options: &Options) -> Result<Vec<Schedd>, Error> {
    block(credd_client::schedds(&[collector.to_string()], None, options))
}

fn playing(script: fn(&mut Session) -> std::io::Result<()>, cut: Option<usize>) -> Peer {
    Peer::start(Ipv4Addr::LOCALHOST, move |_, stream| {
        script(&mut Session::new(stream, cut)?)
    })
    .unwrap()
}

fn all_scripts() -> impl Iterator<Item = &'static Script> {
    SCRIPTS.iter().chain(&CREDD_SCRIPTS)
}

/// The error of a script, and nothing but that error.
fn judge(script: &Script, outcome: &Result<Vec<Schedd>, Error>) {
    let name = script.name;
    match outcome {
        Ok(schedds) => assert!(
            script.ends.is_empty() && schedds.is_empty(),
            "{name}: taken for an answer: {schedds:?}"
        ),
        Err(error) => {
            let text = format!("{:?}", error.kind);
            assert!(!script.ends.is_empty(), "{name}: {text}");
            assert!(text.contains(script.ends), "{name}: {text}");
        }
    }
}

#[test]
fn honest_peers_are_understood() {
    for script in [scripts::honest, scripts::honest_plain] {
        let peer = playing(script, None);
        let schedds = ask(peer.address(), &options(LONG)).unwrap();
        assert_eq!(schedds.len(), 1, "{schedds:?}");
        assert_eq!(schedds[0].name, "ap1.example.org");
        assert!(schedds[0].credd.is_some());
    }
}

#[test]
fn every_script_ends_in_its_error_in_bounded_memory_and_in_time() {
    for script in all_scripts() {
        let peer = playing(script.play, None);
        let began = Instant::now();
        let (outcome, grown) = in_a_process_of_its_own(script, peer.address());
        let took = began.elapsed();
        println!(
            "{:>8.2} s {:>6} KiB  {}: {outcome}",
            took.as_secs_f64(),
            grown / 1024,
            script.name
        );
        assert!(grown < BOUND, "{}: {grown} bytes", script.name);
        if script.by_clock {
            assert!(
                took < SHORT + Duration::from_secs(10),
                "{}: {took:?}",
                script.name
            );
        } else {
            assert!(took < LONG, "{}: {took:?}", script.name);
        }
    }
}

/// So that the memory measured is the client's alone: the peer stays here.
fn in_a_process_of_its_own(script: &Script, peer: SocketAddr) -> (String, u64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "hostile_condor::the_client_of_one_script",
            "--ignored",
            "--nocapture",
        ])
        .env("MTK_HOSTILE", format!("{peer} {}", script.name))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}: {said}{}",
        script.name,
        String::from_utf8_lossy(&output.stderr)
    );
    let line = said.lines().find_map(|line| line.split_once("GROWN ")).unwrap().1;
    let (grown, outcome) = line.split_once(' ').unwrap();
    (outcome.to_owned(), grown.parse().unwrap())
}

/// The most memory this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
#[ignore = "run by every_script_ends_in_its_error_in_bounded_memory_and_in_time"]
fn the_client_of_one_script() {
    let wanted = std::env::var("MTK_HOSTILE").unwrap();
    let (peer, name) = wanted.split_once(' ').unwrap();
    let script = all_scripts().find(|script| script.name == name).unwrap();
    let options = options(if script.by_clock { SHORT } else { LONG });
    let (before, peer) = (peak(), peer.parse().unwrap());
    let outcome = if name.starts_with("credd: ") {
        let held = block(credd::client(peer, &options).query("dunepro", "dune", None));
        held.map(|held| panic!("{name}: taken for an answer: {held:?}"))
    } else {
        ask(peer, &options)
    };
    let grown = peak() - before;
    judge(script, &outcome);
    let outcome = outcome.map_or_else(|error| error.kind.to_string(), |_| "no schedd".to_owned());
    println!("GROWN {grown} {}", outcome.replace('\n', " "));
}

/// Cut after every byte of ours, a conversation ends in an error that knows it was cut.
#[test]
fn cut_after_every_byte() {
    for script in [scripts::honest, scripts::honest_plain] {
        let cut = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let at = cut.clone();
        let peer = Peer::start(Ipv4Addr::LOCALHOST, move |_, stream| {
            let cut = at.load(std::sync::atomic::Ordering::SeqCst);
            script(&mut Session::new(stream, Some(cut))?)
        })
        .unwrap();
        let options = options(Duration::from_secs(10));
        let mut whole = None;
        for n in 0..4096 {
            cut.store(n, std::sync::atomic::Ordering::SeqCst);
            match ask(peer.address(), &options) {
                Ok(schedds) => {
                    assert_eq!(schedds.len(), 1);
                    whole = Some(n);
                    break;
                }
                Err(error) => assert!(
                    matches!(
                        error.kind,
                        Kind::Closed | Kind::Broken(_) | Kind::Cedar(cedar::Error::NoPolicy)
                    ),
                    "cut after {n}: {:?}",
                    error.kind
                ),
            }
        }
        assert!(whole.unwrap() > 300);
    }
}
