//! An sshd of a test's own, beside those of the bed: with its configuration, its keys and its authorities.

use std::{
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use distribute::{Error, File, Gate, Identity, Limits, Login, Mode, Node, Options, Placed, Report};
use testkit::bed::nodes;

use crate::bed::bed;
use crate::waiting::{block, wait_until};

/// The account the tests log in as.
pub const ACCOUNT: &str = "dunepro";
pub const UID: u32 = 50001;

/// A folder at the same path inside the root of the node `key` and outside it, gone when dropped.
pub struct Folder {
    pub path: PathBuf,
    inside: PathBuf,
}

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/run/mtk-test-{name}"));
        let inside = root().join(path.strip_prefix("/").unwrap());
        let _ = std::fs::remove_dir_all(&inside);
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir_all(&inside).unwrap();
        std::os::unix::fs::symlink(&inside, &path).unwrap();
        Self { path, inside }
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.join(name))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A key pair `name` and `name.pub`.
    pub fn key(&self, name: &str, kind: &str) -> PathBuf {
        let path = self.join(name);
        self.keygen(&[
            "-q",
            "-t",
            kind,
            "-N",
            "",
            "-C",
            name,
            "-f",
            path.to_str().unwrap(),
        ]);
        path
    }

    /// `<key>-cert.pub` by the authority `ca`, for these names.
    pub fn certify(&self, ca: &str, key: &str, names: &str, more: &[&str]) -> PathBuf {
        let (ca, public) = (self.join(ca), self.join(&format!("{key}.pub")));
        let mut args = vec!["-q", "-s", ca.to_str().unwrap(), "-I", "mtk test", "-n", names];
        args.extend(more);
        args.push(public.to_str().unwrap());
        self.keygen(&args);
        self.join(&format!("{key}-cert.pub"))
    }

    fn keygen(&self, args: &[&str]) {
        let output = inside("ssh-keygen").args(args).output().unwrap();
        assert!(
            output.status.success(),
            "ssh-keygen {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir_all(&self.inside);
    }
}

/// The root of the node `key`, whose accounts, homes and /tmp the sshds here have.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| nodes::root_of(bed().layout(), "key"))
}

/// The same /tmp from outside.
pub fn tmp() -> PathBuf {
    nodes::tmp_of(bed().layout(), "key")
}

/// A program of that root.
pub fn inside(program: &str) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root())
        .arg(program)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// A process that ends with its guard.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An sshd on port 22 of `127.0.3.<last>`.
pub struct Sshd {
    pub host: String,
    _process: Running,
}

impl Sshd {
    /// With `lines` before what all have in common: the first of a keyword counts.
    pub fn start(folder: &Folder, last: u8, lines: &str) -> Self {
        let address = Ipv4Addr::new(127, 0, 3, last);
        let key = if folder.join("host").exists() {
            folder.join("host")
        } else {
            folder.key("host", "ed25519")
        };
        // of this keyword alone the last counts
        let startups = if lines.contains("MaxStartups") {
            ""
        } else {
            "MaxStartups 100"
        };
        // and this one may stand there once
        let sftp = if lines.contains("Subsystem") {
            ""
        } else {
            "Subsystem sftp /usr/lib/openssh/sftp-server"
        };
        let config = format!(
            "ListenAddress {address}:22\n{lines}\nHostKey {key}\nPidFile none\nUseDNS no\nUsePAM no\n\
             LogLevel VERBOSE\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nGSSAPIAuthentication no\n\
             AuthorizedKeysFile {authorized}\nStrictModes no\nPerSourcePenalties no\n{startups}\n\
             {sftp}\n",
            key = key.display(),
            authorized = folder.join("authorized").display(),
        );
        let config = folder.write(&format!("sshd_config.{last}"), &config);
        let log = std::fs::File::create(folder.join(&format!("log.{last}"))).unwrap();
        let mut command = inside("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(&config).stderr(log);
        let process = Running::start(&mut command);
        wait_until(
            || TcpStream::connect((address, 22)).is_ok(),
            || format!("sshd does not listen: {}", folder.read(&format!("log.{last}"))),
        );
        Self {
            host: address.to_string(),
            _process: process,
        }
    }

    /// The line that makes its plain host key known.
    pub fn known_hosts(&self, folder: &Folder) -> PathBuf {
        let line = format!("{} {}\n", self.host, folder.read("host.pub"));
        folder.write("known_hosts", &line)
    }
}

/// The transports that speak SSH themselves, by one key.
pub fn both(key: PathBuf) -> [Login; 2] {
    let identities = vec![Identity::Key(key)];
    [
        Login::Libssh2 {
            identities: identities.clone(),
        },
        Login::Russh { identities },
    ]
}

pub fn wait_for(path: &Path) {
    wait_until(|| path.exists(), || format!("{} did not come", path.display()));
}

pub fn node(host: &str, known_hosts: &Path, login: Login) -> Node {
    Node {
        host: host.to_owned(),
        port: 22,
        user: ACCOUNT.to_owned(),
        known_hosts: vec![known_hosts.to_owned()],
        login,
        options: Options::default(),
    }
}

pub fn file(name: &str, content: &str) -> File {
    File {
        path: format!("/tmp/{name}"),
        content: content.to_owned().into(),
        mode: 0o400,
    }
}

pub fn place(node: &Node, files: &[File], mode: Mode) -> Result<Report, Error> {
    place_through(&Gate::default(), node, files, mode)
}

pub fn place_through(gate: &Gate, node: &Node, files: &[File], mode: Mode) -> Result<Report, Error> {
    block(distribute::place(gate, node, files, mode, &Limits::default()))
}

pub fn placed(report: &Report) -> Vec<Option<Placed>> {
    report
        .files
        .iter()
        .map(|file| file.as_ref().ok().map(|landed| landed.placed))
        .collect()
}
