//! Tickets over the lanes.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fmt,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use credential::Principal;
use libgssapi::credential::Cred;

use crate::{
    Error, Keytab,
    keytab::Held,
    lanes::Lane,
    status::{Call, decode},
    sys,
};

/// Every MEMORY ccache of the process has its own number.
static CCACHE: AtomicU64 = AtomicU64::new(0);

/// Handle to the threads GSSAPI blocks on. Clones share them.
#[derive(Clone)]
pub struct Gss(Arc<Lanes>);

struct Lanes {
    threads: usize,
    by_realm: Mutex<HashMap<String, Arc<Lane>>>,
}

impl fmt::Debug for Gss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gss")
            .field("threads", &self.0.threads)
            .finish_non_exhaustive()
    }
}

/// Whom a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A service principal, taken as it is: no name is resolved or canonicalised. `host/name@` leaves the realm to
    /// the library's mapping and to the KDC's referrals.
    Principal(String),
    /// GSSAPI's host-based form, `service@host`: the library may canonicalise the host through DNS.
    HostBased {
        /// For instance `host`.
        service: String,
        /// The host's name.
        host: String,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(name) => f.write_str(name),
            Self::HostBased { service, host } => write!(f, "{service}@{host}"),
        }
    }
}

/// How tokens are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mech {
    /// Plain Kerberos (RFC 4121).
    Krb5,
    /// Kerberos inside SPNEGO (RFC 4178).
    Spnego,
}

/// A principal's ticket. One made from a keytab has its keys in a MEMORY ccache of its own: clones share it, the last one
/// wipes it. One that was there already ([`Gss::held`]) stays where it is.
#[derive(Clone)]
pub struct Ticket(pub(crate) Arc<TicketInner>);

pub(crate) struct TicketInner {
    // dropped first: it has the ccache open
    pub(crate) cred: Option<Cred>,
    /// Ours alone; a person's own ccache is none of our business when we are done.
    ccache: Option<CString>,
    principal: Principal,
    remaining: Duration,
    // the library comes back to the keytab by its descriptor when a ticket nears its end: it must stay this file
    _keytab: Option<Arc<Held>>,
    /// Where the key or the ticket is from, for messages.
    pub(crate) keytab_path: PathBuf,
    pub(crate) kvno: u32,
    pub(crate) lane: Arc<Lane>,
}

impl Drop for TicketInner {
    fn drop(&mut self) {
        drop(self.cred.take());
        if let Some(ccache) = &self.ccache {
            sys::destroy_ccache(ccache);
        }
    }
}

/// Destroys the ccache of a ticket that did not come to be.
struct Unfinished<'a>(Option<&'a CStr>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.0 {
            sys::destroy_ccache(name);
        }
    }
}

impl Ticket {
    /// Whose it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// How long it was good for when it was acquired.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.remaining
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ticket({}, good for {} s)",
            self.0.principal,
            self.0.remaining.as_secs()
        )
    }
}

impl Gss {
    /// Up to `threads` calls at once per realm (at least one). Threads start when they are needed.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(Lanes {
            threads: threads.max(1),
            by_realm: Mutex::default(),
        }))
    }

    pub(crate) fn lane(&self, realm: &str) -> Arc<Lane> {
        let mut lanes = self.0.by_realm.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            lanes
                .entry(realm.to_owned())
                .or_insert_with(|| Lane::new(realm, self.0.threads)),
        )
    }

    /// Asks the KDC for a ticket with the keytab's key.
    ///
    /// # Errors
    /// What the KDC or the library said, see [`Error`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the wait; the call ends by itself (a silent KDC: some 30 s), and its ticket,
    /// if there is one, is wiped.
    pub async fn acquire(&self, keytab: &Keytab) -> Result<Ticket, Error> {
        let (principal, held, path) = (
            keytab.principal().clone(),
            keytab.held(),
            keytab.path().to_owned(),
        );
        let kvno = keytab.kvno();
        let lane = self.lane(principal.realm());
        let of_ticket = Arc::clone(&lane);
        lane.run(move || {
            let text = principal.to_string();
            let call = Call {
                doing: "getting a ticket",
                principal: &text,
                realm: principal.realm(),
                keytab: &path,
                kvno,
                target: "",
                peer: false,
            };
            // the judged descriptor, not the path: the file cannot be exchanged in between
            let source = cstring(format!("FILE:/proc/self/fd/{}", held.file().as_raw_fd()), &text)?;
            let ccache = cstring(
                format!("MEMORY:mtk-{}", CCACHE.fetch_add(1, Ordering::Relaxed)),
                &text,
            )?;
            let mut unfinished = Unfinished(Some(&ccache));
            let cred = sys::acquire(&text, &source, &ccache).map_err(|e| decode(&e, call))?;
            // the library may put the KDC off until a credential is first used: this is a first use
            let remaining = cred.lifetime().map_err(|e| decode(&e, call))?;
            unfinished.0 = None;
            drop(unfinished);
            Ok(Ticket(Arc::new(TicketInner {
                cred: Some(cred),
                ccache: Some(ccache),
                principal,
                remaining,
                _keytab: Some(held),
                keytab_path: path,
                kvno,
                lane: of_ticket,
            })))
        })
        .await
    }
}

