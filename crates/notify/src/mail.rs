//! Mail, over SMTP.

use std::{path::PathBuf, time::Duration};

use config::MailTls;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::AddressError,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};

use crate::send::Means;

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailError {
    /// The server was not reached, refused it, or speaks no TLS that can be believed.
    #[error("the mail server {server} did not take it")]
    Server {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: lettre::transport::smtp::Error,
    },
    /// It took too long.
    #[error("the mail server {server} did not take it within {} s", after.as_secs())]
    Late {
        /// The server.
        server: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// An address is none.
    #[error("{address:?} is no address of mail")]
    Address {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: AddressError,
    },
    /// It could not be put together.
    #[error("the mail cannot be put together")]
    Message(#[source] lettre::error::Error),
    /// The file with the password.
    #[error("the password of the mail server cannot be read from {}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A mail server, set up.
pub(crate) struct Postman {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
    from: Mailbox,
}

impl Postman {
    pub(crate) fn new(mail: &config::Mail, means: &Means<'_>, timeout: Duration) -> Result<Self, MailError> {
        let server = format!("{}:{}", mail.host, mail.port);
        let from = match &mail.from {
            Some(from) => from.clone(),
            None => format!("mtk@{}", means.host),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
            .port(mail.port)
            .timeout(Some(timeout))
            .hello_name(ClientId::Domain(means.host.to_owned()));
        if mail.tls != MailTls::Plain {
            let failed = |source| MailError::Server {
                server: server.clone(),
                source,
            };
            let mut parameters = TlsParameters::builder(mail.host.clone());
            for root in means.roots {
                parameters =
                    parameters.add_root_certificate(Certificate::from_der(root.clone()).map_err(failed)?);
            }
            let parameters = parameters.build_rustls().map_err(failed)?;
            builder = builder.tls(match mail.tls {
                MailTls::StartTls => Tls::Required(parameters),
                MailTls::Tls => Tls::Wrapper(parameters),
                MailTls::Auto | MailTls::Plain => Tls::Opportunistic(parameters),
            });
        }
        if let Some(name) = &mail.username {
            let password = match &mail.password_file {
                Some(path) => std::fs::read_to_string(path).map_err(|source| MailError::Password {
                    path: path.clone(),
                    source,
                })?,
                None => String::new(),
            };
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            builder = builder.credentials(Credentials::new(name.clone(), password));
        }
        Ok(Self {
            transport: builder.build(),
            server,
            from: mailbox(&from)?,
        })
    }

    /// To all in one mail; if the server does not take one of them, to each alone, so that a colleague who left costs
    /// nobody else anything.
    pub(crate) async fn send(
        &self,
        to: &[String],
        subject: &str,
        body: &str,
        means: &Means<'_>,
    ) -> Result<(), MailError> {
        match self.one(to, subject, body, means).await {
            Err(MailError::Server { source, .. }) if source.is_permanent() && to.len() > 1 => {
                let mut refused = Vec::new();
                for address in to {
                    if let Err(error) = self
                        .one(std::slice::from_ref(address), subject, body, means)
                        .await
                    {
                        tracing::warn!(address, error = %credential::chain(&error), "a notice was not taken for this address");
                        refused.push(error);
                    }
                }
                // told is who was reached; whoever looks after mtk hears of the others
                match refused.pop() {
                    Some(error) if refused.len() + 1 == to.len() => Err(error),
                    _ => Ok(()),
                }
            }
            other => other,
        }
    }

    async fn one(
        &self,
        to: &[String],
        subject: &str,
        body: &str,
        means: &Means<'_>,
    ) -> Result<(), MailError> {
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .raw_header(raw("Auto-Submitted", "auto-generated"))
            .raw_header(raw("X-Mtk-Trace-Id", means.trace_id));
        for address in to {
            builder = builder.to(mailbox(address)?);
        }
        let message = builder.body(body.to_owned()).map_err(MailError::Message)?;
        let sent = self.transport.send(message).await;
        sent.map(drop).map_err(|source| MailError::Server {
            server: self.server.clone(),
            source,
        })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }
}

fn raw(name: &'static str, value: &str) -> lettre::message::header::HeaderValue {
    let value: String = value.chars().filter(|c| c.is_ascii_graphic()).collect();
    lettre::message::header::HeaderValue::new(
        lettre::message::header::HeaderName::new_from_ascii_str(name),
        value,
    )
}

fn mailbox(address: &str) -> Result<Mailbox, MailError> {
    address.parse().map_err(|source| MailError::Address {
        address: address.to_owned(),
        source,
    })
}
