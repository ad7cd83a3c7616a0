//! What a robot proves itself with at credds: gathered from the places the configuration names.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use config::{CondorAccess, Method, Service};
use credd_client::{ClientCertificate, Credd, CreddAddress, IdToken, Identity, Options};
use credential::{BearerToken, Principal};
use kerberos::{Gss, Ticket};

use crate::failure::{Failure, Stage};

/// Tokens and certificates have some kilobytes.
const LONGEST: u64 = 256 * 1024;

/// More tokens than any host has.
const MOST_FILES: usize = 1000;

/// A robot at credds: who it is there, and how it is told.
#[derive(Debug, Clone)]
pub struct Robot {
    identity: Identity,
    options: Options,
    acts_for: Option<String>,
}

impl Robot {
    /// The robot for `account`. `ticket` is asked only if KERBEROS is among the methods; one that fails is the answer only
    /// if there is nothing else to offer. A method is offered if its means are there.
    ///
    /// # Errors
    /// A client certificate or CA that cannot be used, and nothing to prove anything with.
    pub async fn gather(
        access: &CondorAccess,
        account: &str,
        gss: &Gss,
        options: Options,
        ticket: impl Future<Output = Result<Ticket, Failure>>,
    ) -> Result<Self, Failure> {
        let (user, acts_for) = match &access.super_user {
            Some(robot) => (robot.name.as_str(), Some(account.to_owned())),
            None => (account, None),
        };
        let offers = |method| access.methods.contains(&method);
        let mut identity = Identity::new(user);
        let mut no_ticket = None;
        if offers(Method::Kerberos) {
            match ticket.await {
                Ok(ticket) => identity = Identity::kerberos(ticket, gss.clone(), user),
                Err(failure) => no_ticket = Some(failure),
            }
        }
        if offers(Method::Token) {
            let tokens = access
                .token_directories
                .iter()
                .flat_map(|directory| tokens(directory));
            // those of other robots would only make the daemon take us for them
            let own = tokens.filter(|token| token.subject().split('@').next() == Some(user));
            identity = identity.with_id_tokens(own.collect::<Vec<_>>());
        }
        if offers(Method::SciTokens)
            && let Some(token) = bearer(&access.bearer_files)?
        {
            identity = identity.with_bearer(token);
        }
        if offers(Method::Ssl)
            && let Some(certificate) = &access.certificate
        {
            identity = identity.with_certificate(client_certificate(certificate, access.key.as_deref())?);
        }
        let mut options = Options {
            methods: access
                .methods
                .iter()
                .filter_map(|method| credd_client::Method::from_name(method.name()))
                .collect(),
            ..options
        };
        let unproven = [Method::Fs, Method::ClaimToBe, Method::Anonymous];
        let nothing = identity.kerberos.is_none()
            && identity.id_tokens.is_empty()
            && identity.bearer.is_none()
            && identity.certificate.is_none()
            && !unproven.into_iter().any(offers);
        match no_ticket {
            Some(failure) if nothing => return Err(failure),
            None if nothing => return Err(nothing_to_offer(access, user)),
            Some(failure) => {
                tracing::warn!(%user, why = failure.text, "no ticket: credds are offered the other methods");
            }
            None => {}
        }
        if identity.bearer.is_some() || identity.certificate.is_some() {
            options.tls = Some(trust(access)?);
        }
        Ok(Self {
            identity,
            options,
            acts_for,
        })
    }

    /// How it asks collectors: those that want to know who asks are told.
    #[must_use]
    pub fn reads(&self) -> Options {
        Options {
            reader: Some(self.identity.clone()),
            ..self.options.clone()
        }
    }

    /// This robot at a credd.
    #[must_use]
    pub fn at(&self, address: CreddAddress) -> Credd {
        Credd::new(address, self.identity.clone(), self.options.clone()).acting_for(self.acts_for.clone())
    }
}

/// Who gets the ticket for credds: the super user's principal and keytab, or the service's own.
#[must_use]
pub fn principal(service: &Service) -> (&Path, &Principal) {
    let robot = service.condor.super_user.as_ref();
    match robot.and_then(|robot| Some((robot.keytab.as_deref()?, robot.principal.as_ref()?))) {
        Some(other) => other,
        None => (&service.keytab, &service.principal),
    }
}