impl Gss {
    /// The ticket a person has already: out of `ccache` (a name as in `KRB5CCNAME`, such as `FILE:/tmp/krb5cc_1000`) or,
    /// without one, where the environment and krb5.conf say; of `principal`, if a collection holds tickets of several.
    /// Nothing is written but the service tickets that the library adds to that ccache, as for every other program.
    ///
    /// # Errors
    /// [`Error::NoTicket`] if there is none, [`Error::TicketExpired`], or what the library said.
    ///
    /// # Cancel safety
    /// As for [`Gss::acquire`].
    pub async fn held(&self, ccache: Option<&str>, principal: Option<&Principal>) -> Result<Ticket, Error> {
        let wanted = principal.cloned();
        let place = ccache.map_or_else(|| "the default ccache".to_owned(), str::to_owned);
        let ccache = ccache.map(|name| cstring(name.to_owned(), name)).transpose()?;
        // whose it is, and so which realm, is known only afterwards; reading a ccache asks no KDC
        let lane = self.lane(principal.map_or("", Principal::realm));
        let gss = self.clone();
        lane.run(move || {
            let text = wanted
                .as_ref()
                .map_or_else(|| "its owner".to_owned(), Principal::to_string);
            let path = PathBuf::from(&place);
            let call = Call {
                doing: "reading a ccache",
                principal: &text,
                realm: wanted.as_ref().map_or("", Principal::realm),
                keytab: &path,
                kvno: 0,
                target: "",
                peer: false,
            };
            let none = |status| absent(decode(&status, call), &place);
            let cred = sys::held(wanted.as_ref().map(|_| text.as_str()), ccache.as_deref()).map_err(none)?;
            let remaining = cred.lifetime().map_err(none)?;
            if remaining.is_zero() {
                return Err(Error::TicketExpired {
                    principal: text,
                    text: "no time is left".to_owned(),
                });
            }
            let name = cred.name().map_err(none)?.to_string();
            let principal: Principal = name.parse().map_err(|_| Error::NoTicket {
                ccache: place.clone(),
                text: format!("it is of {name:?}, which is no principal we know how to name"),
            })?;
            let lane = gss.lane(principal.realm());
            Ok(Ticket(Arc::new(TicketInner {
                cred: Some(cred),
                ccache: None,
                principal,
                remaining,
                _keytab: None,
                keytab_path: path,
                kvno: 0,
                lane,
            })))
        })
        .await
    }
}

/// What the library cannot classify about a ccache is that it holds nothing for us.
fn absent(error: Error, ccache: &str) -> Error {
    match error {
        Error::Library { text, .. } => Error::NoTicket {
            ccache: ccache.to_owned(),
            text,
        },
        other => other,
    }
}

fn cstring(text: String, principal: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Library {
        principal: principal.to_owned(),
        doing: "naming its keytab and ccache",
        text: "a name holds a zero byte".to_owned(),
        major: 0,
        minor: 0,
    })
}
