//! A TCP connection with CEDAR's framing on it. What messages say is none of its business.

use std::io;

use cedar::{
    Malformed, Unsendable,
    wire::{Channel, Chunk, Incoming, Outgoing},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How a connection came to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Cleanly, between messages.
    Closed,
    /// By the network, or in the middle of a message.
    Io(io::Error),
    /// By what the peer sent.
    Malformed(Malformed),
    /// By what we wanted to send.
    Unsendable(Unsendable),
}

/// A connection.
pub(crate) struct Framed {
    stream: TcpStream,
    pub(crate) channel: Channel,
    /// To be written together with the next message.
    held_back: Vec<u8>,
}

impl Framed {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            channel: Channel::new(),
            held_back: Vec::new(),
        }
    }

    /// Asks a shared-port daemon to pass us on. Nothing is written yet: with the first request in the same segment
    /// a daemon that does not know the id closes with bytes unread, which resets the connection, and so can be told
    /// from one that read our request and refused it.
    pub(crate) fn pass_on(&mut self, hello: &Outgoing) -> Result<(), Unsendable> {
        self.hold_back(hello)?;
        // the shared-port daemon swallows this; the daemon behind it never counts it
        self.channel.reset_digests();
        Ok(())
    }

    /// Writes a message together with the next one.
    pub(crate) fn hold_back(&mut self, message: &Outgoing) -> Result<(), Unsendable> {
        self.held_back.extend_from_slice(&self.channel.send(message)?);
        Ok(())
    }

    /// Writes a message.
    ///
    /// # Cancel safety
    /// Not cancel safe: part of the message may have been written. Drop the connection.
    pub(crate) async fn send(&mut self, message: &Outgoing) -> Result<(), Broken> {
        // sealed, or without secrets: the channel refuses a credential on a plain stream
        let mut bytes = std::mem::take(&mut self.held_back);
        bytes.extend_from_slice(&self.channel.send(message).map_err(Broken::Unsendable)?);
        self.stream.write_all(&bytes).await.map_err(Broken::Io)
    }

    /// Reads a message of at most `limit` bytes.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read stays in the channel.
    pub(crate) async fn message(&mut self, limit: usize) -> Result<Incoming, Broken> {
        loop {
            if let Some(message) = self.channel.message(limit).map_err(Broken::Malformed)? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Reads the payload of one frame.
    ///
    /// # Cancel safety
    /// Cancel safe: what was read stays in the channel.
    pub(crate) async fn chunk(&mut self) -> Result<Chunk, Broken> {
        loop {
            if let Some(chunk) = self.channel.chunk().map_err(Broken::Malformed)? {
                return Ok(chunk);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer).await.map_err(Broken::Io)? {
            0 if self.channel.is_mid_message() => Err(Broken::Io(io::ErrorKind::UnexpectedEof.into())),
            0 => Err(Broken::Closed),
            n => {
                self.channel.push(buffer.get(..n).unwrap_or_default());
                Ok(())
            }
        }
    }
}
