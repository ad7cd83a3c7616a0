//! Waiting for what servers do in their own time, and for futures.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Longer than anything of the bed takes where many things are done at once.
const LONG: Duration = Duration::from_secs(90);

/// Comes back as soon as it is `there`.
///
/// # Panics
/// With the words of `otherwise` if it never is.
pub fn wait_until(mut there: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let until = Instant::now() + LONG;
    while !there() {
        if Instant::now() > until {
            panic!("{}", otherwise());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Two threads, as many as the machines of the tests have.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

pub fn block<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}
