//! From a node's name to a connection that has said `SSH-`.
//!
//! Both transports start from here, so that "down", "refused", "hanging" and "too many connections" look the same
//! whichever of them goes on.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::{TcpStream, lookup_host};

use crate::{Error, Stage};

/// All a server may say before its banner. RFC 4253 sets no limit; sshd says one line or nothing.
const MAX_PREAMBLE: usize = 8 * 1024;

/// What OpenSSH says since 9.8 to an address it keeps out, and to those beyond `MaxStartups`, too.
const KEPT_OUT: &str = "Not allowed at this time";

/// A moment, and how long we had given it.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) span: Duration,
}

impl Deadline {
    /// `span` from now, but no later than `end`.
    pub(crate) fn new(span: Duration, end: Instant) -> Self {
        let now = Instant::now();
        let at = now.checked_add(span).map_or(end, |at| at.min(end));
        Self {
            at,
            span: at.saturating_duration_since(now),
        }
    }

    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn passed(self, node: &str, stage: Stage) -> Error {
        Error::TimedOut {
            node: node.to_owned(),
            stage,
            after: self.span,
        }
    }

    /// Waits for `work` until then.
    pub(crate) async fn bound<T>(
        self,
        node: &str,
        stage: Stage,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::time::timeout_at(self.at.into(), work)
            .await
            .map_err(|_| self.passed(node, stage))
    }
}

/// A connection whose server has begun its banner.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) cut: Cut,
    /// The banner, as far as it had come.
    pub(crate) server: String,
}

/// Ends the connection when dropped, whoever still holds the other handle: a library's task, or a thread that blocks
/// in it and cannot be cancelled otherwise.
pub(crate) struct Cut(std::net::TcpStream);

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// `address` is what to connect to, a name or a number; errors name the node `host`.
pub(crate) async fn dial(host: &str, address: &str, port: u16, deadline: Deadline) -> Result<Link, Error> {
    let stream = connect(host, address, port, deadline).await?;
    let failed = |source| unreachable(host, port, source);
    stream.set_nodelay(true).map_err(failed)?;
    let stream = stream.into_std().map_err(failed)?;
    meet(host, port, stream, deadline).await
}

/// Waits for the banner on a connection, or on a socket that stands for one.
pub(crate) async fn meet(
    host: &str,
    port: u16,
    stream: std::net::TcpStream,
    deadline: Deadline,
) -> Result<Link, Error> {
    let failed = |source| unreachable(host, port, source);
    let cut = Cut(stream.try_clone().map_err(failed)?);
    let stream = TcpStream::from_std(stream).map_err(failed)?;
    let server = deadline
        .bound(host, Stage::Banner, banner(&stream, host, port))
        .await??;
    Ok(Link { stream, cut, server })
}

fn unreachable(host: &str, port: u16, source: io::Error) -> Error {
    Error::Unreachable {
        node: host.to_owned(),
        port,
        source: Arc::new(source),
    }
}

async fn connect(host: &str, address: &str, port: u16, deadline: Deadline) -> Result<TcpStream, Error> {
    let resolved = deadline
        .bound(host, Stage::Resolve, lookup_host((address, port)))
        .await?;
    let unresolved = |source| Error::Resolve {
        node: host.to_owned(),
        source: Arc::new(source),
    };
    let addresses: Vec<SocketAddr> = resolved.map_err(unresolved)?.collect();
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        // A dead address of a node with several must leave time for the others.
        let share = u32::try_from(addresses.len() - index).unwrap_or(1);
        let patience = deadline.left() / share;
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
    }
    match last {
        None if addresses.is_empty() => Err(unresolved(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))),
        None => Err(deadline.passed(host, Stage::Connect)),
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Error::Refused {
            node: host.to_owned(),
            port,
        }),
        Some(error) => Err(Error::Unreachable {
            node: host.to_owned(),
            port,
            source: Arc::new(error),
        }),
    }
}

