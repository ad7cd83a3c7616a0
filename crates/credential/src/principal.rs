//! A Kerberos principal: who a robot is to the KDC, to Vault and to HTCondor.

use std::{fmt, str::FromStr};

use crate::Invalid;

/// `name[/part...]@REALM`, never without its realm.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    name: String,
    realm: String,
}

impl Principal {
    /// Everything before the realm, parts joined by `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The realm, without the `@`.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The first part: the account HTCondor maps `account/purpose/host` to.
    #[must_use]
    pub fn user(&self) -> &str {
        self.name.split('/').next().unwrap_or(&self.name)
    }

    /// The user part of the robot's secret path in Vault: the principal without its realm (vault.md 1.5).
    #[must_use]
    pub fn credkey(&self) -> &str {
        &self.name
    }
}

impl FromStr for Principal {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::Principal {
            text: text.to_owned(),
        };
        let (name, realm) = text.rsplit_once('@').ok_or_else(bad)?;
        let word = |s: &str| {
            !s.is_empty()
                && s.chars()
                    .all(|c| !c.is_control() && !c.is_whitespace() && !"@\\\"".contains(c))
        };
        if text.len() > 1024 || !name.split('/').all(word) || !word(realm) || realm.contains('/') {
            return Err(bad());
        }
        Ok(Self {
            name: name.to_owned(),
            realm: realm.to_owned(),
        })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.realm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_realm() {
        let p: Principal = "dunepro/managedtokens/mtk.test@MTK.TEST".parse().unwrap();
        assert_eq!((p.user(), p.realm()), ("dunepro", "MTK.TEST"));
        assert_eq!(p.credkey(), "dunepro/managedtokens/mtk.test");
        assert_eq!(p.to_string(), "dunepro/managedtokens/mtk.test@MTK.TEST");
    }

    #[test]
    fn refuses_what_no_kdc_takes() {
        for text in ["", "a", "a@", "@R", "a//b@R", "a b@R", "a@b@R", "a@R/x", "a\n@R"] {
            assert!(text.parse::<Principal>().is_err(), "{text:?}");
        }
    }
}
