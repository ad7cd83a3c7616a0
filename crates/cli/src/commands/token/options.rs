//! htgettoken's options, and what they come to.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Parser;
use credential::{NODE_TOKEN_LIMIT, Principal};
use jiff::SignedDuration;
use vault_client::Places;

use super::{
    Server,
    discovery::{self, Source},
    obtain::{Ask, Ways},
};

#[derive(Debug, Clone, clap::Args)]
#[command(args_override_self = true, infer_long_args = true)]
#[command(
    after_help = "Options are htgettoken's (docs/token.md says which), those of HTGETTOKENOPTS first. The ways are tried in \
                  its order: the Vault token that is there, a Kerberos ticket, the keys of an SSH agent, a browser; the \
                  last only with --oidc."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) server: Server,

    /// Where to keep the Vault token [default: /tmp/vt_u%uid; /dev/stdout for one that lives over a million seconds].
    #[arg(long, value_name = "FILE")]
    pub(super) vaulttokenfile: Option<String>,

    /// Where to read one from: a file, a device, or env:NAME for the value of a variable [default: --vaulttokenfile].
    #[arg(long, value_name = "FILE")]
    pub(super) vaulttokeninfile: Option<String>,

    /// How long a new Vault token is to live: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub(super) vaulttokenttl: String,

    /// How long the Vault token that is there must still live.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(super) vaulttokenminttl: String,

    /// The file of the bearer token [default: by WLCG bearer token discovery].
    #[arg(long, short, value_name = "FILE")]
    pub(super) outfile: Option<String>,

    /// The issuer, as Vault calls it.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(super) issuer: String,

    /// The role at the issuer.
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(super) role: String,

    /// The user part of the secret's path [default: what a login in the browser left in --configdir, else the name of the
    /// ticket's principal].
    #[arg(long, value_name = "KEY")]
    pub(super) credkey: Option<String>,

    /// Where credkeys are kept.
    #[arg(long, value_name = "DIR", default_value = "~/.config/htgettoken")]
    pub(super) configdir: String,

    /// Least life of the bearer token, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(super) minsecs: u32,

    /// A token that may do only this: scopes, parted by commas.
    #[arg(long, value_name = "SCOPES", value_delimiter = ',')]
    pub(super) scopes: Vec<String>,

    /// A token only for these: audiences, parted by commas.
    #[arg(long, value_name = "AUDIENCES", value_delimiter = ',')]
    pub(super) audience: Vec<String>,

    /// Get a new Vault token and no bearer token.
    #[arg(long)]
    pub(super) nobearertoken: bool,

    /// Print the address at which the bearer token is read.
    #[arg(long)]
    pub(super) showbearerurl: bool,

    /// Do not use the Vault token that is there.
    #[arg(long)]
    pub(super) novaulttoken: bool,

    /// Do not use a Kerberos ticket.
    #[arg(long)]
    pub(super) nokerberos: bool,

    /// Do not use an SSH agent.
    #[arg(long)]
    pub(super) nossh: bool,

    /// Do not ask for a login in a browser.
    #[arg(long, overrides_with = "oidc")]
    pub(super) nooidc: bool,

    /// If nothing else does, print an address and wait until somebody has logged in there with a browser.
    #[arg(long, overrides_with = "nooidc")]
    pub(super) oidc: bool,

    /// How long to wait for that, in seconds [default: 600, or 120 as htgettoken].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) wait: Option<u64>,

    /// Whose ticket, where a ccache holds several's.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(super) kerbprincipal: Option<Principal>,

    /// The ccache, as in KRB5CCNAME [default: the environment's].
    #[arg(long, value_name = "NAME")]
    pub(super) ccache: Option<String>,

    /// The path of the Kerberos login [default: htvault-config's].
    #[arg(long, value_name = "PATH")]
    pub(super) kerbpath: Option<String>,

    /// The path of the login in a browser [default: htvault-config's].
    #[arg(long, value_name = "PATH")]
    pub(super) oidcpath: Option<String>,

    /// The path of the login with an SSH agent [default: auth/ssh].
    #[arg(long, value_name = "PATH")]
    pub(super) sshpath: Option<String>,

    /// The path of the secret [default: htvault-config's].
    #[arg(long, value_name = "PATH")]
    pub(super) secretpath: Option<String>,

    /// Print nothing but what was asked for: no errors either.
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// As htgettoken's; -vv says what happens, and no tokens.
    #[arg(long, short, hide = true)]
    pub(super) debug: bool,

    /// As htgettoken's; nothing is started here, the address is printed.
    #[arg(long, value_name = "COMMAND", hide = true, allow_hyphen_values = true)]
    pub(super) web_open_command: Option<String>,

    /// As htgettoken's; refused, because whoever answers there could turn any other option.
    #[arg(long, short = 's', value_name = "HOST", hide = true)]
    pub(super) optserver: Option<String>,

    /// As htgettoken's; refused.
    #[arg(long, hide = true)]
    pub(super) registerssh: bool,

    /// Ask for a login in a browser where htgettoken would: if any of the three streams is a terminal.
    #[arg(long, hide = true)]
    pub(super) like_htgettoken: bool,
}

