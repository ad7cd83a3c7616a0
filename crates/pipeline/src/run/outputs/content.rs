//! What outputs hold: the node token, bearer tokens read with it, files made by somebody else.

use std::{
    collections::BTreeMap,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Content, Output, Service};
use credential::{Foreign, Lifetime, SecretBytes, VaultToken};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use state::{KeptBearer, ServiceKey};
use vault_client::Restriction;

use super::{Giver, Prepared, Token};
use crate::{
    failure::{Failure, Stage},
    ledger::Ending,
    plan::{self, HeldOutput, Reason},
    report::{Outcome, Target},
    retry::retry_beside,
    run::{PROOF_SECONDS, World, known::Kept, secret_path},
};

/// Under which place the state has the bearer tokens themselves: no node can be called that.
pub(crate) const BEARER_PLACE: &str = "@vault";

/// The kind of a failure that is none: a plan goes no further.
pub(crate) const PLANNED: &str = "planned";

/// An output's content in hand.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) content: SecretBytes,
    /// When it ends, if it does or says so.
    pub(crate) expires: Option<Timestamp>,
    /// The accessor of a Vault token, empty for all else.
    pub(crate) accessor: String,
    /// What somebody should know about it.
    pub(crate) warning: Option<String>,
}

impl Ready {
    pub(crate) fn vault_token(kept: &Kept) -> Self {
        Self {
            content: SecretBytes::from(format!("{}\n", kept.token.expose())),
            expires: Some(kept.until()),
            accessor: kept.accessor.clone(),
            warning: None,
        }
    }

    fn bearer(kept: &KeptBearer) -> Self {
        Self {
            content: SecretBytes::from(format!("{}\n", kept.token.expose())),
            expires: Some(kept.lifetime.until()),
            accessor: String::new(),
            warning: None,
        }
    }
}

impl Ready {
    /// What stands for a token that is not there yet, in a plan.
    pub(crate) fn nothing() -> Self {
        Self {
            content: String::new().into(),
            expires: None,
            accessor: String::new(),
            warning: None,
        }
    }

    pub(crate) fn of_role(service: &Service) -> Self {
        Self {
            content: service.role_file_content().into(),
            expires: None,
            accessor: String::new(),
            warning: None,
        }
    }
}

/// What a token may do, as the text that tells one of a service's tokens from another.
fn what(scopes: &[String], audiences: &[String]) -> String {
    format!("scopes={} audiences={}", scopes.join(","), audiences.join(","))
}

/// All bearer tokens the service's outputs want, each kind read once.
pub(super) async fn bearers(giver: &Giver, token: &Token) -> Vec<Prepared> {
    let mut kinds: BTreeMap<String, Vec<(usize, &Output)>> = BTreeMap::new();
    for (index, output) in giver.which(|content| matches!(content, Content::Bearer { .. })) {
        if let Content::Bearer { scopes, audiences } = &output.content {
            kinds
                .entry(what(scopes, audiences))
                .or_default()
                .push((index, output));
        }
    }
    let each = kinds.iter().map(|(what, outputs)| async move {
        let ready = one_kind(giver, what, outputs, token).await;
        outputs
            .iter()
            .map(|(i, _)| (*i, ready.clone()))
            .collect::<Vec<Prepared>>()
    });
    join_all(each).await.into_iter().flatten().collect()
}

/// One kind of bearer token, for all outputs that hold it: kept while it lives long enough, else read anew.
async fn one_kind(
    giver: &Giver,
    what: &str,
    outputs: &[(usize, &Output)],
    token: &Token,
) -> Result<Ready, Failure> {
    let (world, key) = (&giver.world, &giver.known.key);
    let kept = world.state.bearer_token(key, what).unwrap_or_else(|error| {
        // what is damaged or not ours alone holds no token for us; a new one takes its place
        tracing::warn!(service = %giver.service.id, %error, "a bearer token in the state directory is not used");
        None
    });
    let minimum = outputs.iter().map(|(_, o)| o.minimum).max().unwrap_or_default();
    let now = Timestamp::now();
    let due = plan::bearer_due(kept.as_ref().map(|k| k.lifetime), signed(minimum), now);
    let alive = kept.filter(|k| k.lifetime.until() > now);
    let end = |ending: &dyn Fn() -> Ending| {
        for (_, output) in outputs {
            let target = Target::Bearer {
                output: output.name.clone(),
            };
            world.ledger.end(giver.index, target, ending());
        }
    };
    let (reason, before) = match (due, alive) {
        (None, Some(kept)) => {
            let until = Some(kept.lifetime.until());
            end(&|| Ending::new(Outcome::Fresh).until(until));
            return Ok(Ready::bearer(&kept));
        }
        (reason, before) => (reason.unwrap_or(Reason::NoBearer), before),
    };
    let until = before.as_ref().map(|k| k.lifetime.until());
    if world.request.dry_run {
        end(&|| Ending::new(Outcome::Due).because(Some(&reason)).until(until));
        return Err(Failure::text(Stage::Bearer, PLANNED, "", "a new bearer token"));
    }
    match read(giver, what, outputs, token, minimum).await {
        Ok(kept) => {
            let until = Some(kept.lifetime.until());
            remember(giver, outputs, &kept).await;
            end(&|| Ending::new(Outcome::Done).because(Some(&reason)).until(until));
            Ok(Ready::bearer(&kept))
        }
        Err(failure) => {
            end(&|| {
                Ending::failed(failure.clone())
                    .because(Some(&reason))
                    .until(until)
            });
            // what is still good stays where it is, and is put back where it got lost
            before.map(|kept| Ready::bearer(&kept)).ok_or(failure)
        }
    }
}

