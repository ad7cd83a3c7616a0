//! The TLS side of SSL and SCITOKENS: a rustls client over buffers, which `cedar` carries in its messages.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use cedar::auth::TlsTurn;
use rustls::{
    ClientConfig, ClientConnection,
    client::{ResolvesClientCert, Resumption},
    pki_types::ServerName,
};
use zeroize::Zeroizing;

/// More data than a peer has to say inside TLS: its key of 256 bytes.
const MAX_DATA: usize = 4096;

/// One TLS connection.
pub(crate) struct TlsClient {
    connection: ClientConnection,
    received: usize,
}

impl TlsClient {
    /// A client that believes what `config` believes, for a server called `name`, presenting `certificate` if there
    /// is one and the server asks.
    pub(crate) fn new(
        config: &Arc<ClientConfig>,
        certificate: Option<Arc<dyn ResolvesClientCert>>,
        name: &str,
    ) -> Result<Self, String> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no name for a certificate"))?;
        let mut config = ClientConfig::clone(config);
        // a resumed TLS session would carry the identity it was made with, and the configuration is everybody's
        config.resumption = Resumption::disabled();
        config.alpn_protocols.clear();
        config.client_auth_cert_resolver = certificate.unwrap_or_else(|| Arc::new(Nobody));
        let connection =
            ClientConnection::new(Arc::new(config), server).map_err(|error| error.to_string())?;
        Ok(Self {
            connection,
            received: 0,
        })
    }

    /// Takes the peer's records and says what is to be sent.
    pub(crate) fn turn(&mut self, mut records: &[u8]) -> Result<TlsTurn, String> {
        while !records.is_empty() {
            let taken = self.connection.read_tls(&mut records);
            if taken.map_err(|error| error.to_string())? == 0 {
                return Err("the peer sent records after its end of TLS".to_owned());
            }
            self.connection
                .process_new_packets()
                .map_err(|error| error.to_string())?;
            self.drain()?;
        }
        self.pending()
    }

    /// `token` as data, behind its length.
    pub(crate) fn send_bearer(&mut self, token: &str) -> Result<TlsTurn, String> {
        let length = u32::try_from(token.len()).map_err(|error| error.to_string())?;
        let mut data = Zeroizing::new(Vec::with_capacity(4 + token.len()));
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(token.as_bytes());
        self.connection
            .writer()
            .write_all(&data)
            .map_err(|error| error.to_string())?;
        self.pending()
    }

    fn pending(&mut self) -> Result<TlsTurn, String> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection
                .write_tls(&mut records)
                .map_err(|error| error.to_string())?;
        }
        Ok(TlsTurn {
            records,
            established: !self.connection.is_handshaking(),
            received: self.received,
        })
    }

    /// Counts the peer's data and forgets it.
    fn drain(&mut self) -> Result<(), String> {
        let mut buffer = Zeroizing::new([0; 512]);
        loop {
            match self.connection.reader().read(buffer.as_mut_slice()) {
                Ok(0) => return Ok(()),
                Ok(n) => self.received += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
            if self.received > MAX_DATA {
                return Err("the peer sent more data than it has to say".to_owned());
            }
        }
    }
}

/// Presents nothing.
#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
