//! mtk called as one of the Go service's programs, `token-push` or `refresh-uids-from-ferry`: their flags become command
//! lines of ours.

use clap::Parser;
use pipeline::Selection;

use crate::{Problem, args::Cli, exit::Exit, output, site};

/// `token-push`'s flags. As to the Go service, the last one counts where one stands twice, and words are of no matter.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub(crate) struct TokenPush {
    /// Name of single experiment to push tokens.
    #[arg(long, short = 'e', value_name = "NAME")]
    experiment: Option<String>,

    /// Service to obtain and push vault tokens for: experiment_role.
    #[arg(long, short = 's', value_name = "NAME")]
    service: Option<String>,

    /// Test mode: obtain vault tokens but do not push them to nodes.
    #[arg(long, short = 't')]
    test: bool,

    /// Run onboarding for a given service; with -s.
    #[arg(long, short = 'r', requires = "service")]
    run_onboarding: bool,

    /// Push tokens to nodes after onboarding a service.
    #[arg(long, short = 'p')]
    push_tokens: bool,

    /// List all configured services.
    #[arg(long)]
    list_services: bool,

    #[command(flatten)]
    both: Both,
}

/// `refresh-uids-from-ferry`'s flags.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub(crate) struct RefreshUids {
    /// Test mode: ask, but remember nothing.
    #[arg(long, short = 't')]
    test: bool,

    /// How FERRY is asked, tls or jwt. Here the configuration says it.
    #[arg(long, value_name = "METHOD", value_parser = ["tls", "jwt"])]
    authmethod: Option<String>,

    #[command(flatten)]
    both: Both,
}

/// What both programs take.
#[derive(Debug, clap::Args)]
struct Both {
    /// Override the configured admin email.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,

    /// Turn off all notifications for this run.
    #[arg(long, alias = "dont-notify")]
    disable_notifications: bool,

    /// Send no logs to Loki.
    #[arg(long)]
    no_loki: bool,

    #[arg(hide = true)]
    words: Vec<String>,
}

/// What a command line of theirs comes to: command lines of ours, one after another, and what of it means nothing here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ours {
    lines: Vec<Vec<String>>,
    unused: Vec<&'static str>,
}

impl TokenPush {
    fn ours(&self) -> Ours {
        let mut select = Vec::new();
        // as the Go service: an experiment goes before a service
        match (&self.experiment, &self.service) {
            (Some(experiment), _) => select.extend(["--experiment".to_owned(), experiment.clone()]),
            (None, Some(service)) => select.extend(["--service".to_owned(), service.clone()]),
            (None, None) => {}
        }
        let mut lines = Vec::new();
        let stays = self.test || (self.run_onboarding && !self.push_tokens);
        if let (true, Some(service)) = (self.run_onboarding, &self.service) {
            lines.push(vec!["onboard".to_owned(), service.clone()]);
            select = vec!["--service".to_owned(), service.clone()];
        }
        let mut run = vec![if stays { "refresh" } else { "run" }.to_owned()];
        run.append(&mut select);
        // who onboards is there and sees what happens
        let nobody = self.both.disable_notifications || self.run_onboarding;
        let flags = [
            (nobody, "--dont-notify"),
            (self.both.no_loki, "--no-loki"),
            // who is told of a test is in notifications_test
            (self.test && !nobody, "--test-notices"),
        ];
        run.extend(
            flags
                .iter()
                .filter(|(said, _)| *said)
                .map(|(_, ours)| (*ours).to_owned()),
        );
        let mut unused = Vec::new();
        // told elsewhere for once, they would count as told to those of the configuration
        if self.both.admin.is_some() {
            unused.push("--admin: who is mailed is in the configuration (notifications.admin_email)");
        }
        lines.push(run);
        Ours { lines, unused }
    }
}

impl RefreshUids {
    fn ours(&self) -> Ours {
        let mut line = vec!["uids".to_owned(), "refresh".to_owned()];
        if self.test {
            line.push("--dry-run".to_owned());
        }
        let mut unused = Vec::new();
        if self.authmethod.is_some() {
            unused.push("--authmethod: who asks FERRY is in the configuration (ferry.hostCert and hostKey, or a robot)");
        }
        if self.both.admin.is_some() {
            unused.push("--admin: nobody is mailed of UIDs; the exit status is 1 if one changed");
        }
        Ours {
            lines: vec![line],
            unused,
        }
    }
}