async fn read(
    giver: &Giver,
    what: &str,
    outputs: &[(usize, &Output)],
    token: &Token,
    minimum: Duration,
) -> Result<KeptBearer, Failure> {
    let (world, service) = (&giver.world, &giver.service);
    let kept = token.as_ref().map_err(Clone::clone)?;
    let server = service.vault_server.clone();
    let failed = |e: &vault_client::Error| Failure::new(Stage::Bearer, server.clone(), e, e.retryable());
    let restriction = match outputs.first().map(|(_, o)| &o.content) {
        Some(Content::Bearer { scopes, audiences }) if !(scopes.is_empty() && audiences.is_empty()) => {
            Some(Restriction::new(scopes, audiences).map_err(|e| failed(&e))?)
        }
        _ => None,
    };
    let path = secret_path(service)?;
    let vault = world
        .vault(&service.vault_server)?
        .in_turn_of(giver.known.first_end(service.store, true));
    let seconds = u32::try_from(minimum.as_secs()).unwrap_or(u32::MAX);
    let ask = |seconds| {
        let (vault, path, restriction) = (&vault, &path, &restriction);
        async move {
            match restriction {
                Some(less) => vault.bearer_with_less(&kept.token, path, less, seconds).await,
                None => vault.bearer(&kept.token, path, seconds).await,
            }
        }
    };
    let bearer = retry_beside(world.login_budget, &world.stop, || vault.waited(), || async {
        match ask(seconds).await {
            // an issuer whose tokens live shorter than is wanted: the best there is, renewed when half of it is over
            Err(vault_client::Error::TokenExpired400 { .. }) if seconds > PROOF_SECONDS => {
                let bearer = ask(PROOF_SECONDS).await;
                tracing::warn!(service = %service.id, minimum = seconds, "the issuer's tokens do not live as long as minimumLifetime asks");
                bearer
            }
            other => other,
        }
        .map_err(|e| failed(&e))
    })
    .await?;
    let now = Timestamp::now();
    // one that says of no end is read anew at every run
    let until = bearer.expires.unwrap_or(now);
    let kept = KeptBearer {
        token: bearer.token,
        lifetime: Lifetime::between(now, until),
    };
    world
        .state
        .save_bearer_token(&giver.known.key, what, &kept)
        .map_err(|e| Failure::new(Stage::State, "the state directory", &e, false))?;
    Ok(kept)
}

/// For `mtk status`: how long what was read lives, whatever becomes of it.
async fn remember(giver: &Giver, outputs: &[(usize, &Output)], kept: &KeptBearer) {
    let state = &giver.world.state;
    for (_, output) in outputs {
        let record = state::Push {
            service: giver.known.key.clone(),
            node: BEARER_PLACE.to_owned(),
            path: output.name.clone(),
            kind: "bearer-token".to_owned(),
            accessor: String::new(),
            digest: state.digest(kept.token.expose().as_bytes()),
            pushed_at: Timestamp::now(),
            expires: Some(kept.lifetime.until()),
        };
        giver.world.remember(state.record_push(&record).await);
    }
}

fn signed(d: Duration) -> SignedDuration {
    SignedDuration::try_from(d).unwrap_or(SignedDuration::MAX)
}

/// Why a file made elsewhere is not given out. All of it is for whoever makes that file.
#[derive(Debug, thiserror::Error)]
enum NotUsable {
    #[error("{path} cannot be read")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path} is not a plain file")]
    NotAFile { path: String },
    #[error(
        "{path} may be written by others than its owner (mode {mode:04o}): anybody could have put it there; take that from them (chmod go-w)"
    )]
    OpenToOthers { path: String, mode: u32 },
    #[error("{path} has {size} bytes; from 1 to {} are given out", distribute::MAX_FILE)]
    Size { path: String, size: u64 },
    #[error(
        "{path} ended at {at}: whoever makes it has to renew it; what was given out before is left as it is"
    )]
    Ended { path: String, at: Timestamp },
}

/// How long reading a file of this host may take, which may lie on a file server.
const READING: Duration = Duration::from_secs(10);

/// The outputs that are files made by somebody else.
pub(super) async fn files(giver: &Giver) -> Vec<Prepared> {
    let each = giver
        .which(|content| matches!(content, Content::File { .. }))
        .filter_map(|(index, output)| match &output.content {
            Content::File { source } => Some((index, source.clone(), output.minimum)),
            _ => None,
        })
        .map(|(index, source, minimum)| async move { (index, in_time(source, minimum).await) });
    join_all(each).await
}

