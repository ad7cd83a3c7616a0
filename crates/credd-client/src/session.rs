//! A session kept for the next command, as long as the server can be expected to know it.

use cedar::security::Session;
use tokio::time::Instant;

/// At most one session, of one identity with one daemon.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<Remembered>);

#[derive(Debug)]
struct Remembered {
    session: Session,
    begun: Instant,
    used: Instant,
}

impl Kept {
    /// The session, unless its time is over at `now`.
    pub(crate) fn usable(&self, now: Instant) -> Option<Session> {
        let kept = self.0.as_ref()?;
        let (age, idle) = (now - kept.begun, now - kept.used);
        kept.session.lives(age, idle).then(|| kept.session.clone())
    }

    /// Keeps the session of a handshake that began at `begun`, in the place of any other.
    pub(crate) fn keep(&mut self, session: Option<Session>, begun: Instant) {
        self.0 = session.map(|session| Remembered {
            session,
            begun,
            used: begun,
        });
    }

    /// A conversation that began at `now` has resumed it.
    pub(crate) fn resumed(&mut self, now: Instant) {
        if let Some(kept) = &mut self.0 {
            kept.used = kept.used.max(now);
        }
    }

    /// The server has forgotten it.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}