fn wrong(kind: &str, peer: &Path, text: impl Into<String>) -> Failure {
    Failure::text(Stage::Configuration, kind, peer.display().to_string(), text)
}

fn nothing_to_offer(access: &CondorAccess, user: &str) -> Failure {
    let methods: Vec<&str> = access.methods.iter().map(|method| method.name()).collect();
    let places: Vec<String> = access
        .token_directories
        .iter()
        .chain(&access.bearer_files)
        .map(|path| path.display().to_string())
        .collect();
    let text = format!(
        "of the methods {} there is none with what it needs to be {user} at credds: no token of the pool or bearer token in {}, {} \
         client certificate",
        methods.join(", "),
        if places.is_empty() {
            "any place".to_owned()
        } else {
            places.join(", ")
        },
        if access.certificate.is_some() {
            "and SSL with its"
        } else {
            "no"
        },
    );
    Failure::text(Stage::Configuration, "nothing-to-prove-it", user, text)
}

fn trust(access: &CondorAccess) -> Result<std::sync::Arc<tls::ClientConfig>, Failure> {
    let trust = tls::Trust {
        system: true,
        ca_file: access.ca_file.clone(),
        ca_dir: access.ca_dir.clone(),
        ..tls::Trust::default()
    };
    tls::client_config(&trust)
        .map_err(|error| Failure::new(Stage::Configuration, "the CAs of credds", &error, false))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other("it is too long"));
    }
    Ok(bytes)
}

fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::other("it is no text"))
}

/// Files that others may read or write are no secrets.
fn is_ours(path: &Path) -> bool {
    let mode = std::fs::metadata(path).map(|meta| meta.mode());
    let closed = mode.is_ok_and(|mode| mode & 0o077 == 0);
    if !closed {
        tracing::warn!(file = %path.display(), "others may read this file: the token in it is not used (chmod 0600)");
    }
    closed
}

/// The tokens of a directory, file by file in the order of their names, a token on each line.
fn tokens(directory: &Path) -> Vec<IdToken> {
    let mut files: Vec<PathBuf> = match std::fs::read_dir(directory) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                path.is_file() && name.is_some_and(|name| !name.starts_with('.') && !name.ends_with('~'))
            })
            .take(MOST_FILES)
            .collect(),
        Err(error) => {
            if error.kind() == io::ErrorKind::NotFound {
                tracing::debug!(directory = %directory.display(), "no tokens of a pool");
            } else {
                tracing::warn!(directory = %directory.display(), %error, "the tokens of a pool cannot be read");
            }
            return Vec::new();
        }
    };
    files.sort();
    let mut all = Vec::new();
    for file in files.iter().filter(|file| is_ours(file)) {
        let text = match text(file) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a token cannot be read");
                continue;
            }
        };
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match IdToken::parse(line) {
                Ok(token) => all.push(token),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "a line is no token of a pool");
                }
            }
        }
    }
    all
}

/// The first of the files that is there.
fn bearer(files: &[PathBuf]) -> Result<Option<BearerToken>, Failure> {
    for file in files {
        let mut text = match text(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(wrong("bearer-token", file, format!("it cannot be read: {error}"))),
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => text,
        };
        if !is_ours(file) {
            continue;
        }
        text.truncate(text.trim_end().len());
        let token = BearerToken::new(text).map_err(|error| wrong("bearer-token", file, error.to_string()))?;
        return Ok(Some(token));
    }
    Ok(None)
}

fn client_certificate(certificate: &Path, key: Option<&Path>) -> Result<ClientCertificate, Failure> {
    let read = |path: &Path| {
        let failed = |error| wrong("client-certificate", path, format!("it cannot be read: {error}"));
        read(path).map_err(failed)
    };
    let key = key.unwrap_or(certificate);
    if !is_ours(key) {
        return Err(wrong(
            "client-certificate",
            key,
            "others may read this key, or it is not there: chmod 0600",
        ));
    }
    ClientCertificate::from_pem(&read(certificate)?, &read(key)?).map_err(|error| {
        Failure::new(
            Stage::Configuration,
            certificate.display().to_string(),
            &error,
            false,
        )
    })
}
