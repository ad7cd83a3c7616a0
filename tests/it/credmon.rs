//! The credmons, which make access tokens of what credds are given. Signals close together make one deaf: from then on it
//! looks once a minute by itself, and whoever waits for it waits in vain (docs/observed-behaviour.md). Here one that
//! is deaf is ended, and another is started.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{
    bed::{pool, process},
    site::SECOND_POOL,
};

use crate::{
    bed::{Stopped, bed},
    waiting::wait_until,
};

/// How long one that hears takes to look through all it has, on a loaded machine.
const ONE_LOOK: Duration = Duration::from_secs(8);

/// Brings the credmon of a credd, by its server, to look at what is there now; it hears signals afterwards.
pub fn hearing(server: &str) {
    for _ in 0..4 {
        let (pid, before) = (pid(server), looks(server));
        if let Some(pid) = pid {
            let _gone = kill_process(as_pid(pid), Signal::HUP);
            let until = Instant::now() + ONE_LOOK;
            while Instant::now() < until {
                if looks(server) > before {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            end(server, pid);
        }
        wait_until(
            || self::pid(server) != pid && looks(server) > before,
            || format!("the credmon of {server} does not come back"),
        );
    }
    panic!("the credmon of {server} hears no signal, however often it is started");
}

/// Ends the credmon of a credd, so that there will be another.
fn end(server: &str, pid: u32) {
    if server == SECOND_POOL.server {
        // the condor_master of 25.14.1 starts a credmon again once, and crashes if that ends too
        drop(Stopped::server(SECOND_POOL.server));
        return;
    }
    for process in process::tree(pid) {
        let _gone = kill_process(as_pid(process), Signal::KILL);
    }
}

/// The access token made of a stored credential.
pub fn used(server: &str, account: &str, name: &str) -> String {
    let path = bed().oauth_file(server, account, &format!("{name}.use"));
    for _ in 0..3 {
        let until = Instant::now() + ONE_LOOK;
        while Instant::now() < until {
            if let Ok(token) = std::fs::read_to_string(&path) {
                return token;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        hearing(server);
    }
    panic!("the credmon of {server} made no {}", path.display());
}

fn pid(server: &str) -> Option<u32> {
    let text = std::fs::read_to_string(bed().oauth_file(server, "", "pid")).ok()?;
    text.trim().parse().ok()
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

/// How often it has looked through all it has. The process of 25.14.1 that looks writes to the log of tools.
fn looks(server: &str) -> usize {
    let logs = pool::logs(bed().layout(), server);
    let looks = |name| {
        let text = std::fs::read(logs.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&text).matches("Sleeping for").count()
    };
    ["CredmonOauthLog", "ToolLog"].map(looks).iter().sum()
}
