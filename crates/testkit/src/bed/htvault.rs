//! The vault server laid out the way htvault-config does it, and the refresh tokens of the robots.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::layout::Layout;
use super::{hash, issuer, vault};
use crate::site::{self, Account, DOMAIN, ISSUER_URL, ISSUERS, LDAP, ROLES, SERVICES, VAULT};

/// The claim that becomes the credkey.
const CREDENTIAL_CLAIM: &str = "wlcg.credkey";

const TOKENOPS: &str = r#"
path "auth/token/create" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
"#;

/// Sets up the secrets engine, and for each issuer and role the mounts, the policies and the roles.
///
/// # Errors
/// The vault server refuses one of them.
pub fn configure(layout: &Layout) -> Result<()> {
    let put = |path: &str, body: Value| vault::call(layout, "POST", &format!("/v1/{path}"), Some(&body));
    engine(&put, &vault::plugin(layout))?;
    let ca = fs::read_to_string(layout.ca()).context("cannot read the CA")?;
    let keytab = fs::read(layout.keytab("host-vault")).context("cannot read the server's keytab")?;
    let keytab = BASE64_STANDARD.encode(keytab);
    for issuer in ISSUERS {
        issuer_server(&put, issuer)?;
        put(&format!("sys/auth/oidc-{issuer}"), json!({"type": "oidc"}))?;
        put(
            &format!("auth/oidc-{issuer}/config"),
            json!({
                "default_role": "default", "oidc_discovery_url": ISSUER_URL, "oidc_client_id": site::CLIENT_ID,
                "oidc_client_secret": issuer::CLIENT_SECRET, "oidc_discovery_ca_pem": ca,
            }),
        )?;
        for role in ROLES {
            let mount = format!("kerberos-{issuer}_{role}");
            kerberos_mount(&put, &mount, &keytab, VAULT.name)?;
        }
    }
    // the policies need the accessors, and one read gives all of them
    let auth = vault::call(layout, "GET", "/v1/sys/auth", None)?;
    for issuer in ISSUERS {
        let oidc = accessor(&auth, &format!("oidc-{issuer}"))?;
        for role in ROLES {
            let mount = format!("kerberos-{issuer}_{role}");
            let text = kerberos_policy(issuer, role, &accessor(&auth, &mount)?);
            write_kerberos_policy(layout, &mount, &text, true)?;
            let policy = format!("oidc-{issuer}_{role}");
            put(
                &format!("sys/policies/acl/{policy}"),
                json!({"policy": oidc_policy(issuer, role, &oidc)}),
            )?;
            put(
                &format!("auth/oidc-{issuer}/role/{role}"),
                oidc_role(issuer, role),
            )?;
        }
    }
    Ok(())
}

/// Puts a body to a path below `/v1/`.
pub(super) type Put<'a> = &'a dyn Fn(&str, Value) -> Result<Value>;

/// The secrets engine, and the policy of all tokens.
pub(super) fn engine(put: Put<'_>, plugin: &Path) -> Result<()> {
    put(
        "sys/plugins/catalog/secret/oauth",
        json!({"sha256": hash::file(plugin)?, "command": "oauthapp"}),
    )?;
    put("sys/mounts/secret/oauth", json!({"type": "oauth"}))?;
    put(
        "secret/oauth/config",
        json!({"tune_refresh_check_interval_seconds": 0, "default_server": "legacy"}),
    )?;
    put("sys/policies/acl/tokenops", json!({"policy": TOKENOPS})).map(drop)
}

/// The issuer that the secrets engine refreshes tokens at.
pub(super) fn issuer_server(put: Put<'_>, issuer: &str) -> Result<()> {
    let body = json!({
        "provider": "oidc", "provider_options": {"issuer_url": ISSUER_URL},
        "client_id": site::CLIENT_ID, "client_secret": issuer::CLIENT_SECRET,
    });
    put(&format!("secret/oauth/servers/{issuer}"), body).map(drop)
}

/// Logins by Kerberos tickets for the service `host` of that name.
pub(super) fn kerberos_mount(put: Put<'_>, mount: &str, keytab: &str, name: &str) -> Result<()> {
    put(
        &format!("sys/auth/{mount}"),
        json!({"type": "kerberos", "config": {
            "passthrough_request_headers": ["Authorization"],
            "allowed_response_headers": ["www-authenticate"],
        }}),
    )?;
    put(
        &format!("auth/{mount}/config"),
        json!({"keytab": keytab, "service_account": format!("host/{name}")}),
    )?;
    put(
        &format!("auth/{mount}/config/ldap"),
        json!({
            "url": format!("ldap://{}:{}", LDAP.name, LDAP.port), "userdn": "ou=people,o=test",
            "userattr": "uid", "token_no_default_policy": true, "token_policies": [mount, "tokenops"],
        }),
    )
    .map(drop)
}

