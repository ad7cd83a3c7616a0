//! The files of this host.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{Environment, Source};

/// No configuration file is longer.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The files of this host, up to 4 MiB each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Environment {
    /// Of this process: its variables, the names of its host and its account, the home of `condor`. Accounts are looked up
    /// in `/etc/passwd`.
    #[must_use]
    pub fn of_this_process() -> Self {
        let passwd = Disk.file(Path::new("/etc/passwd")).unwrap_or_default();
        let accounts: Vec<Vec<&str>> = passwd.lines().map(|line| line.split(':').collect()).collect();
        let uid = rustix::process::geteuid();
        let number = uid.as_raw().to_string();
        let field = |account: &[&str], index: usize| account.get(index).map(|text| (*text).to_owned());
        let by = |index: usize, text: &str| accounts.iter().find(|account| account.get(index) == Some(&text));
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            variables: std::env::vars_os()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            condor_home: by(0, "condor")
                .and_then(|account| field(account, 5))
                .map(Into::into),
            host: Some(host),
            user: by(2, &number).and_then(|account| field(account, 0)),
            root: uid.is_root(),
            version: Self::VERSION,
        }
    }
}

impl Source for Disk {
    fn file(&self, path: &Path) -> io::Result<String> {
        // a pipe must not keep us waiting, nor a terminal become ours
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        // /dev/null is a way to say: none
        if !meta.is_file() && path != Path::new("/dev/null") {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LONGEST {
            return Err(io::Error::other("it is longer than 4 MiB"));
        }
        // old files hold Latin-1 in comments
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if std::fs::metadata(entry.path()).is_ok_and(|meta| meta.is_file()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }
}
