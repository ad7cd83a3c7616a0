//! Where a server keeps what: htvault-config's paths, or those a site has made otherwise.

use crate::{Error, SecretPath, endpoints::check_name};

/// Paths below `/v1/` as templates: `%issuer` and `%role` stand for the two, `%credkey` for the user part of a secret.
/// By default they are htvault-config's (vault.md 1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The mount of the Kerberos login.
    pub kerberos: String,
    /// What `auth_url`, `poll` and `callback` of the OIDC login hang below.
    pub oidc: String,
    /// The mount of the login with keys of an SSH agent.
    pub ssh: String,
    /// Where refresh tokens are stored and bearer tokens are read; `/creds/` in it, which stands before `%credkey`, becomes
    /// `/sts/` for those with less.
    pub secret: String,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            kerberos: "auth/kerberos-%issuer_%role".to_owned(),
            oidc: "auth/oidc-%issuer/oidc".to_owned(),
            ssh: "auth/ssh".to_owned(),
            secret: "secret/oauth/creds/%issuer/%credkey:%role".to_owned(),
        }
    }
}

impl Places {
    /// Where the refresh token of `credkey` lies.
    ///
    /// # Errors
    /// [`Error::BadName`] for a name or a template that could not stand in a path as it is.
    pub fn secret(&self, issuer: &str, credkey: &str, role: &str) -> Result<SecretPath, Error> {
        // judges the three; what the template adds is judged as a path
        let usual = SecretPath::new(issuer, credkey, role)?;
        if self.secret == Self::default().secret {
            return Ok(usual);
        }
        let whose = self.secret.find("%credkey");
        let Some(whose) = whose else {
            return Err(bad(
                &self.secret,
                "all people would share one secret: the path of a secret has %credkey where the person's name goes",
            ));
        };
        if self.secret.find("/creds/").is_none_or(|at| at > whose) {
            return Err(bad(
                &self.secret,
                "tokens with less could not be told from whole ones: the path of a secret has /creds/ before %credkey, \
                 where /sts/ goes for them",
            ));
        }
        let path = filled(&self.secret, issuer, role)?.replace("%credkey", credkey);
        Ok(usual.at(check(path)?))
    }

    pub(crate) fn kerberos(&self, issuer: &str, role: &str) -> Result<String, Error> {
        mount(&self.kerberos, issuer, role)
    }

    pub(crate) fn oidc(&self, issuer: &str, role: &str) -> Result<String, Error> {
        mount(&self.oidc, issuer, role)
    }

    pub(crate) fn ssh(&self, issuer: &str, role: &str) -> Result<String, Error> {
        mount(&self.ssh, issuer, role)
    }
}

fn filled(template: &str, issuer: &str, role: &str) -> Result<String, Error> {
    check_name(issuer)?;
    check_name(role)?;
    Ok(template.replace("%issuer", issuer).replace("%role", role))
}

/// Below `auth/`, as messages name mounts.
fn mount(template: &str, issuer: &str, role: &str) -> Result<String, Error> {
    let path = check(filled(template, issuer, role)?)?;
    match path.strip_prefix("auth/") {
        Some(mount) => Ok(mount.to_owned()),
        None => Err(bad(&path, "the path of a login begins with auth/")),
    }
}

fn check(path: String) -> Result<String, Error> {
    if path.len() > 2048 {
        return Err(bad(&path, "it is longer than 2048 characters"));
    }
    if path
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(bad(&path, "it has an empty part, or one that is a dot or two"));
    }
    // as for credkeys; % would be a placeholder that was left
    if !path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/@._-=,~:".contains(&b))
    {
        return Err(bad(
            &path,
            "only letters, digits, / @ . _ - = , ~ : and the placeholders are possible in a path",
        ));
    }
    Ok(path)
}

fn bad(text: &str, why: &'static str) -> Error {
    Error::BadName {
        text: text.chars().take(200).collect(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_places() {
        let usual = Places::default();
        let secret = usual.secret("dune", "dunepro/x/y", "production").unwrap();
        assert_eq!(secret.path(), "secret/oauth/creds/dune/dunepro/x/y:production");
        assert_eq!(
            usual.kerberos("dune", "production").unwrap(),
            "kerberos-dune_production"
        );
        assert_eq!(usual.oidc("dune", "production").unwrap(), "oidc-dune/oidc");
        assert_eq!(usual.ssh("dune", "production").unwrap(), "ssh");
    }

    #[test]
    fn other_places() {
        let other = Places {
            kerberos: "auth/krb/%role/%issuer".to_owned(),
            secret: "secret/other/creds/%credkey".to_owned(),
            ..Places::default()
        };
        assert_eq!(
            other.kerberos("dune", "production").unwrap(),
            "krb/production/dune"
        );
        let secret = other.secret("dune", "alice", "default").unwrap();
        assert_eq!(secret.path(), "secret/other/creds/alice");
        assert_eq!(secret.sts_path(), "secret/other/sts/alice");
        assert_eq!(secret.issuer(), "dune");
    }

    #[test]
    fn a_secret_is_one_persons_and_has_a_place_for_tokens_with_less() {
        for (template, why) in [
            ("secret/oauth/creds/%issuer/%role", "all people would share"),
            ("secret/oauth/%issuer/%credkey:%role", "tokens with less"),
            // the first /creds/ would be the person's
            ("secret/%credkey/creds/%role", "tokens with less"),
        ] {
            let places = Places {
                secret: template.to_owned(),
                ..Places::default()
            };
            let error = places.secret("dune", "a/creds/b", "r").unwrap_err();
            assert!(error.to_string().contains(why), "{template}: {error}");
        }
    }

    #[test]
    fn what_would_leave_its_path_is_refused() {
        for template in [
            "",
            "/auth/x",
            "secret/x",
            "auth/../sys/%role",
            "auth/%isuer",
            "auth/a b",
            "auth/x?y",
            "auth//x",
        ] {
            let places = Places {
                kerberos: template.to_owned(),
                secret: template.replace("auth", "secret").replace("secret/x", "x?"),
                ..Places::default()
            };
            assert!(places.kerberos("dune", "r").is_err(), "{template}");
            assert!(places.secret("dune", "a", "r").is_err(), "{template}");
        }
        assert!(Places::default().kerberos("du/ne", "r").is_err());
    }
}