/// The same options by themselves: of a configuration, or of a variable.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, mut_arg("configdir", |arg| arg.short('c')))]
struct Alone {
    #[command(flatten)]
    args: Args,

    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Where a token is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sink {
    File(PathBuf),
    /// `/dev/std*`, `/dev/fd/*`.
    Device(PathBuf),
}

impl Sink {
    pub(super) fn new(text: &str, home: bool) -> Self {
        let path = discovery::path(text, home);
        if discovery::is_device(&path) {
            Self::Device(path)
        } else {
            Self::File(path)
        }
    }
}

impl Args {
    /// From words, as of `HTGETTOKENOPTS`.
    pub(crate) fn of<I: IntoIterator<Item = String>>(words: I) -> Result<Self, clap::Error> {
        Alone::try_parse_from(words).map(|alone| alone.args)
    }

    /// What is wrong with them in a way that htgettoken calls usage.
    pub(crate) fn usage(&self) -> anyhow::Result<()> {
        if self.optserver.is_some() {
            bail!(
                "options from a server are not taken (--optserver): whoever answers there could turn any other option; \
                 put them into HTGETTOKENOPTS"
            );
        }
        if self.registerssh {
            bail!(
                "SSH keys are not registered here (--registerssh): htgettoken does it once, and they are used from then on"
            );
        }
        self.server.name()?;
        Ok(())
    }

    fn ttl(&self) -> anyhow::Result<SignedDuration> {
        let ttl = time(&self.vaulttokenttl, "--vaulttokenttl")?;
        if time(&self.vaulttokenminttl, "--vaulttokenminttl")? >= ttl {
            bail!("--vaulttokenminttl must be less than --vaulttokenttl");
        }
        Ok(ttl)
    }

    /// Where the Vault token goes. One that lives long has no way to a file.
    pub(super) fn sink(&self) -> anyhow::Result<Sink> {
        let long = self.ttl()?.as_secs() > NODE_TOKEN_LIMIT;
        let text = match &self.vaulttokenfile {
            Some(text) => text,
            None if long => "/dev/stdout",
            None => discovery::VAULT_TOKEN_FILE,
        };
        let sink = Sink::new(text, true);
        if long && matches!(sink, Sink::File(_)) {
            bail!(
                "--vaulttokenfile must be below /dev if --vaulttokenttl is more than a million seconds: such a token is never \
                 written to a file"
            );
        }
        Ok(sink)
    }

    fn source(&self) -> Source {
        if self.novaulttoken {
            return Source::None;
        }
        let file = self
            .vaulttokenfile
            .as_deref()
            .unwrap_or(discovery::VAULT_TOKEN_FILE);
        let text = self.vaulttokeninfile.as_deref().unwrap_or("%vaulttokenfile");
        match text.strip_prefix("env:") {
            Some(name) => Source::Variable(name.to_owned()),
            // where a long token is printed nothing is to be read
            None if self.vaulttokeninfile.is_none() && discovery::is_device(&discovery::path(file, true)) => {
                Source::None
            }
            None => {
                let path = discovery::path(&text.replace("%vaulttokenfile", file), true);
                if discovery::is_device(&path) {
                    Source::Device(path)
                } else {
                    Source::File(path)
                }
            }
        }
    }

    fn places(&self) -> Places {
        let usual = Places::default();
        let of = |given: &Option<String>, usual| given.clone().unwrap_or(usual);
        Places {
            kerberos: of(&self.kerbpath, usual.kerberos),
            oidc: of(&self.oidcpath, usual.oidc),
            ssh: of(&self.sshpath, usual.ssh),
            secret: of(&self.secretpath, usual.secret),
        }
    }

    fn wants_browser(&self) -> bool {
        let terminal = || {
            use std::io::IsTerminal;
            std::io::stdin().is_terminal()
                || std::io::stdout().is_terminal()
                || std::io::stderr().is_terminal()
        };
        !self.nooidc && (self.oidc || self.like_htgettoken && terminal())
    }

