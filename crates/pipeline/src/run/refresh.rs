//! The first half of one service's way: every credd of it holds a token that lives long enough.
//!
//! Each credd is a task of its own. It asks what is there, and if something is due it asks for the login, which is
//! made once. A login that was made for one credd is stored in all that answer (it costs no Vault request); a credd
//! that hangs keeps nobody waiting.
//!
//! With `mtk.vault.tokenPerCredd` each credd has a login of its own, made when that credd is due: what is revoked or
//! stolen at one says nothing about the others. The node token is then below the first credd's.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use config::Service;
use credd_client::Credd;
use futures_util::future::join_all;
use jiff::Timestamp;
use kerberos::Ticket;
use state::ServiceKey;
use tokio::sync::watch;

use super::{
    World,
    credds::{self, Found},
    known::{Kept, Known},
    login::Logins,
};
use crate::{
    failure::{Failure, Stage},
    ledger::Ending,
    plan::{self, AtPeer, Reason},
    report::{Outcome, Target},
    retry::retry,
};

/// Whether this run logs the service in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Some credds have not answered yet.
    Open,
    /// Yes, and why.
    Login(String),
    /// Every credd answered or failed, and nothing was due.
    Nothing,
}

/// Takes a service's node token as soon as it is known, or why there is none. It may be called twice: a login that
/// nobody had planned makes a newer token.
pub(crate) type Post<'a> = &'a (dyn Fn(Result<Kept, Failure>) + Send + Sync);

/// One service in this half.
pub(super) struct Half<'a> {
    pub(super) world: &'a World,
    pub(super) index: usize,
    pub(super) service: &'a Service,
    known: &'a Known,
    /// One for all credds, or one for each in their order.
    pub(super) logins: Vec<OneLogin<'a>>,
    /// Whether there is one for each.
    apart: bool,
    /// Why a new node token is due, if it is.
    pub(super) node_reason: Option<Reason>,
    decision: watch::Sender<Decision>,
    /// Credds that have not said yet whether something is due.
    asking: AtomicUsize,
    pub(super) post: Post<'a>,
}

/// A login, and how many credds took its token.
pub(super) struct OneLogin<'a> {
    pub(super) login: Logins<'a>,
    took: AtomicUsize,
}

/// Brings the credds of one service up to date, and makes the node token where one is due.
pub(crate) async fn refresh(
    world: &World,
    index: usize,
    service: &Service,
    key: ServiceKey,
    known: &Known,
    post: Post<'_>,
) {
    let now = Timestamp::now();
    let wants_node_token = service.wants_node_token();
    let policy = world.policy(service);
    let node_reason = wants_node_token
        .then(|| plan::node_token_due(known.node_token.as_ref().map(Kept::life), &policy, now))
        .flatten();
    if node_reason.is_none()
        && let Some(token) = &known.node_token
    {
        // Pushed at once: the nodes need not wait for a credd that may hang.
        post(Ok(token.clone()));
    }
    if !world.request.verify && node_reason.is_none() && trusted(world, index, service, known, now) {
        return;
    }
    let login = Target::Login {
        vault: service.vault_server.clone(),
    };
    if let Some(reason) = &node_reason {
        tracing::debug!(service = %service.id, %reason, "a new node token is due");
        world.ledger.begin(index, login);
    }
    let finding = discover(world, index, service, known);
    let found = if node_reason.is_some() && !world.request.dry_run {
        // a login is certain, so its ticket need not wait for a collector
        tokio::join!(finding, world.tickets.of(service)).0
    } else {
        finding.await
    };
    let start = match &node_reason {
        Some(reason) => Decision::Login(reason.to_string()),
        None if found.is_empty() => Decision::Nothing,
        None => Decision::Open,
    };
    let apart = world.token_per_credd && found.len() > 1;
    let first_end = known.first_end(service.store, wants_node_token);
    let logins = (0..if apart { found.len() } else { 1 }).map(|_| OneLogin {
        login: Logins::new(world, service, key.clone(), first_end),
        took: AtomicUsize::new(0),
    });
    let half = Half {
        world,
        index,
        service,
        known,
        logins: logins.collect(),
        apart,
        node_reason,
        decision: watch::channel(start).0,
        asking: AtomicUsize::new(found.len()),
        post,
    };
    let stores = join_all(found.iter().enumerate().map(|(n, f)| half.credd(n, f)));
    if apart {
        let (_, node_token) = tokio::join!(stores, half.node_token_apart());
        half.login_edge(node_token).await;
    } else {
        let (_, has_child) = tokio::join!(stores, half.node_token(wants_node_token));
        half.after(0, has_child).await;
    }
}

