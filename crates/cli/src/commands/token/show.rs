//! `mtk token show`.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, anyhow};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use credential::BearerToken;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{Authorities, discovery};
use crate::{Problem, exit::Exit, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file of the token, `-` for standard input; without it BEARER_TOKEN, BEARER_TOKEN_FILE and `bt_u<uid>` are
    /// tried, as WLCG tools do.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// The header as well.
    #[arg(long, short = 'a')]
    header: bool,

    /// Times as dates.
    #[arg(long, short = 'H')]
    human: bool,

    /// Before that, check the signature with the public keys of the issuer that the token names, asked for over https, and
    /// that the token is not over. Whom it is for, and whether that issuer is the right one, are yours to judge.
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    authorities: Authorities,
}

/// Exit status 2 for authorities that nobody would be judged by.
pub(crate) async fn show(args: &Args) -> Result<Exit, Problem> {
    if !args.verify && args.authorities.are_named() {
        return Err(Problem::usage(anyhow!(
            "--cafile and --capath say whose certificates are believed when the issuer is asked, and without --verify \
             nobody is: add --verify, or leave them out"
        )));
    }
    let shown = claims(args).await;
    shown.map(|()| Exit::Fresh).map_err(|error| Problem {
        error,
        exit: Exit::SomeFailed,
    })
}

/// Prints the claims as they stand in the token; its signature never.
async fn claims(args: &Args) -> anyhow::Result<()> {
    let token = match &args.file {
        Some(file) if file.as_os_str() == "-" => {
            BearerToken::new(first_line()?).context("standard input holds no token")?
        }
        Some(file) => BearerToken::new(discovery::read(file)?)
            .with_context(|| format!("{} holds no token", file.display()))?,
        None => discovery::bearer()?,
    };
    if args.verify {
        let claims = token.claims().context("the token is not a JWT")?;
        let tls = tls::client_config(&args.authorities.trust(None))?;
        let keys = vault_client::issuer_keys(&claims.iss, &tls).await?;
        token.verify(&keys, Timestamp::now())?;
    }
    let parts = if args.header { 0..2 } else { 1..2 };
    for part in parts {
        let mut json = part_of(&token, part).context("the token is not a JWT")?;
        if args.human {
            dates(&mut json);
        }
        output::data(&serde_json::to_string_pretty(&json)?);
    }
    Ok(())
}

fn first_line() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(discovery::LONGEST)
        .read_to_string(&mut text)
        .context("standard input cannot be read")?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Header and claims are no secret without the signature.
fn part_of(token: &BearerToken, part: usize) -> Option<Value> {
    let text = token.expose().split('.').nth(part)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// As htdecodetoken -H: every whole number is a time, as date(1) writes it here.
fn dates(json: &mut Value) {
    match json {
        Value::Object(members) => members.values_mut().for_each(dates),
        Value::Array(all) => all.iter_mut().for_each(dates),
        Value::Number(number) => {
            let time = number.as_u64().and_then(|s| i64::try_from(s).ok());
            if let Some(time) = time.and_then(|s| Timestamp::from_second(s).ok()) {
                let here = time.to_zoned_datetime(TimeZone::system());
                *json = here.strftime("%a %b %-d %H:%M:%S %Z %Y").to_string().into();
            }
        }
        _ => {}
    }
}
