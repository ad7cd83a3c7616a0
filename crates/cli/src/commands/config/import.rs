//! `mtk config import`: an old configuration rewritten into a tidy one, in another directory.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use config::{Format, SCHEMA_NAME};

use crate::{Problem, args::Cli, exit::Exit, output};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The directory to write to. Nothing that is there is overwritten.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,

    /// One file instead of one for each experiment: the Go service knows no drop-ins.
    #[arg(long)]
    single: bool,
}

pub(super) fn import(cli: &Cli, args: &ImportArgs) -> Result<Exit, Problem> {
    let env = config::Env::from_lookup(|name| std::env::var(name).ok());
    let source = config::find(cli.config.as_deref(), &env).map_err(Problem::usage)?;
    let texts = config::read(&source).map_err(Problem::usage)?;
    let main = texts.first().map(|(path, _)| path.clone()).unwrap_or_default();
    let json = main.extension().is_some_and(|ending| ending == "json");
    let format = if json { Format::Json } else { Format::Yaml };
    let files = config::import(&texts, format, args.single)
        .map_err(Problem::usage)?
        .files;
    // proven before anything is written, on every site anew
    let old = config::parse_all(&source, &texts, &env).map_err(Problem::usage)?;
    let new = config::parse_all(&source, &files, &env).map_err(Problem::usage)?;
    if !config::same_meaning(&old.site, &new.site) {
        return Err(Problem::usage(anyhow::anyhow!(
            "{}: the rewritten configuration would not mean the same, so nothing was written; this is a fault of mtk",
            source.display()
        )));
    }
    let mode = fs::metadata(&main).map_or(0o640, |about| about.mode() & 0o644);
    let mut names: Vec<(PathBuf, &str, u32)> = files
        .iter()
        .map(|(name, text)| (args.to.join(name), text.as_str(), mode))
        .collect();
    let schema = config::schema();
    names.push((args.to.join(SCHEMA_NAME), &schema, 0o644));
    free(&args.to, &names).map_err(Problem::usage)?;
    for (path, text, mode) in &names {
        write(path, text, *mode).map_err(Problem::usage)?;
        output::data(&path.display().to_string());
    }
    Ok(Exit::Fresh)
}

/// Nothing of what would be read together with the new files may be there.
fn free(to: &Path, names: &[(PathBuf, &str, u32)]) -> anyhow::Result<()> {
    let known = config::NAMES.iter().map(|name| to.join(name));
    let drop_ins = fs::read_dir(to.join(config::DROP_INS)).into_iter().flatten();
    let there = drop_ins.filter_map(|entry| Some(entry.ok()?.path()));
    let mut all = known
        .chain(names.iter().map(|(path, ..)| path.clone()))
        .chain(there);
    if let Some(path) = all.find(|path| path.symlink_metadata().is_ok()) {
        bail!("{} is there already: choose an empty directory", path.display());
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(failed)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(failed)
}
