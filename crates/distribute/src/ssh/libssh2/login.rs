//! Logging in with keys, certificates and an agent.

use std::path::Path;

use ssh2::ErrorCode;

use super::{Job, broken, budget, millis, raw};
use crate::{
    Error, KeyFault, Method, Stage,
    dial::{Deadline, clip},
    identity::{Credential, MAX_AGENT_KEYS},
};

pub(super) fn log_in(
    job: &Job,
    session: &ssh2::Session,
    credentials: &[Credential],
    deadline: Deadline,
) -> Result<(), Error> {
    let arm = || millis(deadline).ok_or_else(|| deadline.passed(job.host(), Stage::Authentication));
    for credential in credentials {
        session.set_timeout(arm()?);
        match credential {
            Credential::Key {
                path,
                key,
                certificate,
            } => {
                let public = certificate.as_ref().map(|(text, _)| text.as_str());
                match session.userauth_pubkey_memory(&job.node.user, public, key.expose(), None) {
                    Ok(()) => return Ok(()),
                    Err(error) => refusal(job, path, deadline, &error)?,
                }
            }
            Credential::Agent { socket } => {
                if with_agent(job, session, socket, deadline)? {
                    return Ok(());
                }
            }
        }
    }
    session.set_timeout(arm()?);
    let accepted = raw::accepted_methods(session, &job.node.user);
    Err(job.refused(vec![Method::PublicKey], accepted))
}

/// Whether one of the agent's keys was let in. libssh2 talks to the agent without a deadline of its own; the session's
/// own end does not wait for it.
fn with_agent(job: &Job, session: &ssh2::Session, socket: &Path, deadline: Deadline) -> Result<bool, Error> {
    let failed = |error: ssh2::Error| Error::Agent {
        node: job.node.host.clone(),
        socket: socket.to_owned(),
        detail: clip(error.message()),
    };
    let mut agent = session.agent().map_err(failed)?;
    agent.set_identity_path(socket).map_err(failed)?;
    agent.connect().map_err(failed)?;
    agent.list_identities().map_err(failed)?;
    for identity in agent.identities().map_err(failed)?.iter().take(MAX_AGENT_KEYS) {
        let left = millis(deadline).ok_or_else(|| deadline.passed(job.host(), Stage::Authentication))?;
        session.set_timeout(left);
        match agent.userauth(&job.node.user, identity) {
            Ok(()) => return Ok(true),
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::Session(libssh2_sys::LIBSSH2_ERROR_TIMEOUT)
                ) =>
            {
                return Err(broken(job, Stage::Authentication, deadline, &error));
            }
            Err(error) => {
                tracing::debug!(%error, key = identity.comment(), "a key of the agent did not do");
            }
        }
    }
    Ok(false)
}

/// `Ok` if the server merely refused this key: the next one may do.
fn refusal(job: &Job, path: &Path, deadline: Deadline, error: &ssh2::Error) -> Result<(), Error> {
    if budget::is_over() {
        // libssh2 calls every end of the connection a failed login here
        return Err(broken(job, Stage::Authentication, deadline, error));
    }
    match error.code() {
        ErrorCode::Session(
            libssh2_sys::LIBSSH2_ERROR_AUTHENTICATION_FAILED
            | libssh2_sys::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED,
        ) => Ok(()),
        ErrorCode::Session(
            libssh2_sys::LIBSSH2_ERROR_FILE
            | libssh2_sys::LIBSSH2_ERROR_KEYFILE_AUTH_FAILED
            | libssh2_sys::LIBSSH2_ERROR_METHOD_NOT_SUPPORTED
            | libssh2_sys::LIBSSH2_ERROR_ALGO_UNSUPPORTED
            | libssh2_sys::LIBSSH2_ERROR_PUBLICKEY_PROTOCOL,
        ) => Err(Error::KeyFile {
            path: path.to_owned(),
            why: KeyFault::NotAKey {
                detail: clip(error.message()),
            },
        }),
        _ => Err(broken(job, Stage::Authentication, deadline, error)),
    }
}
