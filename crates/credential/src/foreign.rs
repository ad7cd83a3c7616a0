//! Credentials made by somebody else: all we read of them is when they end.

use jiff::Timestamp;
use x509_parser::{
    certificate::X509Certificate,
    pem::Pem,
    prelude::{FromDer, parse_x509_certificate},
};

use crate::BearerToken;

/// As many certificates as a chain may have; a proxy has three or four.
const MAX_CHAIN: usize = 16;

/// What a file with a credential turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A JSON Web Token: a bearer token, an IDTOKEN of HTCondor. `None`: it says of no end.
    Jwt(Option<Timestamp>),
    /// X.509 certificates, as in a proxy: the end of the one that ends first.
    X509(Timestamp),
    /// Something else, whose end nobody but its maker knows.
    Opaque,
}

impl Foreign {
    /// Reads it. Nothing is verified: this is for watching an end, not for trusting anybody.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        if let Some(end) = jwt(content) {
            return Self::Jwt(end);
        }
        let bare = parse_x509_certificate(content).ok();
        let end = pem(content)
            .into_iter()
            .chain(bare.and_then(|(_, one)| end(&one)))
            .min();
        end.map_or(Self::Opaque, Self::X509)
    }

    /// When it ends, as far as it says so.
    #[must_use]
    pub fn expires(self) -> Option<Timestamp> {
        match self {
            Self::Jwt(end) => end,
            Self::X509(end) => Some(end),
            Self::Opaque => None,
        }
    }
}

/// The outer `None`: it is none.
fn jwt(content: &[u8]) -> Option<Option<Timestamp>> {
    let text = std::str::from_utf8(content).ok()?.trim();
    if text.matches('.').count() != 2 {
        return None;
    }
    let claims = BearerToken::new(text.to_owned()).ok()?.claims().ok()?;
    Some(claims.expires())
}

fn pem(content: &[u8]) -> Vec<Timestamp> {
    Pem::iter_from_buffer(content)
        .map_while(Result::ok)
        .filter(|block| block.label.contains("CERTIFICATE"))
        .take(MAX_CHAIN)
        .filter_map(|block| {
            let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
            end(&certificate)
        })
        .collect()
}

fn end(certificate: &X509Certificate<'_>) -> Option<Timestamp> {
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn token(payload: &str) -> String {
        format!("e30.{}.x\n", BASE64_URL_SAFE_NO_PAD.encode(payload))
    }

    fn certificate(year: i32) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn tokens_say_when_they_end() {
        assert_eq!(
            Foreign::of(token(r#"{"exp":1795319343}"#).as_bytes()),
            Foreign::Jwt(Some(at(1_795_319_343)))
        );
        assert_eq!(
            Foreign::of(token(r#"{"sub":"condor@pool"}"#).as_bytes()),
            Foreign::Jwt(None)
        );
    }

    #[test]
    fn a_proxy_ends_with_the_first_of_its_chain() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let proxy = format!("{}{key}{}", certificate(2031), certificate(2030));
        assert_eq!(Foreign::of(proxy.as_bytes()), Foreign::X509(at(1_893_456_000)));
        // one in DER is heeded, whatever stands behind it
        let (_, bare) = x509_parser::pem::parse_x509_pem(proxy.as_bytes()).unwrap();
        let mixed = [&bare.contents[..], b"\n", certificate(2032).as_bytes()].concat();
        assert_eq!(Foreign::of(&mixed), Foreign::X509(at(1_924_992_000)));
    }

    #[test]
    fn anything_else_is_opaque() {
        for content in [
            &b""[..],
            b"a password",
            b"a.b.c",
            b"\xff\xfe\x00",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\n",
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Foreign::of(content), Foreign::Opaque);
        }
        let whole = certificate(2030);
        for length in 0..whole.len() - 30 {
            assert_eq!(
                Foreign::of(&whole.as_bytes()[..length]),
                Foreign::Opaque,
                "cut at {length}"
            );
        }
    }
}