/// Does what `token-push` would have been asked to.
pub(crate) async fn token_push(cli: &Cli, args: &TokenPush) -> Result<Exit, Problem> {
    if args.list_services {
        let (site, _) = site::load_quietly(cli)?;
        let ids = site.services.iter().map(|s| s.id.to_string());
        let all: Vec<String> = ids.chain(site.broken.iter().map(|b| b.id.to_string())).collect();
        output::data(&all.join("\n"));
        return Ok(Exit::Fresh);
    }
    if args.run_onboarding
        && let Some(service) = &args.service
    {
        // before a person is asked for anything
        let (site, _) = site::load_quietly(cli)?;
        let services = vec![service.clone()];
        site::selected(
            &site,
            Selection {
                services,
                ..Selection::default()
            },
        )?;
    }
    follow(cli, args.ours()).await
}

/// Does what `refresh-uids-from-ferry` would have been asked to.
pub(crate) async fn refresh_uids(cli: &Cli, args: &RefreshUids) -> Result<Exit, Problem> {
    follow(cli, args.ours()).await
}

/// One line after another, until one does not end well.
async fn follow(cli: &Cli, ours: Ours) -> Result<Exit, Problem> {
    for unused in ours.unused {
        output::warn(&format!("without meaning here: {unused}"));
    }
    for line in ours.lines {
        let words = std::iter::once("mtk".to_owned()).chain(line);
        let mut next = Cli::try_parse_from(words).map_err(Problem::usage)?;
        next.config.clone_from(&cli.config);
        next.state_dir.clone_from(&cli.state_dir);
        next.as_root = cli.as_root;
        next.verbose = cli.verbose;
        next.log_format = cli.log_format;
        let exit = Box::pin(crate::dispatch(&next)).await?;
        if exit != Exit::Fresh {
            return Ok(exit);
        }
    }
    Ok(Exit::Fresh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;

    fn ours(line: &str) -> (Vec<String>, usize) {
        let words = crate::called::arguments(line.split(' ').map(Into::into));
        let cli = Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        let ours = match &cli.command {
            Command::TokenPush(args) => args.ours(),
            Command::RefreshUids(args) => args.ours(),
            other => panic!("{other:?}"),
        };
        (
            ours.lines.iter().map(|l| l.join(" ")).collect(),
            ours.unused.len(),
        )
    }

    #[test]
    fn their_command_lines_are_ours() {
        for (line, lines) in [
            ("token-push", &["run"] as &[&str]),
            ("/usr/bin/token-push -c /x --verbose", &["run"]),
            (
                "token-push -e dune --service=mu2e_production",
                &["run --experiment dune"],
            ),
            (
                "token-push -s=dune_production --test=false",
                &["run --service dune_production"],
            ),
            (
                "token-push -t -s dune_production",
                &["refresh --service dune_production --test-notices"],
            ),
            (
                "token-push -s a -s b -t=true extra",
                &["refresh --service b --test-notices"],
            ),
            (
                "token-push -rs dune_production",
                &[
                    "onboard dune_production",
                    "refresh --service dune_production --dont-notify",
                ],
            ),
            (
                "token-push -rps dune_production -e mu2e",
                &[
                    "onboard dune_production",
                    "run --service dune_production --dont-notify",
                ],
            ),
            (
                "token-push --disable-notifications -t",
                &["refresh --dont-notify"],
            ),
            ("refresh-uids-from-ferry --configfile=/x -v", &["uids refresh"]),
            ("refresh-uids-from-ferry -t", &["uids refresh --dry-run"]),
        ] {
            assert_eq!(
                ours(line),
                (lines.iter().map(ToString::to_string).collect(), 0),
                "{line}"
            );
        }
        assert_eq!(ours("token-push --admin a@b --no-loki").0, ["run --no-loki"]);
        assert_eq!(ours("token-push --admin a@b").1, 1);
        assert_eq!(
            ours("refresh-uids-from-ferry --authmethod jwt --admin=a@b --dont-notify").1,
            2
        );
    }

    #[test]
    fn onboarding_needs_a_service() {
        let words = crate::called::arguments(["token-push", "-r"].map(Into::into));
        assert!(Cli::try_parse_from(words).is_err());
    }
}
