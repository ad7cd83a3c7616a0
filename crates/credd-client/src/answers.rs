//! What the outside world has to say to a handshake: Kerberos, TLS, tokens, the file system.

use std::{io, net::SocketAddr, sync::Arc};

use cedar::auth::{Answer, Question, TlsTurn};
use jiff::Timestamp;
use rustls::client::ResolvesClientCert;
use tokio::net::TcpStream;

use crate::{Identity, Kind, conversation::Plan, directory::Directory, tls_client::TlsClient};

#[cfg(feature = "kerberos")]
#[path = "gss.rs"]
mod gss;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    ours: SocketAddr,
    theirs: SocketAddr,
}

impl Ends {
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self {
            ours: stream.local_addr()?,
            theirs: stream.peer_addr()?,
        })
    }

    /// Whether both are here: what is made in a file system is seen at the other end only then.
    pub(crate) fn are_on_one_host(self) -> bool {
        self.theirs.ip().is_loopback() || self.theirs.ip() == self.ours.ip()
    }
}

/// Answers the questions of one handshake. What a method holds meanwhile is dropped with it.
pub(crate) struct Answers<'a> {
    plan: &'a Plan<'a>,
    ends: Ends,
    #[cfg(feature = "kerberos")]
    gss: gss::Gss,
    tls: Option<TlsClient>,
    directory: Option<Directory>,
}

impl<'a> Answers<'a> {
    pub(crate) fn new(plan: &'a Plan<'a>, ends: Ends) -> Self {
        Self {
            plan,
            ends,
            #[cfg(feature = "kerberos")]
            gss: gss::Gss::default(),
            tls: None,
            directory: None,
        }
    }

    pub(crate) async fn answer(&mut self, question: Question) -> Answer {
        let answered = match question {
            #[cfg(feature = "kerberos")]
            Question::KerberosToken => match self.identity() {
                Ok(identity) => {
                    let token = self.gss.first_token(identity, &self.plan.peer.hosts).await;
                    token.map(Answer::KerberosToken)
                }
                Err(why) => Err(why),
            },
            #[cfg(feature = "kerberos")]
            Question::KerberosProof(token) => self.gss.prove(token).await.map(|()| Answer::KerberosProven),
            Question::IdToken(wanted) => self.identity().and_then(|identity| {
                let token = identity.id_token(&wanted, Timestamp::now())?;
                Ok(Answer::IdToken(token.clone(), Box::new(rand::random())))
            }),
            Question::TlsClient { bearer } => self.begin_tls(bearer).map(Answer::Tls),
            Question::Tls(records) => self.tls().and_then(|tls| tls.turn(&records)).map(Answer::Tls),
            Question::TlsBearer => self.send_bearer().map(Answer::Tls),
            Question::Directory(path) => {
                let made = Directory::make(&path, &self.plan.options.fs_directory, self.ends.theirs);
                made.map(|(directory, extension)| {
                    self.directory = Some(directory);
                    Answer::Directory { extension }
                })
            }
            Question::User => self
                .identity()
                .map(|identity| Answer::User(identity.user.clone())),
            _ => Err("it is not known here".to_owned()),
        };
        answered.unwrap_or_else(|why| Answer::Unavailable(why.into()))
    }

    fn identity(&self) -> Result<&'a Identity, String> {
        self.plan
            .identity
            .ok_or_else(|| "there is no identity".to_owned())
    }

    /// The handshake's error, with what a library of ours said of it.
    pub(crate) fn explain(&mut self, error: cedar::Error) -> Kind {
        #[cfg(feature = "kerberos")]
        return self.gss.explain(error);
        #[cfg(not(feature = "kerberos"))]
        error.into()
    }

    fn begin_tls(&mut self, bearer: bool) -> Result<TlsTurn, String> {
        let config = self.plan.options.tls.as_ref();
        let config = config.ok_or_else(|| "TLS is not configured".to_owned())?;
        let certificate = self
            .plan
            .identity
            .and_then(|identity| identity.certificate.clone())
            .filter(|_| !bearer)
            .map(|certificate| Arc::new(certificate) as Arc<dyn ResolvesClientCert>);
        let peer = self.plan.peer;
        let name = peer.hosts.first().map_or(peer.sinful.host(), String::as_str);
        self.tls = Some(TlsClient::new(config, certificate, name)?);
        Ok(TlsTurn::default())
    }

    fn tls(&mut self) -> Result<&mut TlsClient, String> {
        self.tls
            .as_mut()
            .ok_or_else(|| "there is no TLS client".to_owned())
    }

    fn send_bearer(&mut self) -> Result<TlsTurn, String> {
        let bearer = self.identity()?.bearer.as_ref();
        let bearer = bearer.ok_or_else(|| "there is no bearer token".to_owned())?;
        self.tls()?.send_bearer(bearer.expose())
    }
}