fn oidc_role(issuer: &str, role: &str) -> Value {
    let callback = format!(
        "https://{}:{}/v1/auth/oidc-{issuer}/oidc/callback",
        VAULT.name, VAULT.port
    );
    json!({
        "role_type": "oidc", "user_claim": CREDENTIAL_CLAIM, "groups_claim": "",
        "oidc_scopes": format!("openid,offline_access,{}", scopes(issuer, role).join(",")),
        "token_no_default_policy": true, "policies": format!("oidc-{issuer}_{role},tokenops"),
        "callback_mode": "device", "oidc_disable_confirmation": false, "poll_interval": 3,
        "allowed_redirect_uris": callback, "verbose_oidc_logging": true,
        "claim_mappings": {CREDENTIAL_CLAIM: "credkey"}, "oauth2_metadata": ["refresh_token"],
    })
}

/// The scopes that a role asks of the issuer, beside `openid` and `offline_access`.
pub(super) fn scopes(issuer: &str, role: &str) -> Vec<String> {
    let mut scopes = vec![
        "wlcg".to_owned(),
        format!("wlcg.groups:/{issuer}"),
        format!("storage.read:/{issuer}"),
        format!("storage.create:/{issuer}/scratch"),
        "compute.create".to_owned(),
        "compute.read".to_owned(),
    ];
    if role != "default" {
        scopes.push(format!("wlcg.groups:/{issuer}/{role}"));
    }
    scopes
}

pub(super) fn kerberos_policy(issuer: &str, role: &str, accessor: &str) -> String {
    let mut text = String::new();
    for (engine, capabilities) in [
        ("creds", r#""list","read","delete""#),
        ("sts", r#""list","read""#),
    ] {
        for suffix in [String::new(), format!("@{DOMAIN}")] {
            text += &format!(
                "path \"secret/oauth/{engine}/{issuer}/{{{{identity.entity.aliases.{accessor}.name}}}}{suffix}:{role}\" \
                 {{ capabilities = [{capabilities}] }}\n"
            );
        }
    }
    text
}

fn oidc_policy(issuer: &str, role: &str, accessor: &str) -> String {
    let alias = format!("{issuer}/{{{{identity.entity.aliases.{accessor}.name}}}}");
    let mut text = String::new();
    for rest in [format!(":{role}"), "/*".to_owned()] {
        text += &format!(
            "path \"secret/oauth/creds/{alias}{rest}\" {{ capabilities = [\"update\"]\n  \
             allowed_parameters = {{ \"server\" = [\"{issuer}\"]\n    \"*\" = [] }} }}\n\
             path \"secret/oauth/creds/{alias}{rest}\" {{ capabilities = [\"list\",\"read\",\"delete\"] }}\n\
             path \"secret/oauth/sts/{alias}{rest}\" {{ capabilities = [\"list\",\"read\"] }}\n"
        );
    }
    text
}

pub(super) fn accessor(auth: &Value, mount: &str) -> Result<String> {
    let accessor = auth
        .get("data")
        .unwrap_or(auth)
        .get(format!("{mount}/"))
        .and_then(|m| m.get("accessor"));
    accessor
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("no mount {mount}"))
}

fn write_kerberos_policy(layout: &Layout, name: &str, text: &str, slashes: bool) -> Result<()> {
    let body = json!({"policy": text, "allow_slashes_in_identity_templates": slashes});
    vault::call(
        layout,
        "POST",
        &format!("/v1/sys/policies/acl/{name}"),
        Some(&body),
    )
    .map(drop)
}

/// Writes the Kerberos policy of an issuer and role anew, with or without leave for principals with a slash.
///
/// Without it (as htvault-config 2.4.0 under OpenBao 2.6 had it) a robot can log in and make tokens, but reads nothing.
///
/// # Errors
/// No such issuer or role, or the vault server refuses.
pub fn allow_slashes(layout: &Layout, issuer: &str, role: &str, allow: bool) -> Result<()> {
    let auth = vault::call(layout, "GET", "/v1/sys/auth", None)?;
    let mount = format!("kerberos-{issuer}_{role}");
    write_kerberos_policy(
        layout,
        &mount,
        &kerberos_policy(issuer, role, &accessor(&auth, &mount)?),
        allow,
    )
}

/// Gives a credkey a fresh refresh token, as an operator's onboarding would.
///
/// # Errors
/// The issuer or the vault server refuses.
pub fn onboard(layout: &Layout, issuer: &str, role: &str, account: &str, credkey: &str) -> Result<()> {
    let scope = scopes(issuer, role).join(" ");
    let body = json!({"server": issuer, "refresh_token": issuer::seed(account, &scope)?});
    vault::call(layout, "POST", &secret(issuer, role, credkey), Some(&body))
        .map(drop)
        .with_context(|| format!("cannot onboard {credkey} for {issuer} in the role {role}"))
}

/// Deletes a credkey's secret: the next read is answered 404, as if nobody had ever onboarded it.
///
/// # Errors
/// The vault server refuses.
pub fn forget(layout: &Layout, issuer: &str, role: &str, credkey: &str) -> Result<()> {
    vault::call(layout, "DELETE", &secret(issuer, role, credkey), None).map(drop)
}

fn secret(issuer: &str, role: &str, credkey: &str) -> String {
    format!("/v1/secret/oauth/creds/{issuer}/{credkey}:{role}")
}

/// Onboards every service of the default configuration and every bulk robot.
///
/// # Errors
/// See [`onboard`].
pub fn seed(layout: &Layout) -> Result<()> {
    let services = SERVICES.iter().map(|s| (s.issuer(), s.role, s.account()));
    let all: Vec<(&str, &str, Account)> = services
        .chain(
            site::bulk()
                .into_iter()
                .map(|account| ("dune", "production", account)),
        )
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((issuer, role, account)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            onboard(layout, issuer, role, &account.name, &account.credkey())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(work));
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("onboarding panicked")))
    })
}

