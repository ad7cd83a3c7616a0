//! The login in a browser, for whoever asked for it: by device flow, or direct if the server has it so.

use credential::{NODE_TOKEN_LIMIT, not_asked};
use jiff::SignedDuration;
use vault_client::{Mode, OidcLogin};

use super::{Ask, Got, Held};
use crate::output;

/// Of the child that stores the refresh token where a longer one is wanted.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Ask {
    /// Stores the refresh token it gives, so that the other ways work from then on, and keeps the credkey if it was not
    /// known. The login itself shows the refresh token to whoever holds it, so only children of it are kept.
    pub(super) async fn browser(&self) -> anyhow::Result<Got> {
        let mut flow = self.vault.oidc_start(&self.issuer, &self.role).await?;
        if flow.mode() == Mode::Direct {
            let lacking = not_asked(&flow.scopes(), self.scopes.iter().map(String::as_str));
            if !lacking.is_empty() {
                output::warn(&format!(
                    "Vault does not ask the issuer for {} in the role {}: whoever agrees cannot give it",
                    lacking.join(" "),
                    self.role
                ));
            }
        }
        output::say("Complete the authentication at:");
        output::say(&format!("    {}", flow.address()));
        if let Some(code) = flow.code() {
            output::say(&format!("The code there is {code}"));
        }
        if flow.mode() == Mode::Direct {
            output::say("The browser must be able to reach Vault.");
        }
        output::say("Waiting for response in web browser");
        let login = self.vault.oidc_wait(&mut flow, self.patience).await?;
        let got = self.of_browser(&login).await;
        if got.is_err() {
            self.give_back(&login.token).await;
        }
        got
    }

    async fn of_browser(&self, login: &OidcLogin) -> anyhow::Result<Got> {
        if !self.bearer {
            // as htgettoken: nothing is stored, a Vault token is all
            let path = self.credkey.as_deref().map(|credkey| self.path(credkey));
            return Ok(Got {
                path: path.transpose()?,
                token: Some(self.child(&login.token, login.lifetime).await?),
                bearer: None,
            });
        }
        let person = login.person.as_str();
        // who logged in now counts more than who did before
        let path = self.path(self.credkey.as_deref().unwrap_or(person))?;
        let long = self.ttl.as_secs() > NODE_TOKEN_LIMIT;
        let week = if long { WEEK } else { self.ttl };
        let child = self.vault.store_refresh_token(login, &path, week).await?;
        if self.credkey.is_none()
            && let Err(error) = self.keep_credkey(person)
        {
            // the token is good; next time the credkey must be said
            output::warn(&format!("{error:#}"));
        }
        let token = if long {
            self.child(&login.token, login.lifetime).await?
        } else {
            Held::Node(child.token)
        };
        let bearer = Some(self.read(&token, &path).await?);
        Ok(Got {
            token: Some(token),
            bearer,
            path: Some(path),
        })
    }
}