/// The short way of `--no-verify`: everything that the state knows of is fresh.
fn trusted(world: &World, index: usize, service: &Service, known: &Known, now: Timestamp) -> bool {
    let policy = world.policy(service);
    let stores = plan::stores(service, &world.request.selection, &known.stores);
    let due = |known| plan::store_due(known, AtPeer::NotAsked, &policy, now).is_some();
    if (stores.is_empty() && plan::discovers(service)) || stores.iter().any(|(_, known)| due(*known)) {
        return false;
    }
    for (credd, known) in stores {
        let expires = known.map(|s| s.expires);
        let target = store_target(service, credd);
        world
            .ledger
            .end(index, target, Ending::new(Outcome::Trusted).until(expires));
    }
    true
}

/// The credds of the service that were asked for. If they cannot be found, those known from before have failed.
async fn discover(world: &World, index: usize, service: &Service, known: &Known) -> Vec<Found> {
    match world.credds_of(service).await {
        Ok(found) => found
            .into_iter()
            .filter(|f| world.request.selection.wants_credd(credds::name(f)))
            .inspect(|f| world.ledger.begin(index, store_target(service, credds::name(f))))
            .collect(),
        Err(failure) => {
            let target = Target::Discover {
                collectors: service.collectors.join(", "),
            };
            world.ledger.end(index, target, Ending::failed(failure.clone()));
            known
                .stores
                .keys()
                .filter(|c| world.request.selection.wants_credd(c))
                .map(|c| Err((c.clone(), failure.clone())))
                .collect()
        }
    }
}

pub(crate) fn store_target(service: &Service, credd: &str) -> Target {
    Target::Store {
        credd: credd.to_owned(),
        credential: service.name.to_string(),
    }
}