    /// What is to be asked of Vault.
    pub(crate) fn ask(&self) -> anyhow::Result<Ask> {
        let places = self.places();
        let wait = self.wait.unwrap_or(if self.like_htgettoken { 120 } else { 600 });
        Ok(Ask {
            vault: self.server.client(places.clone())?,
            places,
            issuer: self.issuer.clone(),
            role: self.role.clone(),
            credkey: self.credkey.clone(),
            configdir: discovery::path(&self.configdir, true),
            ttl: self.ttl()?,
            min_ttl: time(&self.vaulttokenminttl, "--vaulttokenminttl")?,
            source: self.source(),
            ways: Ways {
                kerberos: !self.nokerberos,
                ssh: !self.nossh,
                browser: self.wants_browser(),
            },
            principal: self.kerbprincipal.clone(),
            ccache: self.ccache.clone(),
            agent: env::var_os(crate::env::SSH_AUTH_SOCK)
                .filter(|socket| !socket.is_empty())
                .map(PathBuf::from),
            bearer: !self.nobearertoken,
            min_seconds: self.minsecs,
            scopes: self.scopes.clone(),
            audience: self.audience.clone(),
            patience: Duration::from_secs(wait),
            last_resort: true,
        })
    }
}

/// `7d`, as htgettoken reads it.
fn time(text: &str, option: &str) -> anyhow::Result<SignedDuration> {
    let bad = || format!("{option} is not a number followed by s, m, h, or d");
    let unit = text.chars().next_back().with_context(bad)?;
    let number = text.get(..text.len() - unit.len_utf8()).unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        bail!(bad());
    }
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => bail!(bad()),
    };
    let number: i64 = number.parse().with_context(bad)?;
    let total = number.checked_mul(seconds).with_context(bad)?;
    Ok(SignedDuration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Args {
        Args::of(words.split_whitespace().map(str::to_owned)).unwrap_or_else(|e| panic!("{words}: {e}"))
    }

    #[test]
    fn times_are_htgettokens() {
        let seconds = |text| time(text, "--x").map(|t| t.as_secs()).ok();
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("90m"), Some(5400));
        assert_eq!(seconds("0s"), Some(0));
        for bad in [
            "",
            "d",
            "7",
            "-1d",
            "1.5h",
            "7 d",
            "7w",
            "99999999999999999d",
            "7ä",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_long_token_has_no_way_to_a_file() {
        let stdout = Sink::Device("/dev/stdout".into());
        assert_eq!(of("-a v --vaulttokenttl 28d").sink().unwrap(), stdout);
        assert!(
            of("-a v --vaulttokenttl 28d --vaulttokenfile /tmp/x")
                .sink()
                .is_err()
        );
        assert!(
            of("-a v --vaulttokenttl=28d --vaulttokenfile=/dev/shm/x")
                .sink()
                .is_err()
        );
        assert!(matches!(
            of("-a v --vaulttokenfile /tmp/x").sink().unwrap(),
            Sink::File(_)
        ));
        assert!(of("-a v --vaulttokenminttl 7d").sink().is_err());
    }

    #[test]
    fn where_a_token_is_read_from() {
        assert_eq!(of("-a v --vaulttokenfile /x").source(), Source::File("/x".into()));
        assert_eq!(
            of("-a v --vaulttokenfile /x --vaulttokeninfile=%vaulttokenfile.in").source(),
            Source::File("/x.in".into())
        );
        assert_eq!(
            of("-a v --vaulttokeninfile /dev/stdin").source(),
            Source::Device("/dev/stdin".into())
        );
        assert_eq!(
            of("-a v --vaulttokenttl 28d --vaulttokenfile /dev/stdout").source(),
            Source::None
        );
        assert_eq!(
            of("-a v --vaulttokeninfile env:VAULT_TOKEN").source(),
            Source::Variable("VAULT_TOKEN".into())
        );
        assert_eq!(of("-a v --novaulttoken").source(), Source::None);
    }

    #[test]
    fn options_as_htgettoken_takes_them() {
        let args =
            of("-a v -i dune -c /x --vaulttokenm 3d --oidc --nooidc -i nova -d -v -q --web-open-command=");
        assert_eq!((args.issuer.as_str(), args.configdir.as_str()), ("nova", "/x"));
        assert_eq!(args.vaulttokenminttl, "3d");
        assert!(!args.wants_browser());
        assert!(of("-a v --nooidc --oidc").wants_browser());
        assert!(of("-s v").usage().is_err() && of("-i x").usage().is_err());
        assert!(Args::of(["--no-such".to_owned()]).is_err());
    }
}
