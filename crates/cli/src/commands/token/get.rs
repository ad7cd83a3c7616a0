//! `mtk token get`.

use anyhow::anyhow;

use super::{
    discovery,
    obtain::{Ask, Got, Held, obtain},
    options::{Args, Sink},
};
use crate::{Problem, exit::Exit, output};

/// Whoever asked for silence gets the exit status alone.
pub(super) async fn get(args: &Args) -> Result<Exit, Problem> {
    let quiet = |problem: Problem| {
        if args.quiet {
            Ok(problem.exit)
        } else {
            Err(problem)
        }
    };
    if let Err(error) = args.usage() {
        return quiet(Problem::usage(error));
    }
    match run(args).await {
        Ok(()) => Ok(Exit::Fresh),
        Err(error) => quiet(Problem {
            error,
            exit: Exit::SomeFailed,
        }),
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let sink = args.sink()?;
    let ask = args.ask()?;
    if args.nobearertoken && args.showbearerurl && ask.credkey.is_none() {
        return Err(anyhow!("cannot do --showbearerurl because credkey is not known"));
    }
    let got = obtain(&ask).await?;
    write(args, &ask, &sink, &got)
}

/// The Vault token, then the bearer token, then the address: who reads along expects the token first (vault.md 11.1).
fn write(args: &Args, ask: &Ask, sink: &Sink, got: &Got) -> anyhow::Result<()> {
    match (&got.token, sink) {
        (Some(Held::Node(token)), Sink::File(path)) => discovery::write_vault(path, token)?,
        (Some(token), Sink::Device(path)) => discovery::write_device(path, token)?,
        (Some(Held::Long(..)), Sink::File(path)) => {
            let path = path.display();
            return Err(anyhow!(
                "{path}: a Vault token that lives so long is not written to a file"
            ));
        }
        (None, _) => {}
    }
    if let Some(bearer) = &got.bearer {
        match args.outfile.as_deref().map(|text| Sink::new(text, false)) {
            Some(Sink::Device(path)) => discovery::write_bearer_device(&path, &bearer.token)?,
            Some(Sink::File(path)) => discovery::write(&path, &bearer.token)?,
            None => discovery::write(&discovery::bearer_file(), &bearer.token)?,
        }
    }
    if args.showbearerurl
        && let Some(path) = &got.path
    {
        output::data(&ask.url(path));
    }
    Ok(())
}
