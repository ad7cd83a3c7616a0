//! `mtk status`: how long everything lives, from the state alone.

use anyhow::Context;
use jiff::Timestamp;
use pipeline::Selection;
use state::State;

use crate::{
    Problem,
    args::{Cli, Output, StatusArgs},
    exit::Exit,
    output, site,
};

/// Prints the table; exit status 1 if something that is configured is not alive.
pub(crate) async fn status(cli: &Cli, args: &StatusArgs) -> Result<Exit, Problem> {
    let site = site::load(cli)?;
    let dir = site::state_dir(cli, &site);
    let snapshot = match State::open_read_only(&dir).await {
        Ok(state) => state.snapshot().await,
        // nothing was ever done: that is a status, too
        Err(state::Error::NoState { .. }) => Ok(state::Snapshot::default()),
        Err(error) => Err(error),
    }
    .with_context(|| format!("the state in {} cannot be read", dir.display()))
    .map_err(Problem::usage)?;
    let selection = site::selected(&site, Selection::from(&args.selection))?;
    site::credds_exist(&site, &selection, &pipeline::known_credds(&site, &snapshot))?;
    let status = pipeline::status(&site, &snapshot, &selection, Timestamp::now()).with_vaults(&site, &dir);
    match args.output {
        Output::Json => output::data(&site::json(&status)?),
        Output::Text => output::data(&output::status::text(&status)),
    }
    Ok(if status.all_alive() {
        Exit::Fresh
    } else {
        Exit::SomeFailed
    })
}
