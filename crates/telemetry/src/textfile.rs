//! A file for node_exporter's textfile collector.

use std::{fs, io, io::Write, os::unix::fs::PermissionsExt, path::PathBuf};

use prometheus::Registry;

use crate::text;

/// Why the file was not written; what was there before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextfileError {
    /// The path has no folder.
    #[error("{path} is no path of a file")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The metrics could not be written as text.
    #[error("the metrics cannot be written as text")]
    Encode(#[source] prometheus::Error),
    /// The file system said no.
    #[error(
        "{path} cannot be written; its folder must be there, belong to the user mtk runs as, and stand in ReadWritePaths of \
         mtk-run.service where systemd starts it"
    )]
    Write {
        /// The path.
        path: PathBuf,
        /// Its words.
        #[source]
        source: io::Error,
    },
}

/// Writes all of it beside the file and renames: the collector never reads half a file.
///
/// The file may be read by anybody (0644): node_exporter runs as a user of its own, and nothing in it is secret.
///
/// # Errors
/// [`TextfileError`].
pub fn write_textfile(registry: &Registry, path: &std::path::Path) -> Result<(), TextfileError> {
    let failed = |source| TextfileError::Write {
        path: path.to_owned(),
        source,
    };
    let folder = path.parent().filter(|_| path.file_name().is_some());
    let folder = folder.ok_or_else(|| TextfileError::Path {
        path: path.to_owned(),
    })?;
    let text = text(registry).map_err(TextfileError::Encode)?;
    // the collector reads `*.prom` only
    let mut file = tempfile::Builder::new()
        .prefix(".mtk-")
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(&text).map_err(failed)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
