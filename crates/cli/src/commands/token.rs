//! `mtk token`: bearer tokens for people and jobs, from whatever they have.

mod destroy;
pub(crate) mod discovery;
mod get;
pub(crate) mod obtain;
pub(crate) mod options;
mod show;

pub(crate) use discovery::bearer_files;

use std::{ffi::OsString, path::PathBuf};

use anyhow::Context;
use credential::VaultToken;
use credential::act::{Act, Verb, digest_of_line, tell};
use jiff::Timestamp;
use vault_client::Places;

use crate::{Problem, called::as_htgettokens, exit::Exit};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Get a bearer token, and write it where WLCG tools look for it.
    Get(Box<options::Args>),
    /// Show what a bearer token says of itself; nothing of it is verified unless asked (--verify).
    Show(show::Args),
    /// Revoke the Vault token and remove both files.
    Destroy(Box<destroy::Args>),
}

/// Which Vault, and how it is recognised.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Server {
    /// Vault: host, host:port or URL.
    #[arg(long, short = 'a', value_name = "HOST")]
    vaultserver: Option<String>,

    /// The name Vault's Kerberos service and redirect addresses have, where it is not the host's: that of a cluster.
    #[arg(long, value_name = "HOST")]
    vaultalias: Option<String>,

    /// The name in Vault's certificate, where it is not the host's.
    #[arg(long, value_name = "NAME")]
    vaultcertname: Option<String>,

    #[command(flatten)]
    authorities: Authorities,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, clap::Args)]
struct Authorities {
    /// A file of CA certificates, in place of the system's.
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,

    /// A directory of CA certificates [default: X509_CERT_DIR, else /etc/grid-security/certificates if it is there].
    #[arg(long, value_name = "DIR")]
    capath: Option<PathBuf>,
}

/// Where grid tools have their CA certificates.
const GRID_CERTIFICATES: &str = "/etc/grid-security/certificates";

impl Authorities {
    /// Whether any is named on the command line; what the environment names is there for every program.
    fn are_named(&self) -> bool {
        self.cafile.is_some() || self.capath.is_some()
    }

    fn ca_dir(&self) -> Option<PathBuf> {
        let usual = || Some(PathBuf::from(GRID_CERTIFICATES)).filter(|dir| dir.is_dir());
        let environment = || std::env::var_os(crate::env::X509_CERT_DIR).filter(|dir| !dir.is_empty());
        self.capath
            .clone()
            .or_else(|| environment().map(PathBuf::from))
            .or_else(usual)
    }

    /// With `name` where the certificate has another than the host's.
    fn trust(&self, name: Option<String>) -> tls::Trust {
        tls::Trust {
            // a file that is named stands in for the system's, as for htgettoken
            system: self.cafile.is_none(),
            ca_file: self.cafile.clone(),
            ca_dir: self.ca_dir(),
            name,
            ..tls::Trust::default()
        }
    }
}

impl Server {
    pub(crate) fn is_named(&self) -> bool {
        self.vaultserver.is_some()
    }

    pub(crate) fn name(&self) -> anyhow::Result<&str> {
        self.vaultserver
            .as_deref()
            .context("no Vault server is named: give -a or --vaultserver")
    }

    pub(crate) fn client(&self, places: Places) -> anyhow::Result<vault_client::Client> {
        let trust = self.authorities.trust(self.vaultcertname.clone());
        let server = self.name()?.parse()?;
        let mut options = vault_client::Options::new(server, tls::client_config(&trust)?);
        options.alias = self.vaultalias.clone();
        options.places = places;
        options.shared_budget = crate::site::budget_dir();
        Ok(vault_client::Client::new(options)?)
    }
}

/// For whoever keeps an audit log: a Vault token was revoked whose accessor nobody said.
pub(crate) fn tell_revoked(
    vault: &vault_client::Client,
    token: &dyn VaultToken,
    done: &Result<(), vault_client::Error>,
) {
    let server = vault.server().to_string();
    // the digest is all that leaves here
    let act = Act::new(Verb::Revoke, &server).digest(digest_of_line(token.expose()));
    tell(&match done {
        Ok(()) => act,
        Err(error) => act.failed(error),
    });
}

/// The same: a child of a Vault token was made.
pub(crate) fn tell_child(vault: &vault_client::Client, accessor: &str, expires: Timestamp) {
    let server = vault.server().to_string();
    let act = Act::new(Verb::Child, &server).accessor(accessor);
    tell(&act.expires(Some(expires)));
}

/// The words of `HTGETTOKENOPTS`, as a shell parts them.
pub(crate) fn environment_words() -> Option<Vec<String>> {
    shlex::split(&std::env::var(crate::env::HTGETTOKENOPTS).unwrap_or_default())
}

/// Puts the words of `HTGETTOKENOPTS` before the options of `mtk token get`, which go before them.
pub(crate) fn with_environment(args: Vec<OsString>) -> Vec<OsString> {
    // what cannot be parted is left as a word that no option has, so that it is said
    let words = || environment_words().unwrap_or_else(|| vec!["HTGETTOKENOPTS-has-an-open-quote".to_owned()]);
    with_words(args, words)
}

fn with_words(mut args: Vec<OsString>, words: impl FnOnce() -> Vec<String>) -> Vec<OsString> {
    if let Some(behind) = behind_token_get(&args) {
        let words = words().into_iter().map(|word| as_htgettokens(word.into()));
        args.splice(behind..behind, words);
    }
    args
}

/// Where the options of `mtk token get` begin, if that is the command: mtk's own may stand before and between its words.
fn behind_token_get(args: &[OsString]) -> Option<usize> {
    let mut wanted = ["token", "get"].into_iter();
    let mut words = args.iter().enumerate().skip(1);
    let mut next = wanted.next();
    while let Some((at, word)) = words.next() {
        match word.to_str()? {
            "--config" | "--state-dir" | "--log-format" => {
                words.next();
            }
            // -c, also behind -v: its value is the next word
            short if short.starts_with('-') && short.trim_start_matches(['-', 'v']) == "c" => {
                words.next();
            }
            option if option.starts_with('-') => {}
            word if Some(word) == next => {
                next = wanted.next();
                if next.is_none() {
                    return Some(at + 1);
                }
            }
            _ => return None,
        }
    }
    None
}

/// Exit status 1 if there is no token to be had or shown.
pub(crate) async fn token(args: &Args) -> Result<Exit, Problem> {
    let done = match args {
        Args::Get(args) => return get::get(args).await,
        Args::Show(args) => return show::show(args).await,
        Args::Destroy(args) => destroy::destroy(args).await,
    };
    done.map(|()| Exit::Fresh).map_err(|error| Problem {
        error,
        exit: Exit::SomeFailed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn htgettokens_words_go_to_token_get_and_nowhere_else() {
        let of = |line: &str| {
            let args = line.split(' ').map(OsString::from).collect();
            with_words(args, || vec!["-c".to_owned(), "/x".to_owned(), "-c/y".to_owned()])
                .join(" ".as_ref())
                .into_string()
                .unwrap()
        };
        for (before, behind) in [
            ("mtk token get", " -a v"),
            ("mtk token -v get", ""),
            ("mtk -vc token --log-format json token --as-root get", " -i x"),
            ("mtk --config=token --state-dir get token get", ""),
        ] {
            assert_eq!(
                of(&format!("{before}{behind}")),
                format!("{before} --configdir /x --configdir=/y{behind}")
            );
        }
        for other in [
            "mtk",
            "mtk token show get",
            "mtk storer token get",
            "mtk config show --service token get",
            "mtk -c token get",
        ] {
            assert_eq!(of(other), other);
        }
    }
}