/// Waits until the server's next line begins with `SSH-`, and leaves that line to be read. Lines before it are taken
/// away, as RFC 4253 section 4.2 allows: they hold what sshd says when it turns a connection away.
async fn banner(stream: &TcpStream, node: &str, port: u16) -> Result<String, Error> {
    let mut said = Vec::new();
    let mut at_line_start = true;
    let mut buffer = [0; 1024];
    let closed = |said: &[u8]| {
        let (node, said) = (node.to_owned(), clip_bytes(said));
        if said.contains(KEPT_OUT) {
            Error::KeptOut { node, said }
        } else {
            Error::TooManyConnections { node, said }
        }
    };
    loop {
        let length = match stream.peek(&mut buffer).await {
            Ok(0) => return Err(closed(&said)),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(closed(&said)),
            Err(error) => {
                let detail = error.to_string();
                return Err(Error::Protocol {
                    node: node.to_owned(),
                    stage: Stage::Banner,
                    detail,
                });
            }
        };
        let here = buffer.get(..length).unwrap_or_default();
        if at_line_start && here.starts_with(b"SSH-") {
            return Ok(clip_bytes(here.split(|b| *b == b'\n').next().unwrap_or_default()));
        }
        if at_line_start && b"SSH-".starts_with(here) {
            // Two or three bytes of it: peek returns at once while they lie there.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let line = here
            .iter()
            .position(|b| *b == b'\n')
            .map_or(length, |end| end + 1);
        at_line_start = line < length || here.ends_with(b"\n");
        said.extend_from_slice(here.get(..line).unwrap_or_default());
        if said.len() > MAX_PREAMBLE {
            return Err(Error::NotSsh {
                node: node.to_owned(),
                port,
                said: clip_bytes(&said),
            });
        }
        let mut rest = line;
        while rest > 0 {
            let taken = buffer.get_mut(..rest).map_or(Ok(0), |part| stream.try_read(part));
            match taken {
                Ok(0) => return Err(closed(&said)),
                Ok(taken) => rest = rest.saturating_sub(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable().await.unwrap_or(())
                }
                Err(_) => return Err(closed(&said)),
            }
        }
    }
}

fn clip_bytes(bytes: &[u8]) -> String {
    clip(&String::from_utf8_lossy(bytes.get(..400).unwrap_or(bytes)))
}

/// What a peer said, short and on one line: it goes into logs and mails.
pub(crate) fn clip(text: &str) -> String {
    let flat: String = text
        .trim()
        .chars()
        .take(200)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    flat.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn against(said: &'static [u8], stay: bool) -> Result<Link, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            for piece in said.chunks(7.max(said.len() / 20)) {
                peer.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if stay {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let end = Instant::now() + Duration::from_secs(60);
        dial(
            "127.0.0.1",
            "127.0.0.1",
            port,
            Deadline::new(Duration::from_millis(500), end),
        )
        .await
    }

    #[tokio::test]
    async fn a_banner_is_left_to_be_read() {
        let link = against(b"hello\r\nSSH-2.0-x\r\n", true).await.unwrap();
        let mut begin = [0; 4];
        let mut stream = link.stream;
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut begin)
            .await
            .unwrap();
        assert_eq!(&begin, b"SSH-");
    }

    #[tokio::test]
    async fn being_turned_away_is_told_from_hanging_and_from_nonsense() {
        match against(b"Not allowed at this time\r\n", false).await.map(drop) {
            Err(Error::KeptOut { .. }) => {}
            other => panic!("{other:?}"),
        }
        for said in [&b""[..], b"Exceeded MaxStartups\r\n"] {
            match against(said, false).await.map(drop) {
                Err(Error::TooManyConnections { said: heard, .. }) => {
                    assert_eq!(heard.as_bytes(), said.trim_ascii());
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(
            against(b"", true).await.map(drop),
            Err(Error::TimedOut {
                stage: Stage::Banner,
                ..
            })
        ));
        assert!(matches!(
            against(&[b'x'; 20_000], true).await.map(drop),
            Err(Error::NotSsh { .. })
        ));
    }

    #[test]
    fn what_a_peer_says_stays_on_its_line() {
        assert_eq!(clip("a\r\nb\x1b[31m\n"), "a  b [31m");
        assert_eq!(clip(&"x".repeat(1000)).len(), 200);
    }
}
