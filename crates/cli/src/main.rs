//! The binary `mtk`: reads the command line, runs one command, maps what came of it to an exit status.

mod args;
mod audit_log;
mod called;
mod commands;
mod env;
mod exit;
mod logging;
mod observers;
mod output;
mod progress;
mod root;
mod site;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Cli, Command},
    exit::Exit,
};

fn main() -> ExitCode {
    keep_secrets_out_of_core_files();
    let args = commands::token::with_environment(called::arguments(std::env::args_os()));
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // 2 would say that tokens end soon, to whoever asks in the way of Nagios
            return match error.exit_code() {
                0 => Exit::Fresh.into(),
                _ if commands::status::is_check(&args) => Exit::Unknown.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    logging::init(cli.verbose, cli.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&anyhow::Error::new(error).context("cannot start"));
            return Exit::Usage.into();
        }
    };
    let exit = runtime.block_on(dispatch(&cli)).unwrap_or_else(|problem| {
        output::error(&problem.error);
        problem.exit
    });
    let exit = match (audit_log::settle(), exit, &cli.command) {
        // condor_submit and scripts have what they came for; whoever looks after mtk hears of it
        (false, Exit::Fresh, command) if !matches!(command, Command::Token(_) | Command::Storer(_)) => {
            Exit::SomeFailed
        }
        (_, exit, _) => exit,
    };
    // Threads that wait for a silent KDC cannot be ended; the process does not wait for them.
    runtime.shutdown_background();
    exit.into()
}

async fn dispatch(cli: &Cli) -> Result<Exit, Problem> {
    root::refuse(cli)?;
    match &cli.command {
        Command::Refresh(args) => commands::run::run(cli, args, pipeline::What::Refresh).await,
        Command::Push(args) => commands::run::run(cli, args, pipeline::What::Push).await,
        Command::Run(args) => commands::run::run(cli, args, pipeline::What::Run).await,
        Command::Status(args) => commands::status::status(cli, args).await,
        Command::List(args) => commands::list::list(cli, args).await,
        Command::Explain(args) => commands::explain::explain(cli, args).await,
        Command::Silence(args) => commands::silence::silence(cli, args).await,
        Command::TokenPush(args) => commands::old_names::token_push(cli, args).await,
        Command::RefreshUids(args) => commands::old_names::refresh_uids(cli, args).await,
        Command::Onboard(args) => commands::onboard::onboard(cli, args).await,
        Command::Revoke(args) => commands::revoke::revoke(cli, args).await,
        Command::Storer(args) => {
            audit_log::begin_without_site(&cli.command);
            Ok(commands::storer::storer(args, cli.verbose).await)
        }
        Command::Token(args) => {
            audit_log::begin_without_site(&cli.command);
            commands::token::token(args).await
        }
        Command::Doctor(args) => commands::doctor::doctor(cli, args).await,
        Command::Config(command) => commands::config::config(cli, command),
        Command::Completions(args) => commands::completions::completions(args),
        Command::Man(args) => commands::man::man(args),
        Command::Uids(command) => commands::uids::uids(cli, command).await,
        Command::State(command) => commands::state::state(cli, command).await,
        Command::Notify(command) => commands::notify::notify(cli, command).await,
        Command::Audit(command) => commands::audit::audit(cli, command),
        Command::Credd(command) => commands::credd::credd(cli, command).await,
    }
}

/// Why a command could not do its work, and which of the exit statuses says so.
struct Problem {
    error: anyhow::Error,
    exit: Exit,
}

impl Problem {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            exit: Exit::Usage,
        }
    }
}

/// Tokens pass through this process's memory: it leaves no core file, and nobody but root may look into it.
fn keep_secrets_out_of_core_files() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let kept =
        setrlimit(Resource::Core, none).and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = kept {
        output::warn(&format!("core files cannot be switched off: {error}"));
    }
}
