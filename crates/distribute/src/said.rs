//! What the programs we run say on their standard error.

use tokio::{io::AsyncReadExt, process::ChildStderr};

/// The first `limit` bytes of it, read to its end: a program must not stop because nobody listens any more.
pub(crate) async fn said(mut stderr: ChildStderr, limit: u64) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = (&mut stderr).take(limit).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    said
}