impl Half<'_> {
    /// The robot's ticket, asked for when something is due and not before: where nothing is, no KDC hears of this run.
    async fn ticket(&self) -> Result<Ticket, Failure> {
        self.world.tickets.of(self.service).await
    }

    /// One credd's edge, from the question what it holds to the new token in it.
    async fn credd(&self, n: usize, found: &Found) {
        let name = credds::name(found);
        let target = store_target(self.service, name);
        let known = self.known.stores.get(name);
        let asked = self.ask(found).await;
        let due = match &asked {
            Ok((_, there)) => {
                plan::store_due(known, *there, &self.world.policy(self.service), Timestamp::now())
            }
            Err(_) => None,
        };
        self.answered(due.as_ref());
        let expires = known.map(|s| s.expires);
        let credd = match asked {
            Ok((credd, _)) => credd,
            Err(failure) => {
                return self
                    .world
                    .ledger
                    .end(self.index, target, Ending::failed(failure).until(expires));
            }
        };
        // the first one's login is made for the nodes anyway, and is not to lie about unheld
        let for_nodes = self.node_reason.as_ref().filter(|_| self.apart && n == 0);
        let due = due.or_else(|| for_nodes.cloned());
        if due.is_none() {
            self.world.ledger.end(
                self.index,
                target.clone(),
                Ending::new(Outcome::Fresh).until(expires),
            );
        }
        let is_due = due.is_some();
        let reason = match (due, self.apart) {
            (Some(due), true) => due.to_string(),
            (None, true) => return,
            (due, false) => {
                let Decision::Login(why) = self.decided().await else {
                    return;
                };
                due.map_or(why, |d| d.to_string())
            }
        };
        if self.world.stop.asked() {
            return;
        }
        if self.world.request.dry_run {
            let ending = Ending::new(Outcome::Due).because(Some(reason)).until(expires);
            return self.world.ledger.end(self.index, target, ending);
        }
        let ticket = match self.ticket().await {
            Ok(ticket) => ticket,
            // the credd knew us by other means; what it holds is as good as it was
            Err(_) if !is_due => return,
            Err(failure) => {
                let ending = Ending::failed(failure).because(Some(reason)).until(expires);
                return self.world.ledger.end(self.index, target, ending);
            }
        };
        let ending = match self.store(n, &credd, name, &ticket).await {
            Ok(until) => Ending::new(Outcome::Done)
                .because(Some(reason))
                .until(Some(until)),
            Err(failure) => Ending::failed(failure).because(Some(reason)).until(expires),
        };
        self.world.ledger.end(self.index, target, ending);
    }

    /// Reaches the credd, proves who we are, and asks what it holds.
    async fn ask(&self, found: &Found) -> Result<(Arc<Credd>, AtPeer), Failure> {
        let address = found.as_ref().map_err(|(_, failure)| failure.clone())?;
        let credd = self.world.credd(address, self.service).await?;
        let held = retry(self.world.store_budget, &self.world.stop, || async {
            let _permit = self.world.credd_permit(address.name()).await;
            credd
                .query(&self.service.account, &self.service.name.to_string(), None)
                .await
                .map_err(|e| Failure::at_credd(Stage::Credd, address.name(), &e))
        })
        .await?;
        Ok((credd, held.top.map_or(AtPeer::Nothing, AtPeer::File)))
    }

    /// This credd has said whether something is due.
    fn answered(&self, due: Option<&Reason>) {
        let last = self.asking.fetch_sub(1, Ordering::AcqRel) == 1;
        self.decision.send_if_modified(|decision| match (&decision, due) {
            (Decision::Open, Some(reason)) => {
                *decision = Decision::Login(reason.to_string());
                true
            }
            (Decision::Open, None) if last => {
                *decision = Decision::Nothing;
                true
            }
            _ => false,
        });
    }

    pub(super) async fn decided(&self) -> Decision {
        let mut decision = self.decision.subscribe();
        match decision.wait_for(|d| *d != Decision::Open).await {
            Ok(decided) => decided.clone(),
            Err(_) => Decision::Nothing,
        }
    }

    /// The login of the credd that was found as the nth.
    fn login(&self, n: usize) -> Option<&OneLogin<'_>> {
        self.logins.get(if self.apart { n } else { 0 })
    }

    /// Hands the long token over; when it ends is the answer.
    async fn store(
        &self,
        n: usize,
        credd: &Credd,
        name: &str,
        ticket: &Ticket,
    ) -> Result<Timestamp, Failure> {
        let Some(one) = self.login(n) else {
            return Err(Failure::text(
                Stage::Login,
                "no-login",
                name,
                "no login is planned for this credd",
            ));
        };
        let proven = one.login.get(ticket).await?;
        let service = self.service.name.to_string();
        let json = credd_client::vault_credential(&proven.login.token, &proven.url);
        let stored = retry(self.world.store_budget, &self.world.stop, || async {
            let _permit = self.world.credd_permit(name).await;
            credd
                .store(&self.service.account, &service, None, &json)
                .await
                .map_err(|e| Failure::at_credd(Stage::Store, name, &e))
        })
        .await?;
        one.took.fetch_add(1, Ordering::AcqRel);
        self.world.stores.fetch_add(1, Ordering::Relaxed);
        let expires = proven.login.lifetime.until();
        let record = state::Store {
            service: ServiceKey::clone(&self.known.key),
            credd: name.to_owned(),
            credential_name: service,
            accessor: proven.login.accessor.clone(),
            stored_at: Timestamp::now(),
            expires,
            top_time: Some(stored.top),
            user: stored.user,
        };
        self.world.remember(self.world.state.record_store(&record).await);
        Ok(expires)
    }

    /// The login's own edge and the node token made from it; says whether there is a new one.
    async fn node_token(&self, wanted: bool) -> bool {
        let Decision::Login(why) = self.decided().await else {
            return false;
        };
        let target = Target::Login {
            vault: self.service.vault_server.clone(),
        };
        if self.world.request.dry_run {
            let ending = Ending::new(Outcome::Due).because(Some(why));
            self.world.ledger.end(self.index, target, ending);
            // whatever lies on the nodes would be replaced
            (self.post)(Err(Failure::text(Stage::Push, "planned", "", "a new node token")));
            return false;
        }
        self.world.ledger.begin(self.index, target.clone());
        if self.world.stop.asked() {
            return false;
        }
        match self.first_login(wanted).await {
            Ok((until, token)) => {
                let ending = Ending::new(Outcome::Done).because(Some(why)).until(Some(until));
                self.world.ledger.end(self.index, target, ending);
                let has_child = token.is_some();
                if let Some(token) = token {
                    (self.post)(Ok(token));
                }
                has_child
            }
            Err(failure) => {
                let ending = Ending::failed(failure.clone()).because(Some(why));
                self.world.ledger.end(self.index, target, ending);
                self.post_kept(failure);
                false
            }
        }
    }

    /// No new node token: the one there was is still good for the nodes, if it lives.
    pub(super) fn post_kept(&self, failure: Failure) {
        let alive = |t: &&Kept| t.until() > Timestamp::now();
        match self.known.node_token.as_ref().filter(alive) {
            Some(token) => (self.post)(Ok(token.clone())),
            None => (self.post)(Err(failure)),
        }
    }

    /// The first login, and below it a node token if one is wanted.
    pub(super) async fn first_login(&self, wanted: bool) -> Result<(Timestamp, Option<Kept>), Failure> {
        let ticket = self.ticket().await?;
        let Some(first) = self.logins.first() else {
            return Err(Failure::text(Stage::Login, "no-login", "", "no login is planned"));
        };
        let proven = first.login.get(&ticket).await?;
        let token = match wanted {
            true => Some(first.login.child(&proven).await?),
            false => None,
        };
        Ok((proven.login.lifetime.until(), token))
    }

    /// A login that nobody took and that has no child is given back.
    pub(super) async fn after(&self, n: usize, has_child: bool) {
        let Some(one) = self.logins.get(n) else {
            return;
        };
        if has_child || one.took.load(Ordering::Acquire) > 0 || self.world.stop.asked() {
            return;
        }
        if let Some(Ok(proven)) = one.login.made() {
            one.login.give_back(&proven).await;
        }
    }
}
