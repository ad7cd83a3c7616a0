//! `cargo xtask man`: the manual, made from the command line, as committed text.

use std::{collections::BTreeMap, fs, path::Path, process::Command, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{
    say,
    steps::{Committed, cargo, root, run, target},
};

const FOLDER: &str = "docs/man";

/// Makes the pages, and compares or writes them.
pub(crate) fn man(text: Committed) -> Result<ExitCode> {
    if !text.write {
        return check().map(|()| ExitCode::SUCCESS);
    }
    let folder = root().join(FOLDER);
    let made = made()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for name in pages(&folder)?.keys().filter(|name| !made.contains_key(*name)) {
        fs::remove_file(folder.join(name)).with_context(|| format!("cannot remove {name}"))?;
    }
    for (name, text) in made {
        fs::write(folder.join(&name), text).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares the pages with the command line as it is.
pub(crate) fn check() -> Result<()> {
    let (made, committed) = (made()?, pages(&root().join(FOLDER))?);
    let names = made.keys().chain(committed.keys());
    let mut other: Vec<&String> = names
        .filter(|name| made.get(*name) != committed.get(*name))
        .collect();
    other.sort();
    other.dedup();
    if other.is_empty() {
        return Ok(());
    }
    for name in other {
        say::people(&format!("{FOLDER}/{name}"));
    }
    bail!("these pages are not what the command line says: `cargo xtask man --write`")
}

fn made() -> Result<BTreeMap<String, String>> {
    run(&mut cargo(&["build", "--package", "mtk", "--locked"]))?;
    let folder = target().join("man");
    // pages of commands that are no more
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    run(Command::new(target().join("debug/mtk")).arg("man").arg(&folder))?;
    pages(&folder)
}

/// Names and texts of the pages in a folder, which need not be there.
fn pages(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.insert(name.unwrap_or_default(), text);
    }
    Ok(all)
}
