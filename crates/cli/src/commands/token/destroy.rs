//! `mtk token destroy`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use credential::LongToken;
use vault_client::{Error, Places};

use super::{Server, discovery, options};
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: Server,

    /// The file of the Vault token [default: VAULT_TOKEN_FILE, else /tmp/vt_u%uid].
    #[arg(long, value_name = "FILE")]
    vaulttokenfile: Option<PathBuf>,

    /// The file of the bearer token [default: by WLCG bearer token discovery].
    #[arg(long, short, value_name = "FILE")]
    outfile: Option<PathBuf>,

    /// The refresh token as well: nobody reads bearer tokens there until somebody logs in with a browser again.
    #[arg(long, short = 'f', requires_all = ["issuer", "credkey"])]
    refresh_token: bool,

    /// The issuer, as Vault calls it; for --refresh-token.
    #[arg(long, short, value_name = "NAME")]
    issuer: Option<String>,

    /// The role at the issuer; for --refresh-token.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    role: String,

    /// The user part of the secret's path; for --refresh-token.
    #[arg(long, value_name = "KEY")]
    credkey: Option<String>,

    /// As htdestroytoken: every /tmp/vt_u%uid-... of ours as well. Those of mode 0400 are a robot's and shared by all
    /// nodes, so they are removed here and not revoked.
    #[arg(long)]
    all: bool,

    /// Do not say what is removed.
    #[arg(long, short)]
    quiet: bool,
}

/// The Vault token dies at its server first, so that a copy of its file is of no use either.
pub(super) async fn destroy(args: &Args) -> anyhow::Result<()> {
    let server = args.server.or_of_environment();
    let file = args
        .vaulttokenfile
        .clone()
        .unwrap_or_else(discovery::vault_token_file_or_variable);
    let mut files = vec![file];
    if args.all {
        files.extend(discovery::other_vault_token_files().context("/tmp cannot be read")?);
    }
    // one file that stays is no reason to leave the others
    let (mut alive, mut stays) = (Vec::new(), Vec::new());
    for file in files {
        if !file.exists() {
            continue;
        }
        if server.is_named() {
            // a server that is down is no reason to leave files
            if let Err(error) = kill(args, &server, &file).await {
                alive.push(format!("{}: {error:#}", file.display()));
            }
        } else {
            alive.push(format!("{}: no Vault server is named (-a)", file.display()));
        }
        stays.extend(remove(args, &file).err());
    }
    stays.extend(remove(args, &args.outfile.clone().unwrap_or_else(discovery::bearer_file)).err());
    let stays: Vec<String> = stays.iter().map(|error| format!("{error:#}")).collect();
    if alive.is_empty() {
        ensure!(stays.is_empty(), stays.join("; "));
        return Ok(());
    }
    let removed = if stays.is_empty() {
        "the files are removed".to_owned()
    } else {
        stays.join("; ")
    };
    let text = format!("{removed}, but Vault tokens are still good: {}", alive.join("; "));
    if server.is_named() || !stays.is_empty() {
        bail!(text);
    }
    // as htdestroytoken, which never revokes
    if !args.quiet {
        output::warn(&text);
    }
    Ok(())
}

async fn kill(args: &Args, server: &Server, file: &Path) -> anyhow::Result<()> {
    let shared = args.all && discovery::is_managed(file);
    let token = LongToken::new(discovery::read(file)?).context("it holds no token")?;
    let vault = server.client(Places::default())?;
    if args.refresh_token
        && let (Some(issuer), Some(credkey)) = (&args.issuer, &args.credkey)
    {
        let path = vault_client::SecretPath::new(issuer, credkey, &args.role)?;
        vault.forget(&token, &path).await?;
    }
    if shared {
        return Ok(());
    }
    let revoked = vault.revoke_self(&token).await;
    // the same digest as that of the file when it was written
    super::tell_revoked(&vault, &token, &revoked);
    match revoked {
        Ok(()) | Err(Error::TokenInvalid { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn remove(args: &Args, path: &Path) -> anyhow::Result<()> {
    if discovery::remove(path)? && !args.quiet {
        output::say(&format!("removed {}", path.display()));
    }
    Ok(())
}

impl Server {
    /// What was typed, else what `HTGETTOKENOPTS` says.
    fn or_of_environment(&self) -> Self {
        if self.is_named() {
            return self.clone();
        }
        let words = super::environment_words().unwrap_or_default();
        options::Args::of(words).map_or_else(|_| self.clone(), |args| args.server)
    }
}
