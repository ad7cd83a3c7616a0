//! The command line as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Managed tokens for an experiment's robots: from a keytab to every credd and every node.
#[derive(Debug, Parser)]
#[command(name = "mtk", version, about, long_about = None, propagate_version = true)]
#[command(
    after_help = "Exit status: 0 all that was asked for is fresh; 1 some of it failed; 2 usage or configuration; \
                        3 another mtk holds the lock."
)]
pub(crate) struct Cli {
    /// The configuration; without it managedTokens.yml or .json is looked for where the Go service looks.
    #[arg(long, short = 'c', global = true, value_name = "FILE", alias = "configfile")]
    pub(crate) config: Option<PathBuf>,

    /// Where what happened is remembered (0700); overrides the configuration.
    #[arg(long, global = true, value_name = "DIR", env = "MTK_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Run as root although what is written then belongs to root, and a run as another user fails on it.
    #[arg(long, global = true, env = "MTK_AS_ROOT", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) as_root: bool,

    /// Say more on stderr: -v milestones, -vv every step, -vvv everything.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// The form of the log on stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Human)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// To systemd's journal, each field a field of its own (MTK_SERVICE, MTK_NODE, ...).
    Journald,
}

/// How results look on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// One JSON document; its form is stable (docs/output.md).
    Json,
}

/// How tables look on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableOutput {
    /// For people.
    Text,
    /// One JSON document; its form is stable (docs/output.md).
    Json,
    /// Comma-separated values, names of the columns first; columns are only ever added at the end.
    Csv,
}

/// Whether there are colours on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in to Vault where something is due and store in all credds.
    Refresh(RunArgs),
    /// Bring the node tokens that `refresh` made to the nodes.
    Push(RunArgs),
    /// Refresh, then push.
    Run(RunArgs),
    /// How long everything still lives, from what is remembered alone.
    Status(crate::commands::status::Args),
    /// The services, nodes or credds of the configuration.
    List(crate::commands::list::Args),
    /// Everything that is known of an edge: its last tries, what was said, when it is due and why.
    Explain(crate::commands::explain::Args),
    /// Say that a node, a credd or a service is known to be down, until when, and why.
    Silence(crate::commands::silence::Args),
    /// Let a person agree, in a browser, to a robot reading bearer tokens.
    Onboard(crate::commands::onboard::Args),
    /// Take back what a robot was given: nothing can be minted for it from then on.
    Revoke(crate::commands::revoke::Args),
    /// Bearer tokens for people and jobs, as htgettoken, htdecodetoken and htdestroytoken.
    #[command(subcommand)]
    Token(crate::commands::token::Args),
    /// Store a job's credentials as condor_vault_storer does: what condor_submit runs.
    Storer(crate::commands::storer::Args),
    /// Try every hop of a service, and say what to do about each that fails.
    Doctor(crate::commands::doctor::Args),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(crate::commands::config::ConfigCommand),
    /// Print what a shell needs to complete mtk's command lines.
    Completions(crate::commands::completions::Args),
    /// The Go service's token-push.
    #[command(hide = true)]
    TokenPush(crate::commands::old_names::TokenPush),
    /// The Go service's refresh-uids-from-ferry.
    #[command(hide = true, name = "refresh-uids-from-ferry")]
    RefreshUids(crate::commands::old_names::RefreshUids),
    /// Write the manual's pages into a directory.
    #[command(hide = true)]
    Man(crate::commands::man::Args),
    /// Which UID each account has on the nodes, who says so, and what changed.
    #[command(subcommand)]
    Uids(crate::commands::uids::UidsCommand),
    /// Look at what is remembered, move it, take over what the Go service remembers.
    #[command(subcommand)]
    State(crate::commands::state::StateCommand),
    /// Who is told of what fails.
    #[command(subcommand)]
    Notify(crate::commands::notify::NotifyCommand),
    /// The log of what was done with credentials.
    #[command(subcommand)]
    Audit(crate::commands::audit::AuditCommand),
    /// Ask credds what they hold, and delete what nobody needs.
    #[command(subcommand)]
    Credd(Box<crate::commands::credd::CreddCommand>),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,

    /// Print what would be done, and do nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Trust what is remembered: do not ask credds and nodes whether what was stored is still there.
    #[arg(long)]
    pub(crate) no_verify: bool,

    /// Wait for another mtk to end its work instead of ending with status 3; for so long at the most (30s, 5m, 1h).
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = duration)]
    pub(crate) wait: Option<Option<jiff::SignedDuration>>,

    /// Send no lines to Loki.
    #[arg(long)]
    pub(crate) no_loki: bool,

    /// Tell nobody of what fails, by mail, Slack or web hook; it is told by the next run without this.
    #[arg(long, visible_alias = "disable-notifications")]
    pub(crate) dont_notify: bool,

    /// Tell those of notifications_test instead, of all that fails, and remember nothing of it.
    #[arg(long, conflicts_with = "dont_notify")]
    pub(crate) test_notices: bool,

    /// Say nothing if all is fresh, nor what is doubtful in the configuration: for cron, which mails whatever is printed.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// The form of the summary on stdout.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

fn duration(text: &str) -> Result<jiff::SignedDuration, String> {
    let wrong = || format!("{text:?} is not a span of time such as 30s, 5m or 1h");
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    (!parsed.is_negative()).then_some(parsed).ok_or_else(wrong)
}

/// A span of time that may have days, of 24 hours each.
pub(crate) fn days(text: &str) -> Result<jiff::SignedDuration, String> {
    let wrong = || format!("{text:?} is not a span of time such as 30d or 12h");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let span = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|error| error.to_string())?;
    (!span.is_negative()).then_some(span).ok_or_else(wrong)
}

/// Each may be given several times; what is not given means all.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// A service: experiment_role as configured, or its name at HTCondor.
    #[arg(long, short = 's', value_name = "NAME")]
    pub(crate) service: Vec<String>,

    /// An experiment.
    #[arg(long, short = 'e', value_name = "NAME")]
    pub(crate) experiment: Vec<String>,

    /// A role.
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Vec<String>,

    /// A UNIX account.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Vec<String>,

    /// A credd: services that may store there, and of their credds this one.
    #[arg(long, value_name = "NAME")]
    pub(crate) credd: Vec<String>,

    /// A node: services that push there, and of their nodes this one; `@here` is this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Vec<String>,
}

impl From<&SelectionArgs> for pipeline::Selection {
    fn from(args: &SelectionArgs) -> Self {
        Self {
            services: args.service.clone(),
            experiments: args.experiment.clone(),
            roles: args.role.clone(),
            accounts: args.account.clone(),
            credds: args.credd.clone(),
            nodes: args.node.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn whatever_is_selected_leaves_something_out() {
        let is_all = |words: &[&str]| match super::Cli::parse_from([&["mtk", "run"], words].concat()).command
        {
            super::Command::Run(args) => pipeline::Selection::from(&args.selection).is_all(),
            other => panic!("{other:?}"),
        };
        assert!(is_all(&[]));
        for flag in [
            "--service",
            "--experiment",
            "--role",
            "--account",
            "--credd",
            "--node",
        ] {
            assert!(!is_all(&[flag, "x"]), "{flag}");
        }
    }

    #[test]
    fn spans_may_have_days() {
        let hours = jiff::SignedDuration::from_hours;
        assert_eq!(super::days("30d"), Ok(hours(720)));
        assert_eq!(super::days("12h"), Ok(hours(12)));
        assert_eq!(super::days("0s"), Ok(hours(0)));
        assert!(super::days("-1d").is_err() && super::days("old").is_err() && super::days("").is_err());
    }
}
