//! `mtk storer`: what condor_submit runs to have the credentials of a job stored (SEC_CREDENTIAL_STORER), in place of
//! condor_vault_storer, alias condor_credential_storer: the same arguments, environment and files (vault.md 6; docs/storer.md).
//!
//! Different on purpose: the credd comes first and the Vault token's file last, so that a store that fails leaves no file
//! behind which says that all is well; no second read of the bearer token; handles carry no long token of their own.

mod pool;
mod request;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use condor_config::{Config, Disk, Environment};
use credd_client::Restriction;
use credential::{Lifetime, LongToken, NODE_TOKEN_LIMIT, NodeToken, VaultToken as _};
use jiff::{SignedDuration, Timestamp};
use vault_client::{Bearer, SecretPath};

use self::{
    pool::{Store, setting},
    request::Request,
};
use super::token::{
    discovery::{self, Source},
    environment_words,
    obtain::{Ask, Got, Held, Ways, obtain},
    options::Args as Options,
    tell_child,
};
use crate::{env, exit::Exit, output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A name is an issuer, or issuer_role; behind it may stand &handle=NAME, &scopes=A,B, &audience=A and \
                  &options=OPTIONS of `mtk token get`. Options for all come from SEC_CREDENTIAL_GETTOKEN_OPTS of HTCondor's \
                  configuration and from HTGETTOKENOPTS. Exit status: 0 all is stored, 1 anything else."
)]
pub(crate) struct Args {
    /// The services, each with what it is to be restricted to behind it; before them -v or -d to have said what is done.
    #[arg(value_name = "NAME", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What credds get lives as long as Vault grants, up to this: condor_vault_storer's.
const LONG: SignedDuration = SignedDuration::from_hours(28 * 24);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// One run: what all its services share.
struct Storer {
    condor: Config,
    /// The account, as HTCondor's FS sees it.
    login: Option<String>,
    /// Options for every service; later ones count more.
    options: Vec<String>,
    verbose: bool,
    /// A store is said to the person who had to log in for it.
    showing: bool,
    /// `vt_<id>`.
    vault: PathBuf,
    /// `bt_<id>`, if no BEARER_TOKEN_FILE says where bearer tokens go.
    bearer: Option<PathBuf>,
}

/// Exit status 1 for whatever goes wrong, usage included, as condor_submit knows it.
pub(crate) async fn storer(args: &Args, verbose: u8) -> Exit {
    match run(args, verbose > 0).await {
        Ok(()) => Exit::Fresh,
        Err(error) => {
            // condor_submit leaves the cursor in the middle of a line
            output::say(&format!("\ncondor_vault_storer: {error:#}"));
            Exit::SomeFailed
        }
    }
}

async fn run(args: &Args, mut verbose: bool) -> anyhow::Result<()> {
    let environment = Environment::of_this_process();
    let condor = condor_config::read(&environment, &Disk);
    let configured = setting(&condor, "SEC_CREDENTIAL_VAULT_STORER_OPTS")?.unwrap_or_default();
    let mut services = Vec::new();
    for word in configured
        .split_whitespace()
        .chain(args.words.iter().map(String::as_str))
    {
        match word {
            "-v" | "-d" | "-vd" | "-dv" => verbose = true,
            option if option.starts_with('-') => bail!("{option} is no option of it; -v and -d are"),
            word => services.push(Request::parse(word)?),
        }
    }
    ensure!(
        !services.is_empty(),
        "no service is named: each is an issuer, optionally followed by underscore and role"
    );
    let mode = variable(env::STORER_MODE);
    if let Some(other) = mode.as_deref().filter(|mode| *mode != "vault") {
        bail!(
            "credentials of Vault are stored here, none of the kind {other}: condor_credential_storer does that"
        );
    }
    let given = setting(&condor, "SEC_CREDENTIAL_GETTOKEN_OPTS")?.unwrap_or_default();
    let mut options = vec!["--like-htgettoken".to_owned()];
    options.extend(environment_words().context("HTGETTOKENOPTS has an open quote")?);
    options.extend(given.split_whitespace().map(str::to_owned));
    let id = variable(env::STORER_ID).unwrap_or_else(|| format!("u{}", rustix::process::geteuid().as_raw()));
    ensure!(
        !id.contains('/'),
        "{} is a part of a file's name, and {id:?} is none",
        env::STORER_ID
    );
    let runtime = variable(env::XDG_RUNTIME_DIR).unwrap_or_else(|| "/tmp".to_owned());
    let mut storer = Storer {
        condor,
        login: environment.user,
        options,
        verbose,
        showing: verbose,
        vault: format!("/tmp/vt_{id}").into(),
        bearer: variable(env::BEARER_TOKEN_FILE)
            .is_none()
            .then(|| format!("{runtime}/bt_{id}").into()),
    };
    for request in &services {
        if mode.is_none() && pool::is_anothers(&storer.condor, request)? {
            storer.say(&format!(
                "Service {} is managed by another credmon; skipping",
                request.service
            ));
            continue;
        }
        ensure!(
            storer.options.len() > 1,
            "Neither SEC_CREDENTIAL_GETTOKEN_OPTS condor value nor $HTGETTOKENOPTS environment set"
        );
        storer.showing = verbose;
        storer.serve(request).await?;
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn beside(stem: &Path, suffix: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push("-");
    name.push(suffix);
    name.into()
}

impl Storer {
    fn say(&self, text: &str) {
        if self.verbose {
            output::say(text);
        }
    }

    async fn serve(&mut self, request: &Request) -> anyhow::Result<()> {
        let service = &request.service;
        let options = Options::of(self.options.iter().cloned().chain(request.words()))?;
        options.usage()?;
        let mut ask = options.ask()?;
        let week = if ask.ttl.as_secs() > NODE_TOKEN_LIMIT {
            WEEK
        } else {
            ask.ttl
        };
        let kept = beside(&self.vault, service);
        ask.ttl = LONG;
        ask.bearer = true;
        ask.last_resort = false;
        ask.source = Source::File(kept.clone());
        let mut new = None;
        let done = self.serve_with(&mut ask, request, &kept, week, &mut new).await;
        if let (Err(_), Some(token)) = (&done, &new) {
            ask.give_back(token).await;
        }
        done
    }

    /// `new` is a login of which nothing is stored yet.
    async fn serve_with(
        &mut self,
        ask: &mut Ask,
        request: &Request,
        kept: &Path,
        week: SignedDuration,
        new: &mut Option<LongToken>,
    ) -> anyhow::Result<()> {
        let service = &request.service;
        let mut got = self.get(ask, request).await?;
        *new = got.login();
        // a credd may want to see the bearer token
        let bearer = self.keep_bearer(&got, service)?;
        let store = Store::open(&self.condor, self.login.as_deref(), ask, bearer).await?;
        if got.token.is_none() && !self.is_stored(&store, request).await? {
            ensure!(
                !kept.exists() || rustix::fs::access(kept, rustix::fs::Access::WRITE_OK).is_ok(),
                "No {service} credentials stored and {} is readonly",
                kept.display()
            );
            self.say(&format!(
                "Not using {} because there are no {service} credentials stored",
                kept.display()
            ));
            ask.source = Source::None;
            got = self.get(ask, request).await?;
            *new = got.login();
            self.keep_bearer(&got, service)?;
        }
        let path = got.path.as_ref().context("nobody says which secret it is")?;
        let less = request.less(ask);
        match &got.token {
            Some(Held::Long(token, life)) => {
                if self.showing {
                    output::say(&format!("Storing condor credentials for {service}"));
                }
                store.put(service, token, &ask.url(path)).await?;
                *new = None;
                self.store_handle(&store, request, &less, token, path).await?;
                let bearer = match &request.handle {
                    Some(_) => Some(less.read(token, path).await?),
                    None => None,
                };
                self.keep_reduced(bearer, request)?;
                self.keep_short(ask, kept, (token, *life), week).await
            }
            Some(Held::Node(_)) => bail!("Vault gave no token that lives long enough to be stored"),
            None => self.add_handle(&store, &less, kept, path, request).await,
        }
    }

    /// Quietly first; then, if that is wanted at all, with somebody in front of a browser.
    async fn get(&mut self, ask: &Ask, request: &Request) -> anyhow::Result<Got> {
        self.say(&format!("Attempting to get tokens for {}", request.service));
        let quiet = Ask {
            ways: Ways {
                browser: false,
                ..ask.ways
            },
            ..ask.clone()
        };
        let error = match obtain(&quiet).await {
            Ok(got) => return Ok(got),
            Err(error) => error,
        };
        self.showing = true;
        // these two are what the Go service looks for in what a storer prints
        output::say(&format!("\nAuthentication needed for {}", request.service));
        let error = if ask.ways.browser {
            let browser = Ask {
                ways: Ways {
                    browser: true,
                    kerberos: false,
                    ssh: false,
                },
                source: Source::None,
                ..ask.clone()
            };
            match obtain(&browser).await {
                Ok(got) => return Ok(got),
                Err(error) => error,
            }
        } else {
            error
        };
        output::say(&format!("htgettoken: {error:#}"));
        Err(anyhow::anyhow!("htgettoken failed"))
    }

    /// Whether the credd needs nothing of a new login.
    async fn is_stored(&self, store: &Store, request: &Request) -> anyhow::Result<bool> {
        self.say(&format!("Checking if {} credentials exist", request.service));
        if !store.has(&request.service, None, &Restriction::default()).await? {
            return Ok(false);
        }
        match &request.handle {
            Some(handle) if Request::needs_its_own(handle) => {
                store
                    .has(&request.service, Some(handle), &request.restriction)
                    .await
            }
            _ => Ok(true),
        }
    }

    async fn store_handle(
        &self,
        store: &Store,
        request: &Request,
        less: &Ask,
        token: &LongToken,
        path: &SecretPath,
    ) -> anyhow::Result<()> {
        let service = &request.service;
        let Some(handle) = &request.handle else {
            return Ok(());
        };
        if self.showing {
            output::say(&format!("Storing condor credentials for {service}_{handle}"));
        }
        let own = Request::needs_its_own(handle).then_some(token);
        store
            .put_handle(service, handle, own, &less.url(path), &request.restriction)
            .await
    }

    /// The base is there: only what a handle adds.
    async fn add_handle(
        &self,
        store: &Store,
        less: &Ask,
        kept: &Path,
        path: &SecretPath,
        request: &Request,
    ) -> anyhow::Result<()> {
        let Some(handle) = &request.handle else {
            return Ok(());
        };
        let (service, restriction) = (&request.service, &request.restriction);
        self.say(&format!("Weakening token for {service}_{handle}"));
        let token = LongToken::new(discovery::read(kept)?)?;
        // nobody has said how long what lies there lives, and a token of a long life is in no second file
        let life = Lifetime::new(Timestamp::now(), less.vault.lookup_self(&token).await?.ttl);
        let short = NodeToken::new(token.expose().to_owned(), life)
            .with_context(|| format!("{} is not copied to {}", kept.display(), self.vault.display()))?;
        let bearer = less.read(&token, path).await?;
        discovery::write_vault(&self.vault, &short)?;
        self.keep_reduced(Some(bearer), request)?;
        self.say(&format!("Checking if {service}_{handle} credentials exist"));
        if !store.has(service, Some(handle), restriction).await? {
            if self.showing {
                output::say(&format!("Storing condor credentials for {service}_{handle}"));
            }
            let url = less.url(path);
            store.put_handle(service, handle, None, &url, restriction).await?;
        }
        Ok(())
    }

    /// What says to the next run that all is well, so it comes last.
    async fn keep_short(
        &self,
        ask: &Ask,
        kept: &Path,
        (token, life): (&LongToken, Lifetime),
        week: SignedDuration,
    ) -> anyhow::Result<()> {
        let child = ask
            .vault
            .create_child(token, life, week, Timestamp::now())
            .await?;
        tell_child(&ask.vault, &child.accessor, child.token.lifetime().until());
        self.say(&format!("Copying {} to {}", kept.display(), self.vault.display()));
        discovery::write_vault(kept, &child.token)?;
        discovery::write_vault(&self.vault, &child.token)
    }

    /// Where the bearer token lies now.
    fn keep_bearer(&self, got: &Got, service: &str) -> anyhow::Result<PathBuf> {
        let bearer = got.bearer.as_ref().context("there is no bearer token")?;
        let Some(stem) = &self.bearer else {
            let file = discovery::bearer_file();
            discovery::write(&file, &bearer.token)?;
            return Ok(file);
        };
        let own = beside(stem, service);
        discovery::write(&own, &bearer.token)?;
        self.say(&format!("Copying bearer token to {}", stem.display()));
        discovery::write(stem, &bearer.token)?;
        Ok(own)
    }

    fn keep_reduced(&self, bearer: Option<Bearer>, request: &Request) -> anyhow::Result<()> {
        match (&self.bearer, bearer, &request.handle) {
            (Some(stem), Some(bearer), Some(handle)) => {
                let file = beside(stem, &format!("{}_{handle}", request.service));
                discovery::write(&file, &bearer.token)
            }
            _ => Ok(()),
        }
    }
}
