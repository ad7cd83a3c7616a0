//! What the configuration names on this host: is it there, and may it be read.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use credential::Principal;

use crate::{Finding, Origin, Service, Site, finding::Reporter, tree::Position};

/// Findings about certificates that are not there or cannot be read by whoever asks, and about keytabs that `judge` finds
/// unfit for their principal.
///
/// Unlike everything else here this looks at the host, and holds for the host and the user who asks.
#[must_use]
pub fn check_files(site: &Site, judge: impl Fn(&Path, &Principal) -> Result<(), String>) -> Vec<Finding> {
    let mut report = Reporter::new(site.files.clone());
    keytabs(site, judge, &mut report);
    for (key, path, directory) in [
        ("mtk.vault.caFile", &site.vault.ca_file, false),
        ("mtk.vault.caDir", &site.vault.ca_dir, true),
    ] {
        let Some(path) = path else { continue };
        let value = site.values.iter().find(|v| v.key.eq_ignore_ascii_case(key));
        let at = value.map(|v| place(&v.origin)).unwrap_or_default();
        if let Err(why) = open(path, directory) {
            report.error(at, key, format!("{} {why}", path.display()), "");
        }
    }
    report.finish()
}

fn keytabs(site: &Site, judge: impl Fn(&Path, &Principal) -> Result<(), String>, report: &mut Reporter) {
    // one keytab missing for five roles of an account is one finding
    let mut by_file: BTreeMap<(&PathBuf, String), Vec<&Service>> = BTreeMap::new();
    for service in &site.services {
        by_file
            .entry((&service.keytab, service.principal.to_string()))
            .or_default()
            .push(service);
    }
    for services in by_file.into_values() {
        let Some(first) = services.first() else { continue };
        let Err(why) = judge(&first.keytab, &first.principal) else {
            continue;
        };
        let value = first.values.iter().find(|v| v.key == "keytab");
        let at = match value.map(|v| &v.origin) {
            Some(Origin::Override(at)) => *at,
            _ => first.at,
        };
        let names: Vec<String> = services.iter().map(|s| s.id.to_string()).collect();
        let advice = "no ticket without it; run this check as the user who runs mtk, or with --no-files for another host";
        report.error(at, &names.join(", "), why, advice);
    }
}

fn place(origin: &Origin) -> Position {
    match origin {
        Origin::File(at) | Origin::Override(at) => *at,
        _ => Position::default(),
    }
}

/// Why it cannot be read.
fn open(path: &Path, directory: bool) -> Result<(), String> {
    let about = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("is not there".into()),
        Err(error) => return Err(format!("cannot be looked at: {error}")),
        Ok(about) => about,
    };
    match (directory, about.is_dir(), about.is_file()) {
        (true, true, _) | (false, _, true) => {}
        (true, ..) => return Err("is not a directory".into()),
        (false, ..) => return Err("is not a file".into()),
    }
    let opened = if directory {
        std::fs::read_dir(path).map(drop)
    } else {
        File::open(path).map(drop)
    };
    opened.map_err(|error| format!("cannot be read: {error}"))
}
