//! How a run is told to end early, and how long it may take to do so.

use std::time::Duration;

use tokio::sync::watch;

/// How long steps under way may still take once a stop was asked for.
pub const GRACE: Duration = Duration::from_secs(3);

/// The side that asks.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// The side that obeys.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A pair of both.
#[must_use]
pub fn pair() -> (Stopper, Stop) {
    let (tx, rx) = watch::channel(false);
    (Stopper(tx), Stop(rx))
}

impl Stopper {
    /// Asks for the end: no new step begins, and after [`GRACE`] those under way are abandoned.
    pub fn stop(&self) {
        let _ = self.0.send(true);
    }
}

impl Stop {
    /// Whether the end was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the end was asked for; never if the asking side is gone.
    pub async fn wait(&self) {
        let mut rx = self.0.clone();
        if rx.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
