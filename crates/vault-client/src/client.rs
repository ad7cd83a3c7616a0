//! What mtk asks of Vault.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use credential::act::{Act, Verb};
use credential::{Lifetime, LongToken, NODE_TOKEN_LIMIT, Principal, VaultToken};
use http::header;
use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;
use vaultrs::api::token::requests::{CreateTokenRequest, LookupTokenSelfRequest, RevokeTokenSelfRequest};
use zeroize::Zeroizing;

use crate::{
    Doing, Error, Places, Restriction, SecretPath, Server,
    ask::{Call, failed},
    budget::{Budget, Leave, Queuer, Quota, Standing},
    endpoints::{DeleteCreds, KerberosLogin, ReadCreds, ReadSts},
    grant::{self, Bearer, Child, Login, Lookup},
    transport::{self, Transport},
};

/// How a client speaks to its server.
#[derive(Clone)]
pub struct Options {
    /// The server; what credds and nodes will be told as well.
    pub server: Server,
    /// The name in the server's Kerberos principal, where it is not the host's: that of a cluster.
    pub alias: Option<String>,
    /// Where the server keeps what.
    pub places: Places,
    /// Which certificates are believed.
    pub tls: Arc<ClientConfig>,
    /// For one address; the next one is tried after it. Default 2 s.
    pub connect_timeout: Duration,
    /// For the answer to a request. Default 10 s.
    pub read_timeout: Duration,
    /// For a bearer token, where Vault may wait for the issuer. Default 50 s (vault.md 4.4).
    pub bearer_timeout: Duration,
    /// Requests at once; others wait. Default 8.
    pub concurrency: usize,
    /// How long a cluster that is choosing a new leader is waited for, within one request. Default 30 s.
    pub election_patience: Duration,
    /// What the server lets through from our address.
    pub quota: Quota,
    /// The state directory where all mtk processes of this host count their requests together. Without one, or if it
    /// cannot be written, this client counts alone.
    pub shared_budget: Option<PathBuf>,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(server: Server, tls: Arc<ClientConfig>) -> Self {
        Self {
            server,
            alias: None,
            places: Places::default(),
            tls,
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(10),
            bearer_timeout: Duration::from_secs(50),
            concurrency: 8,
            election_patience: Duration::from_secs(30),
            quota: Quota::default(),
            shared_budget: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("server", &self.server)
            .field("alias", &self.alias)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A client of one Vault server. Clones share connections, limits and the count of requests.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>, pub(crate) Queuer);

/// Leave to send one request, from [`Client::turn`].
pub struct Turn(pub(crate) Leave);

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

pub(crate) struct Inner {
    pub(crate) transport: Transport,
    server: Server,
    /// `server`, as messages show it.
    pub(crate) shown: String,
    pub(crate) alias: Option<String>,
    pub(crate) places: Places,
    pub(crate) read_timeout: Duration,
    pub(crate) bearer_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.shown)
    }
}

impl Client {
    /// Sets everything up; nothing is sent, no name is looked up.
    ///
    /// # Errors
    /// [`Error::Setup`] if the HTTP client cannot be built, [`Error::BadServer`] for an alias that is no host name.
    pub fn new(options: Options) -> Result<Self, Error> {
        let Options {
            server,
            alias,
            places,
            tls,
            connect_timeout,
            read_timeout,
            bearer_timeout,
            concurrency,
            election_patience,
            quota,
            shared_budget,
        } = options;
        // the alias may be written as the server is; only its host matters
        let alias = alias
            .map(|text| text.parse::<Server>().map(|alias| alias.host().to_owned()))
            .transpose()?;
        let shown = server.to_string();
        let budget = Budget::new(&server, quota, shared_budget.as_deref(), concurrency);
        let queuer = Queuer::new(budget.urgency(None));
        let transport = Transport::new(server.clone(), &tls, connect_timeout, budget, election_patience);
        transport.check().map_err(|f| failed(f, &shown, Doing::Login))?;
        let inner = Inner {
            transport,
            server,
            shown,
            alias,
            places,
            read_timeout,
            bearer_timeout,
        };
        Ok(Self(Arc::new(inner), queuer))
    }

    /// The same client, whose requests take the place in the queue for the budget that a service has whose credential
    /// ends then; `None` for one that has none. What ends first goes first; of two that end together, the one for
    /// which this was called first.
    #[must_use]
    pub fn in_turn_of(&self, ends: Option<Timestamp>) -> Self {
        let urgency = self.0.transport.budget().urgency(ends);
        Self(Arc::clone(&self.0), Queuer::new(urgency))
    }

