//! What the outside world has to say to a handshake: Kerberos, TLS, tokens, the file system.

use std::{error::Error as StdError, io, net::SocketAddr, sync::Arc};

use cedar::auth::{Answer, Question, TlsTurn};
use jiff::Timestamp;
use kerberos::{Initiator, Mech, Step, Target};
use rustls::client::ResolvesClientCert;
use tokio::net::TcpStream;

use crate::{Identity, Kind, conversation::Plan, directory::Directory, tls_client::TlsClient};

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
    gss: Option<Initiator>,
    tls: Option<TlsClient>,
    directory: Option<Directory>,
    /// The Kerberos library's own error, if there was one.
    pub(crate) kerberos_error: Option<Kind>,
}

/// An error and its causes in one line, for reasons that travel as text.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

impl<'a> Answers<'a> {
    pub(crate) fn new(plan: &'a Plan<'a>, ends: Ends) -> Self {
        Self {
            plan,
            ends,
            gss: None,
            tls: None,
            directory: None,
            kerberos_error: None,
        }
    }

    pub(crate) async fn answer(&mut self, question: Question) -> Answer {
        let answered = match question {
            Question::KerberosToken => self.first_token().await.map(Answer::KerberosToken),
            Question::KerberosProof(token) => self.prove(token).await.map(|()| Answer::KerberosProven),
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

    /// A token for the first of the daemon's names that the KDC knows.
    async fn first_token(&mut self) -> Result<Vec<u8>, String> {
        let robot = self.identity()?.kerberos.as_ref();
        let robot = robot.ok_or_else(|| "there is no ticket".to_owned())?;
        let mut failed = Kind::Nameless;
        for host in &self.plan.peer.hosts {
            let target = Target::Principal(format!("host/{host}@"));
            let begun = robot.gss.begin(&robot.ticket, &target, Mech::Krb5, true).await;
            match begun {
                Ok((initiator, token)) => {
                    self.gss = Some(initiator);
                    return Ok(token);
                }
                Err(error @ kerberos::Error::ServiceUnknown { .. }) => {
                    // the first name is the one people know
                    if matches!(failed, Kind::Nameless) {
                        failed = Kind::Kerberos(error);
                    }
                }
                Err(error) => {
                    failed = Kind::Kerberos(error);
                    break;
                }
            }
        }
        Err(self.kerberos_failed(failed))
    }

    async fn prove(&mut self, token: Vec<u8>) -> Result<(), String> {
        let initiator = self
            .gss
            .as_mut()
            .ok_or_else(|| "there is no context".to_owned())?;
        match initiator.step(token).await {
            // complete and nothing more to say: the peer has the key of the ticket
            Ok(Step::Complete(None)) => Ok(()),
            Ok(_) => Err("the peer's token does not complete the context".to_owned()),
            Err(error) => Err(self.kerberos_failed(Kind::Kerberos(error))),
        }
    }

    fn kerberos_failed(&mut self, kind: Kind) -> String {
        let why = match &kind {
            Kind::Kerberos(error) => told(error),
            kind => told(kind),
        };
        self.kerberos_error = Some(kind);
        why
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
