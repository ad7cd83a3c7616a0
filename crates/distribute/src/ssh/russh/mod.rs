//! SSH by russh: the way for GSSAPI, which libssh2 does not have.

mod login;
mod preferred;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use russh::{
    ChannelMsg, ChannelStream, Disconnect, MethodSet, SshId,
    client::{self, AuthResult, DisconnectReason, Msg},
    keys::PublicKeyOrCertificate,
};

use super::{
    Job,
    gssapi::{self, Authenticator},
    sftp, work,
};
use crate::{
    Chosen, Error, Method, Report, Stage, Transport, Verdict,
    dial::{Cut, Deadline, Link, clip},
    known_hosts::KnownHosts,
};

/// How long a session may take to end.
const PARTING: Duration = Duration::from_millis(500);

/// A connection whose host key is the known one.
pub(super) struct Session {
    handle: client::Handle<Client>,
    facts: Arc<Mutex<Facts>>,
    server: String,
    host_key: Option<Verdict>,
    /// Ends russh's task with this value, whatever it waits for.
    _cut: Cut,
}

/// What russh's task learns and tells nobody else.
#[derive(Default)]
struct Facts {
    verdict: Option<Verdict>,
    /// The server's farewell.
    said: String,
}

struct Client {
    hosts: Arc<KnownHosts>,
    facts: Arc<Mutex<Facts>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let shown = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key.to_bytes()?,
            PublicKeyOrCertificate::Certificate(certificate) => certificate.to_bytes()?,
        };
        let hosts = Arc::clone(&self.hosts);
        let decided = tokio::task::spawn_blocking(move || hosts.decide(&shown)).await;
        let verdict = decided.map_err(|_| russh::Error::Inconsistent)?;
        let trusted = verdict.is_trusted();
        lock(&self.facts).verdict = Some(verdict);
        Ok(trusted)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        lock(&self.facts).said = match reason {
            DisconnectReason::ReceivedDisconnect(info) => clip(&info.message),
            DisconnectReason::Error(error) => match error {
                russh::Error::Disconnect | russh::Error::HUP => String::new(),
                other => clip(&other.to_string()),
            },
        };
        Ok(())
    }
}

impl Session {
    /// Key exchange and host key.
    pub(super) async fn start(
        job: &Job,
        link: Link,
        hosts: KnownHosts,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let preferred = preferred::preferred(&hosts, &job.node.options.algorithms)
            .map_err(|list| job.none_known(&list))?;
        let config = client::Config {
            client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-mtk")),
            preferred,
            inactivity_timeout: Some(job.limits.total),
            ..client::Config::default()
        };
        let facts = Arc::new(Mutex::new(Facts::default()));
        let client = Client {
            hosts: Arc::new(hosts),
            facts: Arc::clone(&facts),
        };
        let connecting = client::connect_stream(Arc::new(config), link.stream, client);
        let handle = deadline
            .bound(job.host(), Stage::KeyExchange, connecting)
            .await?
            .map_err(|error| match lock(&facts).verdict.take() {
                Some(verdict) if !verdict.is_trusted() => job.not_trusted(verdict),
                _ => broken(job, Stage::KeyExchange, &error),
            })?;
        let verdict = lock(&facts).verdict.take();
        let host_key = verdict.map(|verdict| job.trust(verdict)).transpose()?;
        Ok(Self {
            handle,
            facts,
            server: link.server,
            host_key,
            _cut: link.cut,
        })
    }

    /// Asks for entry without offering anything: the refusal names what the server accepts (RFC 4252, section 5.2).
    pub(super) async fn accepted(&mut self, job: &Job, deadline: Deadline) -> Result<Vec<String>, Error> {
        let asking = self.handle.authenticate_none(job.node.user.clone());
        let answer = deadline.bound(job.host(), Stage::Authentication, asking).await?;
        match answer.map_err(|error| broken(job, Stage::Authentication, &error))? {
            AuthResult::Success => Err(job.protocol(
                Stage::Authentication,
                "it lets the account in without asking who comes",
            )),
            AuthResult::Failure {
                remaining_methods, ..
            } => self.methods(job, &remaining_methods),
        }
    }

    /// russh says "refused, nothing else accepted" when the connection is gone.
    fn methods(&self, job: &Job, remaining: &MethodSet) -> Result<Vec<String>, Error> {
        if remaining.is_empty() && self.handle.is_closed() {
            return Err(self.gone(job, Stage::Authentication));
        }
        Ok(remaining.iter().map(String::from).collect())
    }

    fn gone(&self, job: &Job, stage: Stage) -> Error {
        Error::Disconnected {
            node: job.node.host.clone(),
            stage,
            said: lock(&self.facts).said.clone(),
        }
    }