/// Onboards by the device flow, the whole way a person with htgettoken goes it: start, agree in the browser (played by the
/// issuer), poll, exchange for a child of 7 d, store. Returns the child token.
///
/// # Errors
/// A step is refused, or the flow does not end within 30 s.
pub fn device_flow(issuer: &str, role: &str, account: &str, credkey: &str) -> Result<String> {
    let post = |path: &str, token: Option<&str>, body: Value| {
        let answer = vault::raw("POST", path, token, Some(&body))?;
        let fine = answer.status < 400;
        Ok::<_, anyhow::Error>((fine, answer.json()?))
    };
    let nonce = hash::hex(&fs::read("/proc/sys/kernel/random/uuid").context("no random numbers")?);
    let redirect = format!(
        "https://{}:{}/v1/auth/oidc-{issuer}/oidc/callback",
        VAULT.name, VAULT.port
    );
    let body = json!({"role": role, "client_nonce": nonce, "redirect_uri": redirect});
    let (_, start) = post(&format!("/v1/auth/oidc-{issuer}/oidc/auth_url"), None, body)?;
    let text = |value: &Value, pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("no {pointer} in {value}"))
    };
    issuer::consent(&text(&start, "/data/auth_url")?, account)?;
    let state = text(&start, "/data/state")?;
    let mut polled = Value::Null;
    for _ in 0..60 {
        let body = json!({"state": state, "client_nonce": nonce});
        let (fine, answer) = post(&format!("/v1/auth/oidc-{issuer}/oidc/poll"), None, body)?;
        if fine {
            polled = answer;
            break;
        }
        let said = answer.to_string();
        ensure!(
            said.contains("authorization_pending") || said.contains("slow_down"),
            "the poll is answered {said}"
        );
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let login = text(&polled, "/auth/client_token").context("nobody agreed in time")?;
    let refresh = text(&polled, "/auth/metadata/oauth2_refresh_token")?;
    let (_, child) = post(
        "/v1/auth/token/create",
        Some(&login),
        json!({"ttl": "604800s", "renewable": "false"}),
    )?;
    let child = text(&child, "/auth/client_token")?;
    let body = json!({"server": issuer, "refresh_token": refresh});
    let (stored, answer) = post(&secret(issuer, role, credkey), Some(&child), body)?;
    ensure!(stored, "the refresh token is refused: {answer}");
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_carry_the_accessor_as_a_template() {
        let kerberos = kerberos_policy("dune", "production", "auth_kerberos_1");
        assert!(kerberos.contains(
            r#"path "secret/oauth/creds/dune/{{identity.entity.aliases.auth_kerberos_1.name}}:production" { capabilities = ["list","read","delete"] }"#
        ));
        assert!(
            !kerberos.contains("update"),
            "a Kerberos login may not write refresh tokens"
        );
        let oidc = oidc_policy("dune", "production", "auth_oidc_1");
        assert!(
            oidc.contains(r#"path "secret/oauth/creds/dune/{{identity.entity.aliases.auth_oidc_1.name}}/*""#)
        );
    }

    #[test]
    fn the_default_role_has_no_group_of_its_own() {
        assert!(!scopes("dune", "default").contains(&"wlcg.groups:/dune/default".to_owned()));
        assert!(scopes("dune", "production").contains(&"wlcg.groups:/dune/production".to_owned()));
    }
}
