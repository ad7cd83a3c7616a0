//! From what somebody has to a Vault token that reads bearer tokens, in htgettoken's order (vault.md 5.7): the token that is
//! there, a Kerberos ticket, the keys of an SSH agent, a browser.

mod browser;
mod logins;

use std::{fmt, io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use credential::{Lifetime, LongToken, NODE_TOKEN_LIMIT, NodeToken, Principal, VaultToken};
use jiff::{SignedDuration, Timestamp};
use vault_client::{Bearer, Client, Login, Places, Restriction, SecretPath};

use super::{
    discovery::{self, Source},
    tell_child, tell_revoked,
};
use crate::output;

/// Which logins may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(crate) kerberos: bool,
    pub(crate) ssh: bool,
    /// Somebody is asked to open an address.
    pub(crate) browser: bool,
}

/// What is wanted, and what there is to get it with.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) vault: Client,
    pub(crate) places: Places,
    pub(crate) issuer: String,
    pub(crate) role: String,
    pub(crate) credkey: Option<String>,
    pub(crate) configdir: PathBuf,
    pub(crate) ttl: SignedDuration,
    pub(crate) min_ttl: SignedDuration,
    pub(crate) source: Source,
    pub(crate) ways: Ways,
    pub(crate) principal: Option<Principal>,
    pub(crate) ccache: Option<String>,
    pub(crate) agent: Option<PathBuf>,
    pub(crate) bearer: bool,
    pub(crate) min_seconds: u32,
    pub(crate) scopes: Vec<String>,
    pub(crate) audience: Vec<String>,
    pub(crate) patience: Duration,
    /// Whether a token with less life than it should have does if nothing else does.
    pub(crate) last_resort: bool,
}

/// A new Vault token, by what may become of it.
pub(crate) enum Held {
    Node(NodeToken),
    /// And from when to when it lives.
    Long(LongToken, Lifetime),
}

