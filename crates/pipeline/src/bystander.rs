//! What is done beside runs, with the clients, limits and deadlines that a run would have.

use std::sync::Arc;

use config::Site;
use state::State;

use crate::{
    CannotRun, NoProgress, Request, Selection, What,
    failure::{Failure, Stage},
    ledger::Ledger,
    run::World,
    stop::Stop,
};

/// What [`crate::doctor`] and [`crate::revoke`] share when they see to several services at once: connections, tickets, and
/// the limits that peers want kept to.
pub struct Bystander(pub(crate) World);

impl Bystander {
    /// Sets everything up; nobody is asked anything yet.
    ///
    /// # Errors
    /// A [`Failure`] if the trust settings cannot be honoured.
    pub async fn new(site: &Site, state: State, stop: Stop) -> Result<Self, Failure> {
        let world = bystander(site, state, stop).await;
        world.map(Self).map_err(|error| cannot(&error))
    }
}

/// A world without a run: clients, limits and deadlines of the site.
pub(crate) async fn bystander(site: &Site, state: State, stop: Stop) -> Result<World, CannotRun> {
    let request = Request {
        what: What::Run,
        selection: Selection::default(),
        verify: true,
        dry_run: false,
    };
    let ledger = Ledger::new(Vec::new(), Arc::new(NoProgress));
    World::new(site, state, request, ledger, stop).await
}

pub(crate) fn cannot(error: &CannotRun) -> Failure {
    Failure::new(Stage::Configuration, "this host", error, false)
}
