//! `mtk token get` and `mtk token destroy`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use credential::LongToken;
use vault_client::{Client, Error, Restriction, SecretPath};

use super::{Files, discovery};
use crate::output;

#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
#[command(
    after_help = "For whoever has a Vault token in a file, as mtk and htgettoken leave it. Options are \
                        htgettoken's (docs/token.md says which). Never asks anybody anything."
)]
pub(crate) struct Args {
    #[command(flatten)]
    files: Files,

    /// The issuer, as Vault calls it.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    issuer: String,

    /// The role at the issuer.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    role: String,

    /// The user part of the secret's path [default: from the file htgettoken keeps it in].
    #[arg(long, value_name = "KEY")]
    credkey: Option<String>,

    /// Where htgettoken keeps credkeys [default: ~/.config/htgettoken].
    #[arg(long, value_name = "DIR")]
    configdir: Option<PathBuf>,

    /// Least life of the bearer token, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    minsecs: u32,

    /// A token that may do only this: scopes, parted by commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
    scopes: Vec<String>,

    /// A token only for these: audiences, parted by commas.
    #[arg(long, value_name = "AUDIENCES", value_delimiter = ',')]
    audience: Vec<String>,

    /// Write no bearer token, only see that the Vault token is good.
    #[arg(long)]
    nobearertoken: bool,

    /// Print the address at which the bearer token is read.
    #[arg(long)]
    showbearerurl: bool,

    /// As htgettoken's --nokerberos, --nooidc and --nossh; no login is ever made here, so it changes nothing.
    #[arg(long = "nokerberos", aliases = ["nooidc", "nossh"], action = clap::ArgAction::Count, hide = true)]
    no_login: u8,
}

impl Args {
    fn path(&self) -> anyhow::Result<SecretPath> {
        let credkey = match &self.credkey {
            Some(credkey) => credkey.clone(),
            None => self.kept_credkey()?,
        };
        Ok(SecretPath::new(&self.issuer, &credkey, &self.role)?)
    }

    fn kept_credkey(&self) -> anyhow::Result<String> {
        let dir = match &self.configdir {
            Some(dir) => dir.clone(),
            None => {
                let home = std::env::var_os(crate::env::HOME).context("HOME is not set: give --configdir")?;
                PathBuf::from(home).join(".config/htgettoken")
            }
        };
        let file = dir.join(format!("credkey-{}-{}", self.issuer, self.role));
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read: give --credkey", file.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// The Vault token of a file. Whatever its life is, it is only presented to its server, so the wider type will do.
fn vault_token(files: &Files) -> anyhow::Result<LongToken> {
    let file = files
        .vaulttokenfile
        .clone()
        .unwrap_or_else(discovery::vault_token_file);
    LongToken::new(discovery::read(&file)?).with_context(|| format!("{} holds no token", file.display()))
}

pub(super) async fn get(args: &Args) -> anyhow::Result<()> {
    let vault = args.files.server.client()?;
    let token = vault_token(&args.files)?;
    let path = args.path()?;
    if args.nobearertoken {
        vault
            .lookup_self(&token)
            .await
            .context("the Vault token is of no use")?;
    } else {
        write_bearer(args, &vault, &token, &path).await?;
    }
    if args.showbearerurl {
        output::data(&vault.bearer_url(&path));
    }
    Ok(())
}

async fn write_bearer(
    args: &Args,
    vault: &Client,
    token: &LongToken,
    path: &SecretPath,
) -> anyhow::Result<()> {
    let bearer = if args.scopes.is_empty() && args.audience.is_empty() {
        vault.bearer(token, path, args.minsecs).await?
    } else {
        let less = Restriction::new(&args.scopes, &args.audience)?;
        vault.bearer_with_less(token, path, &less, args.minsecs).await?
    };
    let file = args.files.outfile.clone().unwrap_or_else(discovery::bearer_file);
    discovery::write(&file, &bearer.token)
}

/// The Vault token dies at its server first, so that a copy of its file is of no use either.
pub(super) async fn destroy(files: &Files) -> anyhow::Result<()> {
    let file = files
        .vaulttokenfile
        .clone()
        .unwrap_or_else(discovery::vault_token_file);
    let bearer = files.outfile.clone().unwrap_or_else(discovery::bearer_file);
    let mut revoked = Ok(());
    if file.exists() {
        let token = vault_token(files)?;
        revoked = match files.server.client()?.revoke_self(&token).await {
            Ok(()) | Err(Error::TokenInvalid { .. }) => Ok(()),
            Err(error) => Err(error),
        };
    }
    // a server that is down is no reason to leave files
    discovery::remove(&file)?;
    discovery::remove(&bearer)?;
    if let Err(error) = revoked {
        bail!("the files are removed, but the Vault token is still good: {error}");
    }
    Ok(())
}