async fn in_time(source: PathBuf, minimum: Duration) -> Result<Ready, Failure> {
    let place = source.display().to_string();
    let reading = tokio::task::spawn_blocking(move || file(&source, minimum));
    match tokio::time::timeout(READING, reading).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => Err(Failure::text(
            Stage::Source,
            "unreadable",
            place,
            error.to_string(),
        )),
        Err(_) => {
            let text = format!("{place} could not be read within {} s", READING.as_secs());
            Err(Failure::text(Stage::Source, "timed-out", place, text))
        }
    }
}

/// A file made by somebody else, as it is, with the end it tells of.
fn file(source: &Path, minimum: Duration) -> Result<Ready, Failure> {
    let failed = |e: &NotUsable| {
        let passing = matches!(e, NotUsable::Ended { .. } | NotUsable::Unreadable { .. });
        Failure::new(Stage::Source, source.display().to_string(), e, passing)
    };
    let content = read_source(source).map_err(|e| failed(&e))?;
    let found = Foreign::of(content.expose());
    let path = || source.display().to_string();
    let now = Timestamp::now();
    let warning = match found.expires() {
        Some(at) if at <= now => return Err(failed(&NotUsable::Ended { path: path(), at })),
        Some(at) if at.duration_since(now) < signed(minimum) => {
            let left = crate::words::span(at.duration_since(now));
            Some(format!("{} ends in {left}: renew it there", path()))
        }
        _ => None,
    };
    Ok(Ready {
        content,
        expires: found.expires(),
        accessor: String::new(),
        warning,
    })
}

fn read_source(source: &Path) -> Result<SecretBytes, NotUsable> {
    let path = || source.display().to_string();
    let unreadable = |error| NotUsable::Unreadable {
        path: path(),
        source: error,
    };
    // not to wait for a pipe's writer
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = std::fs::File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(source);
    let file = opened.map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(NotUsable::NotAFile { path: path() });
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(NotUsable::OpenToOthers { path: path(), mode });
    }
    let limit = u64::try_from(distribute::MAX_FILE).unwrap_or(u64::MAX);
    let fits = |size: u64| match (1..=limit).contains(&size) {
        true => Ok(()),
        false => Err(NotUsable::Size { path: path(), size }),
    };
    fits(about.len())?;
    let mut content = Vec::with_capacity(distribute::MAX_FILE + 1);
    let read = file.take(limit + 1).read_to_end(&mut content);
    let content = SecretBytes::new(content);
    read.map_err(unreadable)?;
    // whoever makes it may have been at it meanwhile: what was cut short or emptied is not given out
    fits(u64::try_from(content.len()).unwrap_or(u64::MAX))?;
    Ok(content)
}

/// What an output should hold by what is in hand, without asking anybody; `None` if that is not known.
pub(crate) fn held(
    world: &World,
    service: &Service,
    key: &ServiceKey,
    output: &Output,
) -> Option<SecretBytes> {
    match &output.content {
        Content::VaultToken => {
            let token = world.state.node_token(key).ok().flatten()?;
            Some(SecretBytes::from(format!("{}\n", token.expose())))
        }
        Content::Bearer { scopes, audiences } => {
            let kept = world
                .state
                .bearer_token(key, &what(scopes, audiences))
                .ok()
                .flatten()?;
            Some(Ready::bearer(&kept).content)
        }
        Content::File { source } => read_source(source)
            .inspect_err(|error| tracing::debug!(service = %service.id, %error, "an output's source"))
            .ok(),
    }
}

/// What an output would hold now, for the planner; `None` if there is no bearer token yet, or if it holds the node
/// token.
pub(crate) async fn in_hand(
    world: &World,
    service: &Service,
    key: &ServiceKey,
    output: &Output,
) -> Result<Option<HeldOutput>, Failure> {
    let digest = |content: &SecretBytes| world.state.digest(content.expose());
    match &output.content {
        Content::VaultToken => Ok(None),
        Content::Bearer { scopes, audiences } => {
            let kept = world.state.bearer_token(key, &what(scopes, audiences));
            let kept = kept.unwrap_or_else(|error| {
                tracing::warn!(service = %service.id, %error, "a bearer token in the state directory is not used");
                None
            });
            Ok(kept.map(|kept| HeldOutput {
                life: Some(kept.lifetime),
                digest: digest(&Ready::bearer(&kept).content),
            }))
        }
        Content::File { source } => {
            let ready = in_time(source.clone(), output.minimum).await?;
            let digest = digest(&ready.content);
            Ok(Some(HeldOutput { life: None, digest }))
        }
    }
}

/// Forgets the bearer tokens kept for a service's outputs.
pub(crate) fn forget_bearers(world: &World, service: &Service, key: &ServiceKey) {
    for output in &service.outputs {
        if let Content::Bearer { scopes, audiences } = &output.content {
            world.remember(world.state.remove_bearer_token(key, &what(scopes, audiences)));
        }
    }
}

#[cfg(test)]
mod tests;
