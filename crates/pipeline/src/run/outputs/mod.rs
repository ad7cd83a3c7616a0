//! What a service gives out beside the files of the Go service: made ready here, brought to nodes by the postman, and to
//! this host and its commands by this task itself. Each output is an edge of its own at each place.

mod content;
mod local;

use std::{sync::Arc, time::Duration};

use config::{Content, Output, Service, To};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

pub(crate) use self::{
    content::{BEARER_PLACE, PLANNED, Ready, forget_bearers, held, in_hand},
    local::{HERE, local_files, owner_uid},
};
use super::{
    World,
    known::{Kept, Known},
    push::Letter,
};
use crate::failure::Failure;

/// How long what is ready waits for what is not, so that all goes to a node in one session.
const PATIENCE: Duration = Duration::from_secs(2);

/// A service's node token, or why there is none.
pub(crate) type Token = Result<Kept, Failure>;

/// An output by its place among the service's, made ready or not.
pub(crate) type Prepared = (usize, Result<Ready, Failure>);

/// One service's outputs in one run.
pub(crate) struct Giver {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
    pub(crate) service: Arc<Service>,
    pub(crate) known: Arc<Known>,
    pub(crate) postman: Option<UnboundedSender<Letter>>,
}

impl Giver {
    /// Runs until the last token of this run has come and been given out.
    pub(crate) async fn give_out(self, mut tokens: UnboundedReceiver<Token>) {
        // what is made of no token waits for none longer than is good for the number of sessions
        let patience = if self.service.wants_node_token() {
            PATIENCE
        } else {
            Duration::ZERO
        };
        let first = tokio::time::timeout(patience, tokens.recv()).await;
        let early = first.is_err();
        if early {
            let files = content::files(&self).await;
            self.bring(None, files).await;
        }
        let mut next = match first {
            Ok(token) => token,
            Err(_) => tokens.recv().await,
        };
        let mut files = if early {
            None
        } else {
            Some(content::files(&self).await)
        };
        while let Some(token) = next {
            let ready = files.take().unwrap_or_default();
            self.with_token(token, ready).await;
            next = tokens.recv().await;
        }
        if let Some(files) = files {
            self.bring(None, files).await;
        }
    }

    async fn with_token(&self, token: Token, mut ready: Vec<Prepared>) {
        ready.extend(
            self.which(|content| *content == Content::VaultToken)
                .map(|(i, _)| (i, token.clone().map(|kept| Ready::vault_token(&kept)))),
        );
        let making = content::bearers(self, &token);
        tokio::pin!(making);
        match tokio::time::timeout(PATIENCE, &mut making).await {
            Ok(bearers) => {
                ready.extend(bearers);
                self.bring(Some(token.clone()), ready).await;
            }
            Err(_) => {
                let (bearers, ()) = tokio::join!(making, self.bring(Some(token.clone()), ready));
                self.bring(None, bearers).await;
            }
        }
    }

    /// To the postman what is for nodes, and the rest to where it goes on this host.
    async fn bring(&self, token: Option<Token>, ready: Vec<Prepared>) {
        let (for_nodes, here): (Vec<Prepared>, Vec<Prepared>) = ready.into_iter().partition(|(i, _)| {
            let output = self.service.outputs.get(*i);
            output.is_some_and(|output| matches!(output.to, To::Nodes { .. }))
        });
        if let Some(postman) = &self.postman {
            let letter = Letter {
                index: self.index,
                service: self.service.clone(),
                known: self.known.clone(),
                token,
                outputs: for_nodes,
            };
            // the postman ends only after us, or with the whole run
            let _ = postman.send(letter);
        }
        local::bring(self, here).await;
    }

    /// The outputs that are asked for and hold something of this kind.
    fn which(&self, wanted: impl Fn(&Content) -> bool) -> impl Iterator<Item = (usize, &Output)> {
        let outputs = self.service.outputs.iter().enumerate();
        outputs.filter(move |(i, output)| wanted(&output.content) && self.is_asked(*i, output))
    }

    fn is_asked(&self, index: usize, output: &Output) -> bool {
        let selection = &self.world.request.selection;
        crate::plan::asked(&self.service, selection, index, output)
    }
}
