//! What a bearer token says of itself: the WLCG profile and SciTokens, which differ in little.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

/// Claims of a bearer token. Unless they come from [`crate::BearerToken::verify`], nobody vouches for them: they are
/// for showing and comparing only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Issuer.
    #[serde(default)]
    pub iss: String,
    /// Subject.
    #[serde(default)]
    pub sub: String,
    /// Whom the token is for; a token may name one or many.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Space-separated scopes.
    #[serde(default, deserialize_with = "spaced")]
    pub scope: String,
    /// Groups of the WLCG profile.
    #[serde(default, rename = "wlcg.groups")]
    pub groups: Vec<String>,
    /// Version of the WLCG profile, if it is followed.
    #[serde(default, rename = "wlcg.ver")]
    pub wlcg_version: Option<String>,
    /// Version of SciTokens (`scitokens:2.0`), if they are followed.
    #[serde(default, rename = "ver")]
    pub scitokens_version: Option<String>,
    /// The token's own identifier: it may be logged, the token may not.
    #[serde(default)]
    pub jti: String,
    /// Seconds since the epoch when it ends; 0 if it does not say.
    #[serde(default, deserialize_with = "seconds")]
    pub exp: i64,
    /// Seconds since the epoch before which it is not good; 0 if it does not say.
    #[serde(default, deserialize_with = "seconds")]
    pub nbf: i64,
    /// Seconds since the epoch when it was made; 0 if it does not say.
    #[serde(default, deserialize_with = "seconds")]
    pub iat: i64,
}

/// Which rules a token follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// The WLCG common JWT profile (`wlcg.ver`).
    Wlcg,
    /// SciTokens (`ver` begins with `scitokens:`).
    SciTokens,
    /// Neither is claimed.
    Plain,
}

/// One thing a token allows: a scope such as `storage.read:/dune`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// What may be done, `storage.read`.
    pub operation: String,
    /// Where, `/dune`; empty where there is no where (`compute.create`).
    pub path: String,
}

impl Capability {
    /// Reads a scope. Whatever has no path is an operation alone.
    #[must_use]
    pub fn of(scope: &str) -> Self {
        let (operation, path) = scope.split_once(':').unwrap_or((scope, ""));
        Self {
            operation: operation.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Whether who may do this may do `other` as well: the same operation, at the same path or below it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let mine = self.path.trim_end_matches('/');
        self.operation == other.operation
            && other
                .path
                .strip_prefix(mine)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)?;
        if !self.path.is_empty() {
            write!(f, ":{}", self.path)?;
        }
        Ok(())
    }
}

/// The scope that asks an issuer for a whole set of capabilities, and the one for a group.
const CAPABILITY_SET: &str = "wlcg.capabilityset";
const GROUP: &str = "wlcg.groups";

impl Claims {
    /// When the token says it ends, if it says so.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        (self.exp > 0)
            .then(|| Timestamp::from_second(self.exp).ok())
            .flatten()
    }

    /// Which rules it follows.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let sci = self.scitokens_version.as_deref();
        match (&self.wlcg_version, sci) {
            (Some(_), _) => Profile::Wlcg,
            (None, Some(version)) if version.to_ascii_lowercase().starts_with("scitoken") => {
                Profile::SciTokens
            }
            _ => Profile::Plain,
        }
    }

    /// What it allows, scope by scope; names of sets and groups are left out.
    #[must_use]
    pub fn capabilities(&self) -> Vec<Capability> {
        self.scope
            .split_ascii_whitespace()
            .map(Capability::of)
            .filter(|c| c.operation != CAPABILITY_SET && c.operation != GROUP)
            .collect()
    }

    /// The capability sets it names (`wlcg.capabilityset:/duneana` is `/duneana`).
    pub fn capability_sets(&self) -> impl Iterator<Item = &str> {
        self.scope
            .split_ascii_whitespace()
            .filter_map(|scope| scope.strip_prefix(CAPABILITY_SET)?.strip_prefix(':'))
    }

    /// Which of the scopes `wanted` this token does not carry. A group counts as carried when it is among
    /// [`Claims::groups`], a path when one above it is allowed.
    #[must_use]
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let have: Vec<Capability> = self.scope.split_ascii_whitespace().map(Capability::of).collect();
        wanted
            .into_iter()
            .filter(|scope| {
                let want = Capability::of(scope);
                if want.operation == GROUP {
                    // without a name it asks for whatever groups there are
                    return !want.path.is_empty() && !self.groups.contains(&want.path);
                }
                !have.iter().any(|have| have.covers(&want))
            })
            .collect()
    }

    /// Whether the token is for `audience`, or for anybody in the words of its profile.
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        self.aud
            .iter()
            .any(|aud| aud == audience || aud == "https://wlcg.cern.ch/jwt/v1/any" || aud == "ANY")
    }
}

/// Which of the scopes `wanted` an issuer is not asked for with the scopes `asked`. Nothing is said of what may be in a set
/// of capabilities, if one is asked for: the issuer alone knows.
#[must_use]
pub fn not_asked<'a>(asked: &[String], wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let asked: Vec<Capability> = asked.iter().map(|scope| Capability::of(scope)).collect();
    let sets = asked.iter().any(|scope| scope.operation == CAPABILITY_SET);
    wanted
        .into_iter()
        .filter(|scope| {
            let want = Capability::of(scope);
            let exact = [CAPABILITY_SET, GROUP].contains(&want.operation.as_str());
            if sets && want.operation != CAPABILITY_SET {
                return false;
            }
            !asked.iter().any(|have| match exact {
                // one group or set is not in another; without a name it is whichever there are
                true => have == &want || (have.operation == want.operation && have.path.is_empty()),
                false => have.covers(&want),
            })
        })
        .collect()
}