    /// Logs in with a ticket.
    pub(super) async fn gssapi(
        &mut self,
        job: &Job,
        ticket: &kerberos::Ticket,
        gss: &kerberos::Gss,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let target = kerberos::Target::HostBased {
            service: "host".to_owned(),
            host: job
                .node
                .options
                .gssapi_server
                .as_ref()
                .unwrap_or(&job.node.host)
                .clone(),
        };
        let mut authenticator = Authenticator {
            ticket,
            gss,
            target,
            initiator: None,
            server_said: None,
        };
        let user = job.node.user.clone();
        let login =
            self.handle
                .authenticate_gssapi_with_mic(user, vec![gssapi::KRB5.to_vec()], &mut authenticator);
        let answer = deadline.bound(job.host(), Stage::Authentication, login).await?;
        let unheard = authenticator.initiator.is_none();
        if let Some(said) = authenticator.server_said {
            tracing::debug!(said, "the server's side of GSSAPI failed");
        }
        match answer {
            Ok(AuthResult::Success) => Ok(()),
            Ok(AuthResult::Failure {
                remaining_methods, ..
            }) => {
                let accepted = self.methods(job, &remaining_methods)?;
                if unheard {
                    return Err(job.unheard(accepted));
                }
                Err(job.refused(vec![Method::Gssapi], accepted))
            }
            Err(gssapi::Failed::Kerberos(error)) => Err(Error::GssFailed {
                node: job.node.host.clone(),
                principal: ticket.principal().to_string(),
                source: Box::new(error),
            }),
            Err(gssapi::Failed::Server(detail)) => Err(job.protocol(Stage::Authentication, detail)),
            Err(gssapi::Failed::Gone) => Err(self.gone(job, Stage::Authentication)),
        }
    }

    /// Starts SFTP, works on the files and says goodbye.
    pub(super) async fn work(self, job: &Job, method: Method, deadline: Deadline) -> Result<Report, Error> {
        let mut sftp = deadline.bound(job.host(), Stage::Sftp, self.sftp(job)).await??;
        let files = work(&mut sftp, job).await;
        drop(sftp);
        let (server, host_key) = (self.server.clone(), self.host_key.clone());
        self.end().await;
        Ok(Report {
            files,
            host_key,
            method,
            transport: Transport::Russh,
            chosen: Chosen::AsTold,
            server,
        })
    }

    async fn sftp(&self, job: &Job) -> Result<sftp::Session, Error> {
        let missing = |detail: String| Error::SftpMissing {
            node: job.node.host.clone(),
            account: job.node.user.clone(),
            detail: clip(&detail),
        };
        let mut channel = match self.handle.channel_open_session().await {
            Ok(channel) => channel,
            Err(russh::Error::ChannelOpenFailure(why)) => {
                return Err(missing(format!("no channel: {why:?}")));
            }
            Err(_) if self.handle.is_closed() => return Err(self.gone(job, Stage::Sftp)),
            Err(error) => return Err(broken(job, Stage::Sftp, &error)),
        };
        channel
            .request_subsystem(true, "sftp")
            .await
            .map_err(|error| broken(job, Stage::Sftp, &error))?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => break,
                Some(ChannelMsg::Failure) => return Err(missing("the subsystem was refused".into())),
                Some(ChannelMsg::Close | ChannelMsg::Eof) => {
                    return Err(missing("the channel was closed".into()));
                }
                None => return Err(self.gone(job, Stage::Sftp)),
                Some(_) => {}
            }
        }
        match sftp::Session::start(channel.into_stream(), job.limits.total).await {
            Ok(session) => Ok(session),
            Err(_) if self.handle.is_closed() => Err(self.gone(job, Stage::Sftp)),
            Err(_) => Err(missing(
                "what runs as SFTP server ended or said something else".into(),
            )),
        }
    }

    /// A connection from this host to another (`direct-tcpip`), for [`super::jump`].
    pub(super) async fn direct(
        &self,
        job: &Job,
        address: &str,
        port: u16,
    ) -> Result<ChannelStream<Msg>, Error> {
        let opening = self
            .handle
            .channel_open_direct_tcpip(address, u32::from(port), "127.0.0.1", 0);
        match opening.await {
            Ok(channel) => Ok(channel.into_stream()),
            Err(russh::Error::ChannelOpenFailure(why)) => Err(Error::Unreachable {
                node: job.node.host.clone(),
                port,
                source: Arc::new(std::io::Error::other(format!(
                    "the host before it in ProxyJump would not connect to it: {why:?}"
                ))),
            }),
            Err(_) if self.handle.is_closed() => Err(self.gone(job, Stage::Connect)),
            Err(error) => Err(broken(job, Stage::Connect, &error)),
        }
    }

    /// Says goodbye and lets russh's task end, so that sshd logs an orderly leave; but nobody waits long for that.
    pub(super) async fn end(self) {
        let goodbye = async {
            let _ = self.handle.disconnect(Disconnect::ByApplication, "", "").await;
            let _ = self.handle.await;
        };
        let _ = tokio::time::timeout(PARTING, goodbye).await;
    }
}

/// By whose fault, as far as russh says.
fn broken(job: &Job, stage: Stage, error: &russh::Error) -> Error {
    let node = job.node.host.clone();
    let detail = clip(&error.to_string());
    match error {
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::SendError | russh::Error::RecvError => {
            Error::Disconnected {
                node,
                stage,
                said: String::new(),
            }
        }
        russh::Error::IO(_) => Error::Disconnected {
            node,
            stage,
            said: detail,
        },
        russh::Error::InactivityTimeout => Error::TimedOut {
            node,
            stage,
            after: job.limits.total,
        },
        russh::Error::NoCommonAlgo { .. }
        | russh::Error::Kex
        | russh::Error::KexInit
        | russh::Error::WrongServerSig => Error::Negotiation { node, detail },
        _ => Error::Protocol { node, stage, detail },
    }
}

fn lock(facts: &Mutex<Facts>) -> MutexGuard<'_, Facts> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}
