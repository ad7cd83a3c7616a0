//! `mtk onboard`: a person agrees once, and the robot reads bearer tokens from then on.

use std::{io::IsTerminal, time::Duration};

use jiff::SignedDuration;
use pipeline::{Audience, Failure, Invitation, Onboarded, span};
use qrcode::{QrCode, render::unicode::Dense1x2};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::run::{lock_in_time, open};
use crate::{Problem, args::Cli, exit::Exit, output, site};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints an address to open in any browser, on any machine, and waits. Who agrees there must be \
                        allowed to act for the robot's account. Vault keeps what comes of it; nothing of it stays here."
)]
pub(crate) struct Args {
    /// The service: experiment_role as configured, or its name at HTCondor.
    #[arg(value_name = "SERVICE")]
    service: String,

    /// How long to wait for somebody to agree, and before that for another mtk to end, in seconds. Vault forgets a login
    /// after 600.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=3600))]
    wait: u64,

    /// Print one JSON object a line, as things happen, for web front ends (docs/onboarding.md).
    #[arg(long)]
    json: bool,

    /// No QR code, also on a terminal.
    #[arg(long)]
    no_qr: bool,
}

/// Exit status 1 if the robot cannot read bearer tokens afterwards, or reads them with less than the role should have.
pub(crate) async fn onboard(cli: &Cli, args: &Args) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let service = site::service(&site, &args.service)?;
    let dir = site::state_dir(cli, &site);
    // for the opening only: nobody is kept out while a person makes up their mind
    let patience = SignedDuration::try_from(Duration::from_secs(args.wait)).ok();
    let lock = lock_in_time(&dir, patience).await?;
    let state = open(&dir).await?;
    drop(lock);
    let (stopper, stop) = pipeline::stop_pair();
    let mut term = signal(SignalKind::terminate()).map_err(Problem::usage)?;
    let mut int = signal(SignalKind::interrupt()).map_err(Problem::usage)?;
    let listener = tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stopper.stop();
        std::future::pending::<()>().await;
    });
    let mut watcher = Watcher {
        json: args.json,
        qr: !args.no_qr && !args.json && std::io::stdout().is_terminal(),
    };
    let patience = Duration::from_secs(args.wait);
    let outcome = pipeline::onboard(&site, state.clone(), service, patience, &mut watcher, stop).await;
    listener.abort();
    state.close().await;
    Ok(match outcome {
        Ok(done) => {
            watcher.done(&done);
            if done.missing.is_empty() {
                Exit::Fresh
            } else {
                Exit::SomeFailed
            }
        }
        Err(failure) => {
            watcher.failed(&failure);
            Exit::SomeFailed
        }
    })
}

struct Watcher {
    json: bool,
    qr: bool,
}

impl Audience for Watcher {
    fn invite(&mut self, invitation: &Invitation) {
        if self.json {
            return output::event(&json!({"event": "open", "invitation": invitation}));
        }
        foretell(invitation);
        let mut text = format!(
            "To let {} read bearer tokens, open this address within {} and agree there as {} (or whoever may act for it \
             at Vault):\n\n  {}\n",
            invitation.credkey,
            span(jiff::SignedDuration::from_secs(
                i64::try_from(invitation.seconds).unwrap_or(i64::MAX)
            )),
            invitation.person,
            invitation.address
        );
        if let Some(code) = &invitation.code {
            text.push_str(&format!("\nThe code there is {code}\n"));
        }
        if invitation.browser_goes_to_vault {
            text.push_str("\nThe browser must be able to reach Vault.\n");
        }
        if self.qr
            && let Ok(code) = QrCode::new(&invitation.address)
        {
            text.push_str(&format!(
                "\n{}\n",
                code.render::<Dense1x2>().quiet_zone(true).build()
            ));
        }
        output::data(&text);
    }

    fn agreed(&mut self, person: &str) {
        if self.json {
            output::event(&json!({"event": "agreed", "person": person}));
        } else {
            output::data(&format!("{person} has agreed"));
        }
    }

    fn stored(&mut self) {
        if self.json {
            output::event(&json!({"event": "stored"}));
        } else {
            output::data("the refresh token lies in Vault");
        }
    }
}

/// Says what the role should get and, as far as it is known before anybody has agreed, what of that cannot come.
fn foretell(invitation: &Invitation) {
    let forecast = &invitation.forecast;
    output::data(&format!(
        "The bearer tokens of {} are to carry {}.",
        invitation.service,
        invitation.scopes.join(" ")
    ));
    if !forecast.not_asked.is_empty() {
        output::warn(&format!(
            "Vault does not ask the issuer for {}: whoever agrees cannot give it; have Vault's operators add it to the \
             scopes of this role, or take it out of the role's scopes here",
            forecast.not_asked.join(" ")
        ));
    }
    if !forecast.not_published.is_empty() {
        output::warn(&format!(
            "the issuer does not publish {} among the scopes it knows, though others of the role's are there: ask its \
             operators before you agree",
            forecast.not_published.join(" ")
        ));
    }
    if !forecast.missing_now.is_empty() {
        output::warn(&format!(
            "by the consent there is, the bearer token lacks {}: agreeing again as the same person gives it only if that \
             person got the capability since",
            forecast.missing_now.join(" ")
        ));
    }
    if forecast.asked.is_none() {
        output::data(
            "Which of these the issuer is asked for is not known before; what is missing is said at the end.",
        );
    }
}

impl Watcher {
    fn done(&self, done: &Onboarded) {
        if !done.missing.is_empty() {
            output::warn(&format!(
                "the bearer token lacks {}: {} does not have it, or the role does not ask the issuer for it; \
                 give the person that capability (or let another agree) and onboard again",
                done.missing.join(" "),
                done.person
            ));
        }
        if self.json {
            return output::event(&json!({"event": "done", "result": done}));
        }
        output::data(&format!(
            "{} logged in to Vault {} by itself and read a bearer token",
            done.principal, done.vault
        ));
        if let Some(expires) = done.expires {
            output::data(&format!(
                "by the configuration this consent lasts until {expires}"
            ));
        }
        output::data(&format!("next: mtk run --service {}", done.service));
    }

    fn failed(&self, failure: &Failure) {
        if self.json {
            output::event(&json!({"event": "failed", "failure": failure}));
        }
        output::error(&anyhow::anyhow!("{}: {}", failure.peer, failure.text));
    }
}
