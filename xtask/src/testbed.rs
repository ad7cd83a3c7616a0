//! `cargo xtask testbed`.

pub(crate) mod check;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use testkit::bed::control::Request;
use testkit::bed::servers::State;
use testkit::bed::{Bed, Cache, Control, Layout, Owner, inside};

use crate::say;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Which test bed; several can be up at once
    #[arg(long, global = true, default_value = "default")]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring it up, or put right what is stopped in one that is up
    Up {
        /// Add what is not there by default: `sid`, a second pool with HTCondor 25 of Debian sid
        #[arg(long, value_enum, value_name = "PART")]
        with: Vec<Extra>,
    },
    /// End it
    Down,
    /// What each server is doing
    Status,
    /// Run a command inside; its exit code is passed on
    Exec {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Bring one up for a command, run it inside and end the bed with it, also when this is killed
    Run {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Prove what the test bed promises (in beds of its own, about a minute)
    Check,
    /// Print a server's log; without a server, name the logs there are
    Logs { server: Option<String> },
    /// Stop, freeze, seal and turn switches
    Ctl {
        #[command(subcommand)]
        switch: Switch,
    },
    /// How a bed starts itself again
    #[command(name = "__inside", hide = true)]
    Inside {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// What a bed has only when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Extra {
    /// A second pool.
    Sid,
}

#[derive(Debug, Subcommand)]
enum Switch {
    /// Start a stopped server again and wait until it answers (vault: unsealed)
    Start { server: String },
    /// Ask a server to end
    Stop { server: String },
    /// Kill a server and all it started (SIGKILL)
    Kill { server: String },
    /// Freeze a server: it accepts and never answers
    Pause { server: String },
    /// Thaw a server
    Resume { server: String },
    /// Process id of a server inside the bed
    Pid { server: String },
    /// Seal the vault server
    Seal,
    /// Unseal the vault server
    Unseal,
    /// Give a credkey a fresh refresh token
    Onboard {
        issuer: String,
        role: String,
        account: String,
        credkey: String,
    },
    /// Delete a credkey's secret
    Forget {
        issuer: String,
        role: String,
        credkey: String,
    },
    /// Onboard by the device flow, consent included; prints the vault token
    DeviceFlow {
        issuer: String,
        role: String,
        account: String,
        credkey: String,
    },
    /// Let the Kerberos policy of an issuer and role take principals with a slash, or not
    AllowSlashes {
        issuer: String,
        role: String,
        #[arg(action = clap::ArgAction::Set)]
        allow: bool,
    },
    /// Change switches of the issuer, given as JSON: '{"access_ttl": 30}'
    Issuer { switches: String },
    /// Switches and counts of the issuer
    IssuerStats,
    /// Revoke every refresh token of an account at the issuer
    Revoke { account: String },
    /// Play the person in front of the browser
    Consent { url: String, account: String },
    /// Call the vault server with the root token: GET /v1/sys/mounts
    Vault {
        method: String,
        path: String,
        body: Option<String>,
    },
    /// Add a principal and write its keytab
    AddPrincipal { principal: String, keytab: String },
}

impl Switch {
    fn request(self) -> Result<Request> {
        Ok(match self {
            Self::Start { server } => Request::Start { server },
            Self::Stop { server } => Request::Stop { server },
            Self::Kill { server } => Request::Kill { server },
            Self::Pause { server } => Request::Pause { server },
            Self::Resume { server } => Request::Resume { server },
            Self::Pid { server } => Request::Pid { server },
            Self::Seal => Request::Seal,
            Self::Unseal => Request::Unseal,
            Self::Onboard {
                issuer,
                role,
                account,
                credkey,
            } => Request::Onboard {
                issuer,
                role,
                account,
                credkey,
            },
            Self::Forget {
                issuer,
                role,
                credkey,
            } => Request::Forget {
                issuer,
                role,
                credkey,
            },
            Self::DeviceFlow {
                issuer,
                role,
                account,
                credkey,
            } => Request::DeviceFlow {
                issuer,
                role,
                account,
                credkey,
            },
            Self::AllowSlashes { issuer, role, allow } => Request::AllowSlashes { issuer, role, allow },
            Self::Issuer { switches } => Request::IssuerConfig {
                switches: serde_json::from_str(&switches).context("the switches are no JSON")?,
            },
            Self::IssuerStats => Request::IssuerStats,
            Self::Revoke { account } => Request::Revoke { account },
            Self::Consent { url, account } => Request::Consent { url, account },
            Self::Vault { method, path, body } => Request::Vault {
                method,
                path,
                body: body
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .context("the body is no JSON")?,
            },
            Self::AddPrincipal { principal, keytab } => Request::AddPrincipal { principal, keytab },
        })
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let name = arguments.name.as_str();
    match arguments.action {
        Action::Up { with } => up(name, &with),
        Action::Down => {
            let was = Bed::down(name)?;
            say::people(if was { "down" } else { "was not up" });
            Ok(ExitCode::SUCCESS)
        }
        Action::Status => status(name),
        Action::Exec { command } => exec(name, &command),
        Action::Run { command } => run_owned(name, &command),
        Action::Check => check::run(),
        Action::Logs { server } => logs(name, server.as_deref()),
        Action::Ctl { switch } => ctl(name, switch),
        Action::Inside { words } => inside::main(&words),
    }
}

fn up(name: &str, with: &[Extra]) -> Result<ExitCode> {
    let bed = Bed::up(name, Owner::Nobody, &say::people)?;
    if with.contains(&Extra::Sid) {
        bed.add_second_pool(&say::people)?;
    }
    say::people(&format!(
        "the test bed {name} is up: {}",
        bed.layout().dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn status(name: &str) -> Result<ExitCode> {
    let bed = Bed::find(name)?;
    let mut all_run = true;
    for (server, state) in bed.status()? {
        all_run &= matches!(state, State::Running { .. });
        let state = match state {
            State::Running { pid } => format!("running\t{pid}"),
            State::Paused { pid } => format!("paused\t{pid}"),
            State::Stopped { why } => format!("stopped\t{why}"),
        };
        say::data(&format!("{server}\t{state}"));
    }
    Ok(if all_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn exec(name: &str, command: &[OsString]) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else {
        bail!("no command to run")
    };
    let mut command = Bed::find(name)?.command(program)?;
    Err(command.args(arguments).exec()).context("cannot run nsenter")
}

fn run_owned(name: &str, command: &[OsString]) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else {
        bail!("no command to run")
    };
    let bed = Bed::up(name, Owner::Parent, &say::people)?;
    let status = bed
        .command(program)?
        .args(arguments)
        .status()
        .context("cannot run nsenter")?;
    // as a shell says it when a signal ended the command
    let signal = || status.signal().map_or(1, |signal| signal.saturating_add(128));
    let code = status.code().unwrap_or_else(signal);
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn logs(name: &str, server: Option<&str>) -> Result<ExitCode> {
    // without asking whether the bed is up: the logs of a failed one are wanted most
    let layout = Layout::new(&Cache::user()?, name)?;
    let mut there: Vec<String> = std::fs::read_dir(layout.logs())
        .with_context(|| format!("no test bed {name} has ever been up"))?
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_suffix(".log")
                .map(str::to_owned)
        })
        .collect();
    there.sort();
    let Some(server) = server else {
        there.iter().for_each(|server| say::data(server));
        return Ok(ExitCode::SUCCESS);
    };
    if !there.iter().any(|log| log == server) {
        bail!("no log of {server}; there are {}", there.join(", "));
    }
    let file = File::open(layout.log(server)).with_context(|| format!("cannot read the log of {server}"))?;
    for line in BufReader::new(file).split(b'\n') {
        say::data(&String::from_utf8_lossy(&line?));
    }
    Ok(ExitCode::SUCCESS)
}

fn ctl(name: &str, switch: Switch) -> Result<ExitCode> {
    // inside a bed the switches are those of that bed
    let control = match Control::here() {
        Ok(control) => control,
        Err(_) => Bed::find(name)?.control(),
    };
    match control.ask(&switch.request()?)? {
        serde_json::Value::Null => {}
        serde_json::Value::String(text) => say::data(&text),
        value => say::data(&serde_json::to_string_pretty(&value)?),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        crate::Arguments::command().debug_assert();
    }
}
