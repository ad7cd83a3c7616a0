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
}

impl Framed {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            channel: Channel::new(),
        }
    }

    /// Writes a message.
    ///
    /// # Cancel safety
    /// Not cancel safe: part of the message may have been written. Drop the connection.
    pub(crate) async fn send(&mut self, message: &Outgoing) -> Result<(), Broken> {
        // sealed, or without secrets: the channel refuses a credential on a plain stream
        let bytes = self.channel.send(message).map_err(Broken::Unsendable)?;
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
