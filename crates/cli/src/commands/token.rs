//! `mtk token`: bearer tokens for people and jobs, from a Vault token that lies there already.

mod discovery;
mod get;
mod show;

use std::{ffi::OsString, path::PathBuf};

use crate::{Problem, exit::Exit};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Args {
    /// Read a bearer token with the Vault token of a file, and write it where WLCG tools look for it.
    Get(Box<get::Args>),
    /// Show what a bearer token says of itself; nothing of it is verified.
    Show(show::Args),
    /// Revoke the Vault token and remove both files.
    Destroy(Files),
}

/// Where tokens lie.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    #[command(flatten)]
    server: Server,

    /// The file of the Vault token; without it `/tmp/vt_u<uid>`.
    #[arg(long, value_name = "FILE")]
    vaulttokenfile: Option<PathBuf>,

    /// The file of the bearer token [default: by WLCG bearer token discovery].
    #[arg(long, short, value_name = "FILE")]
    outfile: Option<PathBuf>,
}

/// Which Vault, and how it is recognised.
#[derive(Debug, clap::Args)]
pub(crate) struct Server {
    /// Vault: host, host:port or URL.
    #[arg(long, short = 'a', value_name = "HOST")]
    vaultserver: String,

    /// The name in Vault's certificate, where it is not the host's.
    #[arg(long, value_name = "NAME")]
    vaultcertname: Option<String>,

    /// A file of CA certificates, beside the system's.
    #[arg(long, value_name = "FILE")]
    cafile: Option<PathBuf>,

    /// A directory of CA certificates, as /etc/grid-security/certificates.
    #[arg(long, value_name = "DIR")]
    capath: Option<PathBuf>,
}

impl Server {
    fn client(&self) -> anyhow::Result<vault_client::Client> {
        let trust = tls::Trust {
            system: true,
            ca_file: self.cafile.clone(),
            ca_dir: self.capath.clone(),
            name: self.vaultcertname.clone(),
            ..tls::Trust::default()
        };
        let server = self.vaultserver.parse()?;
        let mut options = vault_client::Options::new(server, tls::client_config(&trust)?);
        options.shared_budget = crate::site::budget_dir();
        Ok(vault_client::Client::new(options)?)
    }
}

/// Puts the words of `HTGETTOKENOPTS` before the options of `mtk token get`, which go before them.
pub(crate) fn with_environment(mut args: Vec<OsString>) -> Vec<OsString> {
    let get = args.windows(2).position(|pair| pair == ["token", "get"]);
    let words = std::env::var(crate::env::HTGETTOKENOPTS).unwrap_or_default();
    if let Some(get) = get {
        args.splice(get + 2..get + 2, words.split_whitespace().map(OsString::from));
    }
    args
}

/// Exit status 1 if there is no token to be had or shown.
pub(crate) async fn token(args: &Args) -> Result<Exit, Problem> {
    let done = match args {
        Args::Get(args) => get::get(args).await,
        Args::Show(args) => show::show(args),
        Args::Destroy(files) => get::destroy(files).await,
    };
    done.map(|()| Exit::Fresh).map_err(|error| Problem {
        error,
        exit: Exit::SomeFailed,
    })
}
