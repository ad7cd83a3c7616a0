//! A small HTTP/1.1 client for the plain listeners inside a bed: one request, one connection, everything bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The longest answer that is taken, in bytes.
const LONGEST: u64 = 8 << 20;
/// How long a step of the exchange may take.
const STEP: Duration = Duration::from_secs(30);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, decoded if it came in chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `null` when it is empty.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn json(&self) -> Result<Value> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }

    /// The start of the body as text, for messages.
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(300)
            .collect::<String>()
            .trim()
            .to_owned()
    }
}

/// Sends one request and reads the whole answer.
///
/// # Errors
/// No connection, no answer within 30 s a step, or an answer that is no HTTP or longer than 8 MiB.
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .with_context(|| format!("cannot connect to {to}"))?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text += &body;
    stream
        .write_all(text.as_bytes())
        .with_context(|| format!("cannot send to {to}"))?;
    let mut bytes = Vec::new();
    stream
        .take(LONGEST)
        .read_to_end(&mut bytes)
        .with_context(|| format!("no answer from {to}"))?;
    parse(&bytes).with_context(|| format!("the answer of {to} to {method} {path}"))
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = find(bytes, b"\r\n\r\n").context("no end of the header")?;
    let head =
        std::str::from_utf8(bytes.get(..end).unwrap_or_default()).context("a header that is no text")?;
    let body = bytes.get(end + 4..).unwrap_or_default();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .context("no HTTP status line")?;
    let header = |wanted: &str| {
        head.split("\r\n").skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let body = if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        unchunk(body)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().context("Content-Length is no number")?;
        body.get(..length)
            .context("the body is shorter than it says")?
            .to_vec()
    } else {
        body.to_vec()
    };
    Ok(Answer { status, body })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").context("a chunk without a length")?;
        let line = std::str::from_utf8(rest.get(..end).unwrap_or_default())
            .context("a chunk length that is no text")?;
        let length = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(length, 16).context("a chunk length that is no number")?;
        if length == 0 {
            return Ok(body);
        }
        let start = end + 2;
        let Some(chunk) = start.checked_add(length).and_then(|stop| rest.get(start..stop)) else {
            bail!("a chunk shorter than it says");
        };
        body.extend_from_slice(chunk);
        rest = rest.get(start + length + 2..).context("a chunk without an end")?;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_length_and_without() {
        let answer = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"hi".as_slice()));
        assert_eq!(
            parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().json().unwrap(),
            Value::Null
        );
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi").is_err());
    }

    #[test]
    fn in_chunks() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n";
        assert_eq!(parse(bytes).unwrap().body, b"hi!");
        for cut in 0..bytes.len() - 2 {
            // never a panic, whatever is missing
            let _either = parse(bytes.get(..cut).unwrap());
        }
        assert!(unchunk(b"ffffffffffffffff\r\nx").is_err());
    }
}