impl VaultToken for Held {
    fn expose(&self) -> &str {
        match self {
            Self::Node(token) => token.expose(),
            Self::Long(token, _) => token.expose(),
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node(_) => "Node(..)",
            Self::Long(..) => "Long(..)",
        })
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Got {
    /// A new one; `None` if that which was there did.
    pub(crate) token: Option<Held>,
    /// `None` if none was wanted.
    pub(crate) bearer: Option<Bearer>,
    /// Where it was read.
    pub(crate) path: Option<SecretPath>,
}

impl Got {
    /// The new token, if it is one that credds may have.
    pub(crate) fn login(&self) -> Option<LongToken> {
        match &self.token {
            Some(Held::Long(token, _)) => Some(token.clone()),
            _ => None,
        }
    }
}

/// Why each way came to nothing, in the order they were tried.
#[derive(Debug, Default)]
pub(crate) struct Tried(Vec<(&'static str, anyhow::Error)>);

impl Tried {
    fn add(&mut self, way: &'static str, error: anyhow::Error) {
        tracing::info!(way, error = format!("{error:#}"), "no Vault token this way");
        self.0.push((way, error));
    }

    fn failure(&self, ask: &Ask) -> anyhow::Error {
        let server = ask.vault.server();
        if self.0.is_empty() {
            return anyhow::anyhow!("no Vault token for {server}, and every login is switched off");
        }
        let reasons: Vec<String> = self
            .0
            .iter()
            .map(|(way, error)| format!("{way}: {error:#}"))
            .collect();
        let reasons = reasons.join("; ");
        let browser = if ask.ways.browser {
            ""
        } else {
            "; a login in a browser was not asked for (--oidc)"
        };
        anyhow::anyhow!("no token from Vault {server}: {reasons}{browser}")
    }
}

/// Tries each way in turn. Files are the caller's, but for the credkey that a login in a browser tells.
pub(crate) async fn obtain(ask: &Ask) -> anyhow::Result<Got> {
    let credkey = match &ask.credkey {
        Some(credkey) => Some(credkey.clone()),
        None => ask.kept_credkey(),
    };
    let mut tried = Tried::default();
    let mut short = None;
    if credkey.is_some() || !ask.bearer {
        match ask.there(credkey.as_deref()).await {
            Ok(There::Reads(got)) => return Ok(got),
            Ok(There::EndsSoon(token, left)) => {
                tried.add(
                    "the Vault token that is there",
                    anyhow::anyhow!("{} s are left of it, less than it should have", left.as_secs()),
                );
                short = Some(token);
            }
            Ok(There::Nothing) => {}
            Err(error) => tried.add("the Vault token that is there", error),
        }
    }
    if ask.ways.kerberos {
        match ask.kerberos(credkey.as_deref()).await {
            Ok(got) => return Ok(got),
            Err(error) => tried.add("Kerberos", error),
        }
    }
    if ask.ways.ssh
        && let Some(socket) = &ask.agent
        && let Some(credkey) = &credkey
    {
        match ask.ssh(socket, credkey).await {
            Ok(got) => return Ok(got),
            Err(error) => tried.add("SSH agent", error),
        }
    }
    if ask.ways.browser {
        match ask.browser().await {
            Ok(got) => return Ok(got),
            Err(error) => tried.add("browser", error),
        }
    }
    if ask.last_resort
        && let (Some(token), Some(credkey)) = (short, &credkey)
    {
        let path = ask.path(credkey)?;
        if let Ok(bearer) = ask.read(&token, &path).await {
            output::warn(
                "no new Vault token could be had; that which is there ends soon, and is used once more",
            );
            return Ok(Got {
                token: None,
                bearer: Some(bearer),
                path: Some(path),
            });
        }
    }
    Err(tried.failure(ask))
}

enum There {
    Nothing,
    Reads(Got),
    EndsSoon(LongToken, SignedDuration),
}

impl Ask {
    /// The credkey that a login in a browser left.
    fn kept_credkey(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.credkey_file()).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn credkey_file(&self) -> PathBuf {
        self.configdir
            .join(format!("credkey-{}-{}", self.issuer, self.role))
    }

    /// As htgettoken keeps it: one line.
    fn keep_credkey(&self, credkey: &str) -> anyhow::Result<()> {
        let file = self.credkey_file();
        std::fs::create_dir_all(&self.configdir)
            .and_then(|()| std::fs::File::create(&file))
            .and_then(|mut file| writeln!(file, "{credkey}"))
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    pub(crate) fn path(&self, credkey: &str) -> anyhow::Result<SecretPath> {
        Ok(self.places.secret(&self.issuer, credkey, &self.role)?)
    }

    pub(crate) fn reduced(&self) -> bool {
        !(self.scopes.is_empty() && self.audience.is_empty())
    }

    /// Where others read the same bearer token.
    pub(crate) fn url(&self, path: &SecretPath) -> String {
        if self.reduced() {
            self.vault.bearer_url_with_less(path)
        } else {
            self.vault.bearer_url(path)
        }
    }

    pub(crate) async fn read(&self, token: &dyn VaultToken, path: &SecretPath) -> anyhow::Result<Bearer> {
        Ok(if self.reduced() {
            let less = Restriction::new(&self.scopes, &self.audience)?;
            self.vault
                .bearer_with_less(token, path, &less, self.min_seconds)
                .await?
        } else {
            self.vault.bearer(token, path, self.min_seconds).await?
        })
    }

    async fn there(&self, credkey: Option<&str>) -> anyhow::Result<There> {
        let Some(token) = self.source.read()? else {
            return Ok(There::Nothing);
        };
        let path = credkey.map(|credkey| self.path(credkey)).transpose()?;
        if matches!(self.source, Source::Device(_)) {
            // somebody hands over a long one to be made short: its life is unknown, ours is what it gives
            let parent = Lifetime::new(Timestamp::now(), SignedDuration::MAX);
            let token = self.child(&token, parent).await?;
            let bearer = match &path {
                Some(path) if self.bearer => Some(self.read(&token, path).await?),
                _ => None,
            };
            let token = Some(token);
            return Ok(There::Reads(Got { token, bearer, path }));
        }
        // without a bearer token there is nothing to show that it is any good
        let (true, Some(path)) = (self.bearer, path) else {
            return Ok(There::Nothing);
        };
        if self.min_ttl > SignedDuration::ZERO {
            let left = self.vault.lookup_self(&token).await?.ttl;
            if left < self.min_ttl {
                return Ok(There::EndsSoon(token, left));
            }
        }
        let bearer = Some(self.read(&token, &path).await?);
        Ok(There::Reads(Got {
            token: None,
            bearer,
            path: Some(path),
        }))
    }

    /// A child that lives as long as is wanted.
    async fn child(&self, parent: &LongToken, life: Lifetime) -> anyhow::Result<Held> {
        let now = Timestamp::now();
        Ok(if self.ttl.as_secs() > NODE_TOKEN_LIMIT {
            let child = self.vault.create_long_child(parent, life, self.ttl, now).await?;
            tell_child(&self.vault, &child.accessor, child.lifetime.until());
            Held::Long(child.token, child.lifetime)
        } else {
            let child = self.vault.create_child(parent, life, self.ttl, now).await?;
            tell_child(&self.vault, &child.accessor, child.token.lifetime().until());
            Held::Node(child.token)
        })
    }

    /// What is kept of a login: itself, if it lives no longer than is wanted.
    async fn kept(&self, login: &Login) -> anyhow::Result<Held> {
        if login.lifetime.granted() > self.ttl {
            return self.child(&login.token, login.lifetime).await;
        }
        if self.ttl.as_secs() > NODE_TOKEN_LIMIT {
            return Ok(Held::Long(login.token.clone(), login.lifetime));
        }
        Ok(Held::Node(login.short()?))
    }

    /// A login counts only if it reads a bearer token; one that does not is given back.
    async fn proven(&self, login: Login, credkey: Option<&str>) -> anyhow::Result<Got> {
        let proven = async {
            let path = credkey.map(|credkey| self.path(credkey)).transpose()?;
            let token = self.kept(&login).await?;
            let bearer = match &path {
                Some(path) if self.bearer => Some(self.read(&token, path).await?),
                _ => None,
            };
            Ok(Got {
                token: Some(token),
                bearer,
                path,
            })
        };
        let got = proven.await;
        if got.is_err() {
            self.give_back(&login.token).await;
        }
        got
    }

    /// Ends a login that came to nothing, with all that was made of it.
    pub(crate) async fn give_back(&self, token: &LongToken) {
        let revoked = self.vault.revoke_self(token).await;
        tell_revoked(&self.vault, token, &revoked);
        if let Err(error) = revoked {
            tracing::warn!(%error, "a login that came to nothing was not given back");
        }
    }
}

impl Source {
    /// `None` if there is nothing.
    fn read(&self) -> anyhow::Result<Option<LongToken>> {
        let (text, shown) = match self {
            Self::None => return Ok(None),
            Self::File(path) if !path.exists() => return Ok(None),
            Self::File(path) | Self::Device(path) => (discovery::read(path)?, path.display().to_string()),
            Self::Variable(name) => match std::env::var(name) {
                Ok(text) => (text.trim().to_owned(), name.clone()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => bail!("{name}: {error}"),
            },
        };
        if text.is_empty() {
            return Ok(None);
        }
        // whatever its life is, it is only presented to its server, so the wider type will do
        let token = LongToken::new(text).with_context(|| format!("{shown} holds no token"))?;
        Ok(Some(token))
    }
}
