//! Where each credd of a service has a login of its own (`mtk.vault.tokenPerCredd`): the node token, and what becomes of
//! the edge that all logins are.

use jiff::Timestamp;

use super::refresh::{Decision, Half};
use crate::{
    failure::{Failure, Stage},
    ledger::Ending,
    report::{Outcome, Target},
};

impl Half<'_> {
    /// The node token where each credd has a login of its own: made only when it is due itself. Says what became of it.
    pub(super) async fn node_token_apart(&self) -> Option<Result<(), Failure>> {
        self.node_reason.as_ref()?;
        if self.world.request.dry_run {
            (self.post)(Err(Failure::text(Stage::Push, "planned", "", "a new node token")));
            return None;
        }
        if self.world.stop.asked() {
            return None;
        }
        Some(match self.first_login(true).await {
            Ok((_, token)) => {
                token.into_iter().for_each(|token| (self.post)(Ok(token)));
                Ok(())
            }
            Err(failure) => {
                self.post_kept(failure.clone());
                Err(failure)
            }
        })
    }

    /// The edge of all logins: good if each that was wanted is. What nobody took is given back.
    pub(super) async fn login_edge(&self, node_token: Option<Result<(), Failure>>) {
        let Decision::Login(why) = self.decided().await else {
            return;
        };
        let target = Target::Login {
            vault: self.service.vault_server.clone(),
        };
        let ledger = &self.world.ledger;
        if self.world.request.dry_run {
            return ledger.end(self.index, target, Ending::new(Outcome::Due).because(Some(why)));
        }
        if self.world.stop.asked() {
            return;
        }
        let mut until: Option<Timestamp> = None;
        let mut failed = None;
        for (n, one) in self.logins.iter().enumerate() {
            match one.login.made() {
                None => continue,
                Some(Ok(proven)) => {
                    let ends = proven.login.lifetime.until();
                    until = Some(until.map_or(ends, |first| first.min(ends)));
                }
                Some(Err(failure)) => failed = failed.or(Some(failure)),
            }
            self.after(n, n == 0 && matches!(node_token, Some(Ok(())))).await;
        }
        let ending = match (failed.or(node_token.and_then(Result::err)), until) {
            (Some(failure), until) => Ending::failed(failure).until(until),
            (None, Some(until)) => Ending::new(Outcome::Done).until(Some(until)),
            // every credd that was due failed before it wanted a login
            (None, None) => return,
        };
        ledger.end(self.index, target, ending.because(Some(why)));
    }
}
