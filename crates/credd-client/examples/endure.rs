//! Does everything a long-lived program does with this crate, for so many seconds, and looks at its own memory and file
//! descriptors: neither may grow. `cargo xtask soak` runs it inside the test bed.
//!
//! endure CREDD COLLECTOR KEYTAB PRINCIPAL USER SECONDS

#![expect(clippy::print_stdout, reason = "a measurement is for people")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use credd_client::{Credd, CreddAddress, Identity, Keep, Kind, Options, Pool};
use credential::{Principal, SecretBytes};
use kerberos::{Gss, Keytab};

type Failed = Box<dyn Error + Send + Sync>;

/// Of no service.
const SERVICE: &str = "endure";

/// So much may come and go: allocators keep what they were given.
const SLACK: u64 = 4 * 1024;

fn main() -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run())
}

/// KiB of memory, and open files.
fn held() -> Result<(u64, usize), Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok((kib, std::fs::read_dir("/proc/self/fd")?.count()))
}

async fn run() -> Result<(), Failed> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [credd, collector, keytab, principal, user, seconds] = words.as_slice() else {
        return Err("usage: endure CREDD COLLECTOR KEYTAB PRINCIPAL USER SECONDS".into());
    };
    let address = CreddAddress::from_entry(credd)?;
    let principal: Principal = principal.parse()?;
    let gss = Gss::new(2);
    let keytab = Keytab::open(keytab.as_ref(), &principal)?;
    let pool = Pool::new(
        std::slice::from_ref(collector),
        Keep::default(),
        Options::default(),
    );
    let json = SecretBytes::new(b"{\"vault_url\": \"https://vault.mtk.test:8200/v1/x\"}\n".to_vec());
    // nobody listens there
    let nowhere = CreddAddress::from_entry("<127.0.0.1:1?alias=nowhere.mtk.test>")?;
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (mut turns, mut first, mut most) = (0_u64, (0, 0), (0, 0));
    while turns < 60 || Instant::now() < end {
        // a ticket, a session and a pool's answer a turn: all that is kept must go with them
        let ticket = gss.acquire(&keytab).await?;
        let identity = Identity::kerberos(ticket, gss.clone(), user.as_str());
        let credd = Credd::new(address.clone(), identity.clone(), Options::default());
        pool.schedds(None).await?;
        if pool.schedds(Some("Name ==")).await.is_ok() {
            return Err("the collector took a constraint that is none".into());
        }
        match credd.store(user, SERVICE, Some(&turns.to_string()), &json).await {
            // a credmon throws away what Vault does not know, at times before we have looked
            Err(error) if !matches!(error.kind, Kind::NotVerified { .. }) => return Err(error.into()),
            _ => {}
        }
        credd.list(user).await?;
        credd.delete(user, SERVICE, Some(&turns.to_string())).await?;
        let dead = Credd::new(nowhere.clone(), identity, Options::default());
        if dead.list(user).await.is_ok() {
            return Err("somebody listens where nobody does".into());
        }
        // given up in the middle
        let given_up = tokio::time::timeout(Duration::from_millis(turns % 10), credd.list(user)).await;
        drop(given_up);
        turns += 1;
        // what has to be there once is there
        if turns == 30 {
            first = held()?;
        }
        if turns >= 30 {
            let (kib, files) = held()?;
            most = (most.0.max(kib), most.1.max(files));
        }
    }
    println!(
        "{turns} turns: {} KiB and {} open files after 30, at most {} KiB and {} later",
        first.0, first.1, most.0, most.1
    );
    if most.0 > first.0 + first.0 / 10 + SLACK {
        return Err("memory grows".into());
    }
    // one connection given up may still be closing
    if most.1 > first.1 + 2 {
        return Err("open files grow".into());
    }
    Ok(())
}
