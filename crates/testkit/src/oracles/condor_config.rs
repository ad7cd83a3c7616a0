//! HTCondor's configuration, whatever stands in it.

use std::{collections::BTreeSet, io, path::Path};

use condor_config::{Environment, Source};

/// One text, which may include itself.
struct One<'t>(&'t str);

impl Source for One<'_> {
    fn file(&self, path: &Path) -> io::Result<String> {
        match path.starts_with("/etc/condor") {
            true => Ok(self.0.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn names(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["a".to_owned(), ".b".to_owned()])
    }
}

/// It ends, says at most so much, and what a value depends on that is not evaluated makes it none.
pub fn read(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let line = text.lines().next().unwrap_or_default();
    let environment = Environment {
        variables: vec![("_condor_OWN".to_owned(), line.to_owned())],
        ..Environment::default()
    };
    // text that includes itself a thousand times would only take long
    let short: String = text.chars().take(2000).collect();
    let config = condor_config::read(&environment, &One(&short));
    if config.findings().len() > 1000 || config.files().count() > 2000 {
        panic!("more was read or said than may be");
    }
    // each may take as long as the longest value
    let names: BTreeSet<&str> = short
        .lines()
        .filter_map(|line| line.split(['=', ':', ' ']).next())
        .collect();
    for name in ["OWN", "COLLECTOR_HOST"].into_iter().chain(names).take(10) {
        match config.get(name) {
            Ok(Some(found)) if found.value.len() > 128 * 1024 || found.value.trim().is_empty() => {
                panic!("a value of {} bytes", found.value.len())
            }
            Ok(_) => {}
            Err(error) if error.why.is_empty() => panic!("no reason for {name:?}"),
            Err(_) => {}
        }
    }
}
