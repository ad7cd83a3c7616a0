//! What to do about a failure, in one sentence.

use config::Service;

use crate::failure::{Failure, Stage};

/// One sentence for whoever reads the diagnosis. Kinds are names of error variants, which are stable.
pub(super) fn remedy(failure: &Failure, service: &Service) -> String {
    known(failure, service).unwrap_or_else(|| {
        if failure.retryable {
            format!(
                "wait and try again; if it stays, ask the administrators of {}",
                failure.peer
            )
        } else {
            format!(
                "do what the message says, or ask the administrators of {}",
                failure.peer
            )
        }
    })
}

/// The same for a failure of which only this is remembered, if there is something to be said of such.
pub(crate) fn advice(stage: Stage, kind: &str, service: &Service) -> Option<String> {
    let peer = service.vault_server.as_str();
    known(&Failure::text(stage, kind, peer, ""), service)
}

fn known(failure: &Failure, service: &Service) -> Option<String> {
    match failure.stage {
        Stage::Keytab => keytab(failure, service),
        Stage::Ticket => ticket(failure, service),
        Stage::Login | Stage::Proof | Stage::Child => vault(failure, service),
        Stage::Discover | Stage::Credd | Stage::Store => None,
        Stage::Push => node(failure, service),
        _ => None,
    }
}

fn keytab(failure: &Failure, service: &Service) -> Option<String> {
    let path = service.keytab.display();
    Some(match failure.kind.as_str() {
        "not-found" => format!(
            "put the keytab of {} at {path}, or correct keytabPath",
            service.principal
        ),
        "unreadable" | "owner" | "mode" | "group" => {
            format!("chown {path} to the user mtk runs as, and chmod 0400 it")
        }
        "no-key" => format!(
            "extract the key of {} into {path} (ktadd), or correct the principal",
            service.principal
        ),
        _ => format!("extract {path} anew from the KDC (ktadd)"),
    })
}

fn ticket(failure: &Failure, service: &Service) -> Option<String> {
    let (principal, realm) = (&service.principal, service.principal.realm());
    Some(match failure.kind.as_str() {
        "key-mismatch" => {
            format!("extract the keytab of {principal} anew: the KDC has a newer key (its kvno went up)")
        }
        "principal-unknown" => {
            format!("have {principal} created at the KDC, or correct the principal in the configuration")
        }
        "principal-disabled" => format!("have {principal} enabled by the administrators of {realm}"),
        "clock-skew" => "synchronise the clock of this host (chrony or ntpd)".to_owned(),
        "kdc-unreachable" | "kdc-silent" => {
            format!("see that a KDC of {realm} runs and that port 88 is open from here")
        }
        "realm-unknown" | "configuration" => format!("let krb5.conf name the KDCs of {realm}"),
        "service-unknown" => "let mtk.vault.alias be the name in the server's Kerberos principal".to_owned(),
        "enctype" => format!("have {principal} given keys of a type this host permits (aes256)"),
        _ => return None,
    })
}

fn vault(failure: &Failure, service: &Service) -> Option<String> {
    let (issuer, role) = (service.name.issuer(), service.name.role());
    Some(match failure.kind.as_str() {
        "unreachable" | "timeout" | "interrupted" => {
            format!("see that Vault runs at {} and that its port is open from here", failure.peer)
        }
        "certificate" => "let mtk.vault.caFile or caDir hold the CA of the server, or mtk.vault.certificateName its name".to_owned(),
        "sealed" => "ask Vault's operators to unseal it".to_owned(),
        "uninitialized" => "ask Vault's operators to set it up".to_owned(),
        "no-active-node" => "ask Vault's operators why the cluster has no leader".to_owned(),
        "rate-limited" => "wait five minutes, and see who else uses Vault from this address".to_owned(),
        "mount-missing" => format!(
            "check experiment and role: Vault has no Kerberos login kerberos-{issuer}_{role}, or its operators must add it"
        ),
        "ticket-refused" => {
            "check mtk.vault.alias and the clocks, then ask Vault's operators for the reason in the server's log \
             (its keytab may be behind the KDC)"
                .to_owned()
        }
        "header-not-seen" => "ask Vault's operators to pass the header Authorization through to this mount".to_owned(),
        "ldap-down" => "ask Vault's operators to look at the LDAP server the Kerberos logins use".to_owned(),
        "method-broken" => "ask Vault's operators to configure this Kerberos login".to_owned(),
        "not-permitted" if service.credkey.contains('/') => format!(
            "ask Vault's operators to write the policy kerberos-{issuer}_{role} with \
             allow_slashes_in_identity_templates=true (htvault-config 2.4.1 does): the credkey {} has slashes",
            service.credkey
        ),
        "not-permitted" => format!("check that the credkey {} is what Vault calls this robot", service.credkey),
        "not-onboarded" | "refresh-refused" => format!("let somebody agree to the robot: mtk onboard {}", service.id),
        "token-expired400" => "ask Vault's operators whether the server reaches the token issuer".to_owned(),
        "issuer-removed" => format!("ask Vault's operators to configure the issuer {issuer} again"),
        "wrong-identity" => "tell Vault's operators: the server took this robot for another".to_owned(),
        _ => return None,
    })
}

/// Where sshd refused Kerberos before it looked at the ticket: no `.k5login` is to blame.
pub(super) fn unheard(service: &Service) -> String {
    let account = &service.account;
    format!(
        "have {account} unlocked on the node (`passwd -S {account}` says L; `usermod -p '*' {account}` leaves it without a \
         password), see that it is there and may log in (AllowUsers, AllowGroups), and that /etc/krb5.keytab there has the \
         node's host principal"
    )
}

fn node(failure: &Failure, service: &Service) -> Option<String> {
    let account = &service.account;
    let principal = &service.principal;
    Some(match failure.kind.as_str() {
        "resolve" => "correct the node's name in destinationNodes, or have it put into DNS".to_owned(),
        "unreachable" | "refused" | "timed-out" => {
            "see that the node and its sshd are up and that the port is open from here".to_owned()
        }
        "too-many-connections" => "raise MaxStartups on the node, or lower mtk.limits.perNode".to_owned(),
        "host-key" => {
            "compare the fingerprint with the node's own, and only then put its key into known_hosts"
                .to_owned()
        }
        "auth-refused" => format!(
            "let ~{account}/.k5login on the node list {principal} (or authorized_keys hold our key), and see that the \
             account there is not locked, not expired, and may log in (AllowUsers, access.conf)"
        ),
        "gss-failed" => {
            "see that the node has a keytab for its host principal and that both clocks agree".to_owned()
        }
        "sftp-missing" => format!("give {account} a shell and sshd_config a `Subsystem sftp` on the node"),
        "key-file" => "correct the private key the message names".to_owned(),
        "permission-denied" | "foreign-file" => format!(
            "have the file or directory given to {account} on the node, or removed: it belongs to somebody else"
        ),
        "disk-full" | "quota" => "make room on the node's file system".to_owned(),
        "read-only" => "have the node's file system mounted writable again".to_owned(),
        "no-such-directory" | "not-a-directory" => {
            "have the directory made on the node, or correct the destination in the configuration".to_owned()
        }
        _ => return None,
    })
}