/// Which of the scopes `wanted` an issuer does not publish among those it knows (`scopes_supported` of its metadata), by what
/// may be done alone, since where is nobody's list. It need not publish all (RFC 8414, section 2): a list with nothing of
/// what is wanted says nothing.
#[must_use]
pub fn not_published<'a>(published: &[String], wanted: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let known = |scope: &&str| {
        let want = Capability::of(scope).operation;
        published
            .iter()
            .any(|scope| Capability::of(scope).operation == want)
    };
    let (there, absent): (Vec<&str>, Vec<&str>) = wanted.into_iter().partition(known);
    if there.is_empty() { Vec::new() } else { absent }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// A string, or (as some issuers of SciTokens write it) a list.
fn spaced<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(one) => one,
        OneOrMany::Many(many) => many.join(" "),
    })
}

/// A `NumericDate` (RFC 7519 section 2), whose fraction nobody needs.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    struct Seconds;
    impl de::Visitor<'_> for Seconds {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds since the epoch")
        }

        fn visit_i64<E: de::Error>(self, n: i64) -> Result<i64, E> {
            Ok(n)
        }

        fn visit_u64<E: de::Error>(self, n: u64) -> Result<i64, E> {
            Ok(i64::try_from(n).unwrap_or(i64::MAX))
        }

        fn visit_f64<E: de::Error>(self, n: f64) -> Result<i64, E> {
            // far from where a cast could lose more than the fraction
            let sane = n.is_finite() && n.abs() < 1e15;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the fraction is to be lost, the rest fits"
            )]
            sane.then_some(n as i64)
                .ok_or_else(|| E::custom("a time beyond the calendar"))
        }
    }
    from.deserialize_any(Seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Claims {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn wlcg() {
        let token = claims(
            r#"{"wlcg.ver":"1.0","iss":"https://i","sub":"dunepro","aud":"https://wlcg.cern.ch/jwt/v1/any",
            "exp":1795319343,"nbf":1795315743,"wlcg.groups":["/dune","/dune/production"],
            "scope":"wlcg.capabilityset:/duneana storage.read:/dune compute.create"}"#,
        );
        assert_eq!(token.profile(), Profile::Wlcg);
        assert_eq!(token.capability_sets().collect::<Vec<_>>(), ["/duneana"]);
        let allowed: Vec<String> = token.capabilities().iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["storage.read:/dune", "compute.create"]);
        assert!(token.is_for("https://se.example.org"));
        let wanted = [
            "storage.read:/dune/raw",
            "storage.read:/dunes",
            "storage.create:/dune",
            "compute.create",
            "wlcg.groups:/dune/production",
            "wlcg.groups:/nova",
            "wlcg.groups",
        ];
        assert_eq!(
            token.missing(wanted),
            ["storage.read:/dunes", "storage.create:/dune", "wlcg.groups:/nova"]
        );
    }

    #[test]
    fn scitokens() {
        let token = claims(
            r#"{"ver":"scitokens:2.0","aud":["https://a","https://b"],"scope":["read:/","write:/home"],"exp":12.9}"#,
        );
        assert_eq!(token.profile(), Profile::SciTokens);
        assert_eq!((token.aud.len(), token.exp), (2, 12));
        assert!(token.is_for("https://b") && !token.is_for("https://c"));
        assert!(token.missing(["read:/anything", "write:/home/x"]).is_empty());
        assert_eq!(claims("{}").profile(), Profile::Plain);
    }

    #[test]
    fn what_was_not_asked_for_or_is_not_published() {
        let of = |scopes: &str| scopes.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let wanted = [
            "wlcg.groups:/nova",
            "storage.read:/nova/raw",
            "storage.modify:/nova",
        ];
        let asked = of("openid wlcg.groups:/nova/production storage.read:/nova storage.modify:/novae");
        assert_eq!(
            not_asked(&asked, wanted),
            ["wlcg.groups:/nova", "storage.modify:/nova"]
        );
        assert_eq!(
            not_asked(&of("wlcg.groups storage.read:/ storage.modify:/"), wanted),
            [""; 0]
        );
        let set = of("openid wlcg.capabilityset:/nova");
        assert_eq!(not_asked(&set, wanted), [""; 0]);
        assert_eq!(
            not_asked(&set, ["wlcg.capabilityset:/dune", "wlcg.capabilityset:/nova"]),
            ["wlcg.capabilityset:/dune"]
        );

        assert_eq!(
            not_published(&of("openid storage.read:/ wlcg.groups"), wanted),
            ["storage.modify:/nova"]
        );
        assert_eq!(not_published(&of("openid profile"), wanted), [""; 0]);
    }

    #[test]
    fn odd_types_are_errors_and_not_panics() {
        for json in [
            r#"{"aud":7}"#,
            r#"{"exp":"soon"}"#,
            r#"{"exp":1e300}"#,
            r#"{"scope":{}}"#,
            r#"{"wlcg.groups":"/dune"}"#,
            "7",
        ] {
            assert!(serde_json::from_str::<Claims>(json).is_err(), "{json}");
        }
        assert_eq!(claims(r#"{"exp":18446744073709551615}"#).expires(), None);
    }
}
