//! Mounts of a root inside the bed's namespace.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};

use super::super::layout::Layout;

/// The limits of a tmpfs.
pub(in super::super) struct Tmpfs {
    /// Permission bits of its root.
    pub(in super::super) mode: u32,
    /// Its size in kibibytes.
    pub(in super::super) kibibytes: u32,
}

/// Puts an overlay over the cached root at `target`, its writable layer in `layer`, with devices, the bed's names,
/// Kerberos and CA.
pub(in super::super) fn furnish(layout: &Layout, target: &Path, layer: &Path) -> Result<()> {
    furnish_over(layout, &super::base_of(layout), target, layer)
}

/// The same over the root `base`.
pub(super) fn furnish_over(layout: &Layout, base: &Path, target: &Path, layer: &Path) -> Result<()> {
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    for dir in [&upper, &work, &target.to_owned()] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // the top folder's mode becomes that of `/`, which accounts must be able to pass
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        base.display(),
        upper.display(),
        work.display()
    );
    let options = CString::new(options).context("a path with a NUL byte")?;
    mount(
        "overlay",
        target,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .with_context(|| format!("cannot mount an overlay at {}", target.display()))?;
    devices(target)?;
    let resolver = layout.run.join("resolv.conf");
    // no resolver at all: one that does not answer would stop a credd for 5 s at each authentication
    File::create(&resolver).with_context(|| format!("cannot make {}", resolver.display()))?;
    for (file, name) in [
        (layout.hosts(), "etc/hosts"),
        (layout.krb5_conf(), "etc/krb5.conf"),
        (resolver, "etc/resolv.conf"),
    ] {
        let place = target.join(name);
        if place.is_symlink() {
            fs::remove_file(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        }
        if !place.exists() {
            File::create(&place).with_context(|| format!("cannot make {}", place.display()))?;
        }
        bind(&file, &place)?;
    }
    trust(layout, target)
}

fn devices(target: &Path) -> Result<()> {
    // the whole of /proc, and of /sys without a chance to change the host's settings
    bind(Path::new("/proc"), &target.join("proc"))?;
    bind(Path::new("/sys"), &target.join("sys"))?;
    let sys = target.join("sys");
    rustix::mount::mount_remount(&sys, MountFlags::BIND | MountFlags::RDONLY, "")
        .with_context(|| format!("cannot make {} read-only", sys.display()))?;
    let dev = target.join("dev");
    tmpfs(
        &dev,
        &Tmpfs {
            mode: 0o755,
            kibibytes: 64,
        },
    )?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let place = dev.join(name);
        File::create(&place).with_context(|| format!("cannot make {}", place.display()))?;
        bind(&Path::new("/dev").join(name), &place)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(to, dev.join(name)).with_context(|| format!("cannot make {}/{name}", dev.display()))?;
    }
    // an instance of its own: sshd makes terminals here, and the host's stay out of reach
    let pts = dev.join("pts");
    fs::create_dir(&pts).with_context(|| format!("cannot make {}", pts.display()))?;
    mount(
        "devpts",
        &pts,
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    )
    .with_context(|| format!("cannot mount {}", pts.display()))?;
    let shm = dev.join("shm");
    fs::create_dir(&shm).with_context(|| format!("cannot make {}", shm.display()))?;
    tmpfs(
        &shm,
        &Tmpfs {
            mode: 0o1777,
            kibibytes: 65536,
        },
    )
}

/// Adds the bed's CA to the system store: to the bundle (Python, curl) and by its hash (OpenSSL).
fn trust(layout: &Layout, target: &Path) -> Result<()> {
    let ca =
        fs::read_to_string(layout.ca()).with_context(|| format!("cannot read {}", layout.ca().display()))?;
    let bundle = target.join("etc/ssl/certs/ca-certificates.crt");
    let all = fs::read_to_string(&bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
    fs::write(&bundle, all + &ca).with_context(|| format!("cannot write {}", bundle.display()))?;
    let own = target.join("etc/ssl/certs/mtk-test-bed.pem");
    fs::write(&own, ca).with_context(|| format!("cannot write {}", own.display()))?;
    let mut openssl = std::process::Command::new("chroot");
    openssl.arg(target).args([
        "openssl",
        "x509",
        "-noout",
        "-subject_hash",
        "-in",
        "/etc/ssl/certs/mtk-test-bed.pem",
    ]);
    let hash = super::output(&mut openssl)?;
    let link = target.join("etc/ssl/certs").join(format!("{}.0", hash.trim()));
    symlink("mtk-test-bed.pem", &link).with_context(|| format!("cannot make {}", link.display()))
}

/// Binds a file or folder, with all that is mounted below it, over another. The folder is made if it is not there.
pub(in super::super) fn bind(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    }
    mount_bind_recursive(from, to)
        .and_then(|()| mount_change(to, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC))
        .with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

/// Mounts a tmpfs of a bounded size; the folder is made if it is not there.
pub(in super::super) fn tmpfs(at: &Path, limits: &Tmpfs) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
    let options = CString::new(format!("mode={:o},size={}k", limits.mode, limits.kibibytes))
        .context("a path with a NUL byte")?;
    mount(
        "tmpfs",
        at,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        options.as_c_str(),
    )
    .with_context(|| format!("cannot mount a tmpfs at {}", at.display()))
}
