//! `mtk notify`: whether notices arrive, who was told of what, and the templates they are made from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};
use state::State;

use crate::{
    Problem,
    args::{Cli, Output},
    exit::Exit,
    observers, output, site,
};

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// Send a test message to the operators, Slack and the web hook, and say what became of each.
    Test(TestArgs),
    /// Who was told of what that is not over.
    Show(ShowArgs),
    /// Write the built-in templates into a directory, to be changed there (mtk.notify.templates).
    Templates {
        /// The directory; files that are there are left alone.
        dir: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// To those of notifications_test instead.
    #[arg(long)]
    test_receivers: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// The form of the answer on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) async fn notify(cli: &Cli, command: &NotifyCommand) -> Result<Exit, Problem> {
    match command {
        NotifyCommand::Test(args) => test(cli, args).await,
        NotifyCommand::Show(args) => show(cli, args).await,
        NotifyCommand::Templates { dir } => templates(dir).map_err(Problem::usage),
    }
}

/// Exit status 1 if something did not arrive, or there is nobody to be told.
async fn test(cli: &Cli, args: &TestArgs) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let roots = tls::certificates(&observers::trust(&site)).map_err(Problem::usage)?;
    let host = observers::host();
    let means = ::notify::Means {
        site: &site,
        tls: observers::tls(&site).map_err(Problem::usage)?,
        roots: &roots,
        trace_id: "",
        host: &host,
        environment: &site.dev_label,
        version: env!("CARGO_PKG_VERSION"),
        now: Timestamp::now(),
        anchor: None,
        test: args.test_receivers,
    };
    let sent = ::notify::test_message(&means).await;
    if sent.is_empty() {
        return Err(Problem::usage(anyhow!(
            "{} names nobody to be told: email.smtpHost with notifications.admin_email, SLACK_ALERTS_URL, or mtk.notify.webhook",
            site.path.display()
        )));
    }
    let mut all = true;
    for (whom, sent) in sent {
        match sent {
            Ok(()) => output::data(&format!("ok      {whom}")),
            Err(error) => {
                all = false;
                output::data(&format!("FAILED  {whom}: {:#}", anyhow::Error::from(error)));
            }
        }
    }
    Ok(if all { Exit::Fresh } else { Exit::SomeFailed })
}

async fn show(cli: &Cli, args: &ShowArgs) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let told = async {
        let state = State::open_read_only(&dir).await?;
        state.notices().await
    };
    let told = match told.await {
        Err(state::Error::NoState { .. }) => Default::default(),
        other => other.map_err(Problem::usage)?,
    };
    // what is only counted was told to nobody
    let told: Vec<_> = told
        .into_iter()
        .filter_map(|((subject, outlet), notice)| Some((subject, outlet, notice.since, notice.told_at?)))
        .collect();
    match args.output {
        Output::Json => {
            let rows: Vec<Value> = told
                .iter()
                .map(|(subject, outlet, since, at)| {
                    json!({
                        "subject": subject, "outlet": outlet, "since": since.to_string(), "told_at": at.to_string(),
                    })
                })
                .collect();
            output::data(&site::json(&rows)?);
        }
        Output::Text if told.is_empty() => output::data("nobody was told of anything that is not over"),
        Output::Text => {
            for (subject, outlet, since, at) in told {
                output::data(&format!(
                    "{outlet}: {subject}, since {since:.0}, last told {at:.0}"
                ));
            }
        }
    }
    Ok(Exit::Fresh)
}

fn templates(dir: &Path) -> anyhow::Result<Exit> {
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    for (name, text) in ::notify::BUILT_IN {
        let path = dir.join(name);
        let shown = path.display();
        if path.exists() {
            output::say(&format!("{shown} is there and left alone"));
            continue;
        }
        fs::write(&path, text).with_context(|| format!("{shown} cannot be written"))?;
        output::say(&format!("wrote {shown}"));
    }
    Ok(Exit::Fresh)
}