    /// For how long the requests of this client and its clones have waited for their turns. Clients made by
    /// [`Client::in_turn_of`] have an account of their own.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.1.waited()
    }

    /// For how long nothing at all could be sent to this server because the quota was used up, by this client and all
    /// that share its connections. A wait under way counts to its end.
    #[must_use]
    pub fn held_back(&self) -> Duration {
        self.0.transport.budget().held_back()
    }

    /// Waits until the budget allows one request, for a caller that must make something fresh for it: a Kerberos
    /// token is good for 5 minutes, a block may last as long. Dropped unused, the leave is given back.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if that would be later than [`Quota::patience`] allows.
    pub async fn turn(&self) -> Result<Turn, Error> {
        let turn = self.0.transport.budget().turn_of(&self.1).await;
        let (leave, _slot) = turn.map_err(|late| Error::RateLimited {
            server: self.0.shown.clone(),
            retry_after: Some(late.after),
        })?;
        Ok(Turn(leave))
    }

    /// How the budget of the server stands, as far as this process knows.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        self.0.transport.budget().standing(now)
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// The Kerberos service the server's tickets are for: `host/<alias or host>@`, to be taken as a principal, so
    /// that no name service changes it (vault.md 2.1).
    #[must_use]
    pub fn kerberos_target(&self) -> String {
        format!(
            "host/{}@",
            self.0.alias.as_deref().unwrap_or(self.0.server.host())
        )
    }

    /// Requests really sent by this client and its clones, whatever came of them: each counts in the server's quota.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.transport.sent()
    }

    /// Where anybody with a Vault token reads the bearer token of `path`, with the port always written, as
    /// HTCondor's credmon demands (vault.md 4.8).
    #[must_use]
    pub fn bearer_url(&self, path: &SecretPath) -> String {
        format!("https://{}/v1/{}", self.0.shown, path.path())
    }

    /// The same for bearer tokens with less: scopes and audience are said with each request, not here.
    #[must_use]
    pub fn bearer_url_with_less(&self, path: &SecretPath) -> String {
        format!("https://{}/v1/{}", self.0.shown, path.sts_path())
    }

    /// Logs in with an AP-REQ (the first token of plain Kerberos, raw, without mutual authentication). Each one
    /// can be used once. `now` is when the token's life is counted from.
    ///
    /// # Errors
    /// [`Error::TicketRefused`], [`Error::MountMissing`], [`Error::LdapDown`], [`Error::WrongIdentity`] where the
    /// server took us for somebody other than `expected`, and what any request may meet.
    pub async fn login_kerberos(
        &self,
        issuer: &str,
        role: &str,
        ap_req: &[u8],
        expected: &Principal,
        now: Timestamp,
    ) -> Result<Login, Error> {
        let turn = self.turn().await?;
        self.login_kerberos_in(turn, issuer, role, ap_req, expected, now)
            .await
    }

    /// The same in a turn that was waited for before `ap_req` was made.
    ///
    /// # Errors
    /// As [`Client::login_kerberos`].
    pub async fn login_kerberos_in(
        &self,
        turn: Turn,
        issuer: &str,
        role: &str,
        ap_req: &[u8],
        expected: &Principal,
        now: Timestamp,
    ) -> Result<Login, Error> {
        let mount = self.0.places.kerberos(issuer, role)?;
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(ap_req));
        let header = Zeroizing::new(format!("Negotiate {}", *encoded));
        let call = Call {
            doing: Doing::Login,
            path: &mount,
            minimum_seconds: 0,
            patience: self.0.read_timeout,
            secret: &encoded,
            header: (header::AUTHORIZATION, &header),
        };
        let request = KerberosLogin { mount: mount.clone() };
        let login = self
            .ask_in(transport::Turn::had(turn.0), request, &call)
            .await
            .and_then(|envelope| {
                let warnings = self.warnings(&call, &envelope);
                grant::login(self.of(&call), envelope, warnings, &mount, expected, now)
            });
        self.tell_login(&expected.to_string(), &mount, &login);
        login
    }

    /// Exchanges a token for a child that lives `ttl` and may become a file. It dies with its parent, so its
    /// lifetime ends with `parent_life` at the latest, whatever the server says (vault.md 3.3).
    ///
    /// # Errors
    /// [`Error::BadLifetime`] for a `ttl` beyond [`NODE_TOKEN_LIMIT`], [`Error::TokenInvalid`] if the parent is no
    /// longer good, [`Error::TooLongLived`], and what any request may meet.
    pub async fn create_child(
        &self,
        parent: &LongToken,
        parent_life: Lifetime,
        ttl: SignedDuration,
        now: Timestamp,
    ) -> Result<Child, Error> {
        let seconds = ttl.as_secs();
        if !(1..=NODE_TOKEN_LIMIT).contains(&seconds) {
            return Err(Error::BadLifetime {
                seconds,
                limit: NODE_TOKEN_LIMIT,
            });
        }
        let request = CreateTokenRequest {
            ttl: Some(format!("{seconds}s")),
            renewable: Some(false),
            ..Default::default()
        };
        let call = self.with_token(Doing::Child, "auth/token/create", parent);
        let envelope = self.ask(request, &call).await?;
        let warnings = self.warnings(&call, &envelope);
        grant::child(self.of(&call), envelope, warnings, seconds, parent_life, now)
    }

    /// Exchanges a token for a child that may be long-lived, for instance because the token itself shows more than
    /// whoever gets it is to see (vault.md 3.5). It dies with its parent.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if the parent is no longer good, and what any request may meet.
    pub async fn create_long_child(
        &self,
        parent: &LongToken,
        parent_life: Lifetime,
        ttl: SignedDuration,
        now: Timestamp,
    ) -> Result<Login, Error> {
        let request = CreateTokenRequest {
            ttl: Some(format!("{}s", ttl.as_secs().max(1))),
            renewable: Some(false),
            ..Default::default()
        };
        let call = self.with_token(Doing::Child, "auth/token/create", parent);
        let envelope = self.ask(request, &call).await?;
        let warnings = self.warnings(&call, &envelope);
        let child = grant::token(self.of(&call), envelope, warnings, now)?;
        Ok(Login {
            lifetime: child.lifetime.within(parent_life),
            ..child
        })
    }

    /// Reads the bearer token of `path`, with at least `minimum_seconds` to live (the server takes 10 at least).
    ///
    /// # Errors
    /// [`Error::NotOnboarded`], [`Error::RefreshRefused`], [`Error::TokenExpired400`], [`Error::NotPermitted`],
    /// [`Error::TokenInvalid`], [`Error::IssuerRemoved`], and what any request may meet.
    pub async fn bearer(
        &self,
        token: &dyn VaultToken,
        path: &SecretPath,
        minimum_seconds: u32,
    ) -> Result<Bearer, Error> {
        let below = path.path();
        let call = Call {
            minimum_seconds,
            patience: self.0.bearer_timeout,
            ..self.with_token(Doing::Bearer, &below, token)
        };
        let envelope = self
            .ask(
                ReadCreds {
                    path: below.clone(),
                    minimum_seconds,
                },
                &call,
            )
            .await?;
        let warnings = self.warnings(&call, &envelope);
        let bearer = grant::bearer(self.of(&call), envelope, warnings)?;
        self.tell_bearer(&below, &bearer);
        Ok(bearer)
    }

    /// Reads a bearer token that may do less than the one of [`Client::bearer`], or is for others (vault.md 4.1).
    ///
    /// # Errors
    /// [`Error::ExchangeRefused`] if the issuer grants no such token, and as [`Client::bearer`].
    pub async fn bearer_with_less(
        &self,
        token: &dyn VaultToken,
        path: &SecretPath,
        restriction: &Restriction,
        minimum_seconds: u32,
    ) -> Result<Bearer, Error> {
        let below = path.sts_path();
        let call = Call {
            minimum_seconds,
            patience: self.0.bearer_timeout,
            ..self.with_token(Doing::Exchange, &below, token)
        };
        let request = ReadSts::new(path, restriction, minimum_seconds);
        let envelope = self.ask(request, &call).await?;
        let warnings = self.warnings(&call, &envelope);
        let bearer = grant::bearer(self.of(&call), envelope, warnings)?;
        self.tell_bearer(&below, &bearer);
        Ok(bearer)
    }

    /// Deletes the refresh token of `path`: nothing can be read there until somebody is onboarded again. It is no
    /// error if there was none.
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::TokenInvalid`], and what any request may meet.
    pub async fn forget(&self, token: &dyn VaultToken, path: &SecretPath) -> Result<(), Error> {
        let below = path.path();
        let call = self.with_token(Doing::Delete, &below, token);
        let done = self.ask(DeleteCreds { path: below.clone() }, &call).await;
        self.tell_done(Act::new(Verb::Forget, &self.0.shown).what(&below), &done);
        done.map(drop)
    }

    /// What the server knows of a token.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it is no longer good, and what any request may meet.
    pub async fn lookup_self(&self, token: &dyn VaultToken) -> Result<Lookup, Error> {
        let call = self.with_token(Doing::Lookup, "auth/token/lookup-self", token);
        let envelope = self.ask(LookupTokenSelfRequest {}, &call).await?;
        grant::lookup(self.of(&call), envelope)
    }

    /// Revokes a token and all its children.
    ///
    /// # Errors
    /// [`Error::TokenInvalid`] if it is no longer good anyway, and what any request may meet.
    pub async fn revoke_self(&self, token: &dyn VaultToken) -> Result<(), Error> {
        let call = self.with_token(Doing::Revoke, "auth/token/revoke-self", token);
        self.ask(RevokeTokenSelfRequest {}, &call).await.map(drop)
    }
}
