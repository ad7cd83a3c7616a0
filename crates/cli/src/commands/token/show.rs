//! `mtk token show`.

use std::path::PathBuf;

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use credential::BearerToken;
use serde_json::Value;

use super::discovery;
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file of the token; without it BEARER_TOKEN, BEARER_TOKEN_FILE and `bt_u<uid>` are tried, as WLCG tools do.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The header as well.
    #[arg(long, short = 'H')]
    header: bool,
}

/// Prints the claims as they stand in the token; its signature never.
pub(crate) fn show(args: &Args) -> anyhow::Result<()> {
    let token = match &args.file {
        Some(file) => BearerToken::new(discovery::read(file)?)
            .with_context(|| format!("{} holds no token", file.display()))?,
        None => discovery::bearer()?,
    };
    let parts = if args.header { 0..2 } else { 1..2 };
    for part in parts {
        let json = part_of(&token, part).context("the token is not a JWT")?;
        output::data(&serde_json::to_string_pretty(&json)?);
    }
    Ok(())
}

/// Header and claims are no secret without the signature.
fn part_of(token: &BearerToken, part: usize) -> Option<Value> {
    let text = token.expose().split('.').nth(part)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
