//! What a site keeps in files: its configuration, keytabs, credentials made elsewhere.

use std::{
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use config::{Env, Error, Format, Loaded};
use credential::Foreign;

/// A configuration, drop-ins parted from it and from one another by a NUL: never a panic, every error and every finding
/// at a place that there is, paths that are paths, and what an import writes means the same.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let texts: Vec<(PathBuf, &str)> = text
        .split('\0')
        .take(4)
        .zip(0..)
        .map(|(text, number)| (PathBuf::from(format!("{number}.yml")), text))
        .collect();
    let lines = |path: &Path| {
        let text = texts.iter().find(|(p, _)| p == path).map(|(_, text)| *text);
        text.map_or(0, |text| {
            text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count()
        })
    };
    let loaded = match load(&texts) {
        Ok(loaded) => loaded,
        Err(Error::Syntax { path, at, why }) => {
            if at.line == 0 || at.line as usize > lines(&path) {
                panic!("line {} of {} for {why}", at.line, lines(&path));
            }
            return;
        }
        Err(_) => return,
    };
    let mut findings = loaded.findings.clone();
    findings.extend(config::check(&loaded.site));
    for finding in findings {
        if finding.line as usize > lines(&finding.file) {
            panic!("{finding}");
        }
    }
    for service in &loaded.site.services {
        for file in service.destinations(50001).into_iter().flatten() {
            // an output may be for a group that is meant
            let others = match file.kind {
                config::Kind::Output(_) => 0o037,
                _ => 0o077,
            };
            if !file.path.starts_with('/') || file.path.contains(['\0', '\n']) || file.mode & others != 0 {
                panic!("{file:?}");
            }
        }
    }
    for (format, single) in [(Format::Yaml, false), (Format::Yaml, true), (Format::Json, false)] {
        // a key that stands twice is for a person to decide
        let Ok(imported) = config::import(&texts, format, single) else {
            continue;
        };
        match load(&imported.files) {
            Ok(again) if config::same_meaning(&loaded.site, &again.site) => {}
            Ok(again) => panic!("{:#?}\n{:?}\n{:?}", imported.files, loaded.site, again.site),
            Err(error) => panic!("{error}: {:#?}", imported.files),
        }
    }
}

fn load<T: AsRef<str>>(texts: &[(PathBuf, T)]) -> Result<Loaded, Error> {
    config::parse_all(Path::new("managedTokens.yml"), texts, &Env::default())
}

/// A keytab of these bytes: never a panic, and one that is taken has a key of the principal.
pub fn keytab(data: &[u8]) {
    let Ok(principal) = "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG".parse() else {
        panic!("no principal");
    };
    let file = rustix::fs::memfd_create("keytab", rustix::fs::MemfdFlags::CLOEXEC).map(std::fs::File::from);
    let Ok(mut file) = file else {
        panic!("no memory file");
    };
    let closed = rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    if closed.is_err() || file.write_all(data).is_err() {
        panic!("the memory file cannot be made");
    }
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    match kerberos::Keytab::open(&path, &principal) {
        Ok(keytab) if keytab.enctypes().is_empty() => panic!("a keytab without a key is taken"),
        Ok(_) | Err(kerberos::KeytabError::Format { .. } | kerberos::KeytabError::NoKey { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// A certificate that ends in 2036.
const CERTIFICATE: &str = include_str!("../../../../fixtures/fuzz-regressions/foreign/certificate");

/// A credential made elsewhere: never a panic; lines around it change nothing of what a text says, and one certificate
/// more never puts its end off.
pub fn foreign(data: &[u8]) {
    let alone = Foreign::of(data);
    if let (Ok(text), Foreign::Jwt(_)) = (std::str::from_utf8(data), alone) {
        let around = Foreign::of(format!("\n{text}\n").as_bytes());
        if around != alone {
            panic!("{alone:?} is {around:?} with lines around it");
        }
    }
    let Foreign::X509(end) = alone else {
        return;
    };
    let longer = Foreign::of(&[data, b"\n", CERTIFICATE.as_bytes()].concat());
    match longer {
        Foreign::X509(later) if later <= end => {}
        other => panic!("{alone:?} is {other:?} with one more"),
    }
}
