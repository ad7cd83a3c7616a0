//! The directory that proves us in FS.

use std::{
    fs::DirBuilder,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A directory made for a server to look at. It goes when this goes.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Makes the directory the server named, with `peer` in its name if the server asks for that; then says so.
    ///
    /// Any server could have us make directories: only `FS_...` right below `parent` is made.
    pub(crate) fn make(
        path: &str,
        parent: &Path,
        peer: SocketAddr,
    ) -> Result<(Self, Option<String>), String> {
        let asked = Path::new(path);
        let name = asked
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-:[]".contains(&b));
        // compared as text, too: Path takes "/tmp//x/." for "/tmp/x"
        let direct = path.strip_suffix(name).map(|p| p.trim_end_matches('/')) == parent.to_str();
        if asked.parent() != Some(parent) || !direct || !plain || !name.starts_with("FS_") {
            return Err(format!(
                "the peer asks for {path:?}, which is no FS_... below {}",
                parent.display()
            ));
        }
        // newer servers want to see whom we think we speak to, so that nobody can pass their names on
        let extension = name.ends_with('_').then(|| peer.to_string());
        let full = PathBuf::from(format!("{path}{}", extension.as_deref().unwrap_or_default()));
        DirBuilder::new()
            .mode(0o700)
            .create(&full)
            .map_err(|error| format!("{} cannot be made: {error}", full.display()))?;
        Ok((Self(full), extension))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "cannot remove what was made for FS");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PEER: &str = "127.0.0.1:9618";

    #[test]
    fn made_for_us_alone_and_removed() {
        let parent = std::env::temp_dir().join(format!("mtk-fs-{}", std::process::id()));
        std::fs::create_dir(&parent).unwrap();
        let make = |name: &str| {
            let path = parent.join(name);
            Directory::make(path.to_str().unwrap(), &parent, PEER.parse().unwrap())
        };
        let (directory, extension) = make("FS_XXXaB3").unwrap();
        assert_eq!(extension, None);
        let mode = std::fs::metadata(parent.join("FS_XXXaB3"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(make("FS_XXXaB3").is_err(), "made by somebody else");
        drop(directory);
        let (directory, extension) = make("FS_127.0.0.1_9618_x_").unwrap();
        assert_eq!(extension.as_deref(), Some(PEER));
        assert!(parent.join("FS_127.0.0.1_9618_x_127.0.0.1:9618").is_dir());
        drop(directory);
        for bad in [
            "x",
            "FS_/../x",
            "../FS_x",
            "FS_x/FS_y",
            "FS_x/..",
            "FS_a b",
            "sub/FS_x",
            "FS_x/",
            ".FS_",
        ] {
            assert!(make(bad).is_err(), "{bad}");
        }
        let elsewhere = Directory::make("/etc/FS_x", &parent, PEER.parse().unwrap());
        assert!(elsewhere.is_err());
        // nothing was left
        std::fs::remove_dir(&parent).unwrap();
    }
}
