//! What must hold for anything a Vault, an issuer or a token says: bounds, no secret and no control character in a
//! message, and never a token that is not one.

use std::{fmt::Debug, sync::LazyLock};

use credential::{
    BearerToken, Claims, IssuerKeys, Lifetime, NODE_TOKEN_LIMIT, Principal, VaultToken, not_asked,
    not_published,
};
use jiff::{SignedDuration, Timestamp};
use vault_client::{
    Doing, OidcError, Polled,
    offline::{self, Made, Question},
};

/// The token in the header of every question. An answer may repeat it, a message may not.
const SECRET: &str = "s.TheVaultTokenOfTheQuestion";
const STATUSES: [u16; 16] = [
    200, 200, 200, 200, 204, 301, 307, 400, 401, 403, 404, 418, 429, 500, 502, 503,
];
const WEEK: i64 = 7 * 24 * 3600;

static ROBOT: LazyLock<Option<Principal>> =
    LazyLock::new(|| "dunepro/managedtokens/mtk.example.org@EXAMPLE.ORG".parse().ok());

fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn printable(text: &str, what: &str) {
    if text.chars().any(char::is_control) {
        panic!("a control character in {what}: {text:?}");
    }
}

fn shown(value: &impl Debug) {
    let shown = format!("{value:?}");
    if shown.contains(SECRET) {
        panic!("our token is shown: {shown}");
    }
}

/// Hands an answer in and looks at what comes of it.
fn answered(doing: Doing, status: u16, retry: Option<&[u8]>, body: &[u8]) -> Option<Made> {
    let Some(principal) = ROBOT.as_ref() else {
        panic!("our own principal");
    };
    let parent = Lifetime::new(now(), SignedDuration::from_secs(2 * WEEK));
    let question = Question {
        doing,
        principal,
        child: (WEEK, parent),
        secret: SECRET,
        now: now(),
    };
    let response = offline::response(status, retry, body);
    if offline::wait(&response) > 3600 {
        panic!("a wait of {} s", offline::wait(&response));
    }
    match offline::answered(&question, response) {
        Ok(made) => {
            check(&made);
            Some(made)
        }
        Err(error) => {
            failed(&error);
            None
        }
    }
}

fn failed(error: &OidcError) {
    let text = error.to_string();
    printable(&text, "an error");
    shown(error);
    // 500 characters of the server's, and our own words
    if text.contains(SECRET) || text.chars().count() > 3000 {
        panic!("{} characters: {text}", text.len());
    }
    drop((error.fault(), format!("{error:?}")));
}

fn check(made: &Made) {
    match made {
        Made::Login(login) => {
            graphic(login.token.expose());
            if login.lifetime.until() <= now() {
                panic!("a login without a life");
            }
        }
        Made::Child(child) => {
            graphic(child.token.expose());
            let life = child.token.lifetime().until().duration_since(now());
            if life.as_secs() > WEEK.min(NODE_TOKEN_LIMIT) {
                panic!("a node token of {life}");
            }
        }
        Made::Bearer(bearer) => graphic(bearer.token.expose()),
        Made::Health(health) => printable(&health.version, "a version"),
        Made::Flow(flow) => {
            graphic(flow.address());
            if !(1..=60).contains(&flow.pause().as_secs()) {
                panic!("a pause of {:?}", flow.pause());
            }
            if let Some(code) = flow.code() {
                graphic(&code);
            }
            drop((flow.mode(), flow.scopes()));
        }
        Made::Polled(Polled::Done(login)) => {
            graphic(login.token.expose());
            printable(&login.person, "a person");
        }
        _ => {}
    }
    let warnings = match made {
        Made::Login(login) => &login.warnings,
        Made::Child(child) => &child.warnings,
        Made::Bearer(bearer) => &bearer.warnings,
        _ => return,
    };
    for warning in warnings {
        printable(warning, "a warning");
        if warning.contains(SECRET) {
            panic!("our token in a warning");
        }
    }
}

/// What may stand in a header, in a file of one line and on a terminal.
fn graphic(text: &str) {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        panic!("a token or an address with odd characters: {text:?}");
    }
}

fn pick<T: Copy>(all: &[T], data: &mut &[u8]) -> Option<T> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    all.get(usize::from(*first) % all.len()).copied()
}

/// Answers that are a Vault token or speak of one.
pub fn token(mut data: &[u8]) {
    let all = [
        Doing::Login,
        Doing::Child,
        Doing::Lookup,
        Doing::Accessor,
        Doing::Health,
        Doing::Revoke,
        Doing::SshNonce,
        Doing::SshLogin,
    ];
    if let Some(doing) = pick(&all, &mut data) {
        answered(doing, 200, None, data);
    }
}

/// Answers with a bearer token.
pub fn bearer(mut data: &[u8]) {
    if let Some(doing) = pick(&[Doing::Bearer, Doing::Exchange], &mut data) {
        answered(doing, 200, None, data);
    }
}

/// Answers of an OIDC login, from its beginning to its end.
pub fn oidc(mut data: &[u8]) {
    let doing = pick(
        &[Doing::OidcStart, Doing::OidcPoll, Doing::StoreRefresh],
        &mut data,
    );
    let status = pick(&[200, 200, 400, 403, 500], &mut data);
    if let (Some(doing), Some(status)) = (doing, status) {
        answered(doing, status, None, data);
    }
}

/// Refusals of every status, to every question.
pub fn refusal(mut data: &[u8]) {
    let all = [
        Doing::Login,
        Doing::Child,
        Doing::Bearer,
        Doing::Exchange,
        Doing::Delete,
        Doing::Lookup,
        Doing::Revoke,
        Doing::OidcStart,
        Doing::OidcPoll,
        Doing::StoreRefresh,
        Doing::Accessor,
        Doing::Health,
        Doing::SshNonce,
        Doing::SshLogin,
    ];
    let (Some(doing), Some(status)) = (pick(&all, &mut data), pick(&STATUSES, &mut data)) else {
        return;
    };
    let at = data.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (retry, body) = data.split_at(at);
    let retry = (!retry.is_empty()).then_some(retry);
    let made = answered(doing, status, retry, body);
    if made.is_some() && !matches!(status, 200 | 204) && doing != Doing::OidcPoll {
        panic!("a success of status {status}: {made:?}");
    }
}

/// The file all processes count their requests in.
pub fn ledger(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some((allowed, next, same)) = offline::ledger(text, now()) else {
        return;
    };
    let now = now().as_millisecond();
    // an hour is the longest block that is believed, and a window of 5 minutes and a grain the longest wait without
    if allowed == 0 || next < now || next > now + 3_600_000 || !same {
        panic!(
            "{allowed} allowed, the next in {} ms, the same: {same}",
            next - now
        );
    }
}

fn claimed(claims: &Claims) {
    let covered: Vec<String> = claims.capabilities().iter().map(ToString::to_string).collect();
    // what a token has is not missing from it
    let missing = claims.missing(covered.iter().map(String::as_str));
    if !missing.is_empty() {
        panic!("{missing:?} of its own is missing");
    }
    printable(
        &format!("{:?} {:?}", claims.profile(), claims.expires()),
        "a summary",
    );
    let all = claims.aud.iter().all(|aud| claims.is_for(aud));
    if !all {
        panic!("not for {:?}", claims.aud);
    }
}

/// What stands in a token, as JSON.
pub fn claims(data: &[u8]) {
    if let Ok(claims) = serde_json::from_slice::<Claims>(data) {
        claimed(&claims);
    }
}

/// A public key nobody here has the private half of.
const KEYS: &[u8] = br#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"a",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
    {"kty":"RSA","alg":"RS256","kid":"b","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}"#;
const ISSUER: &str = "https://issuer.example.org";

static ISSUERS: LazyLock<Option<IssuerKeys>> = LazyLock::new(|| IssuerKeys::parse(ISSUER, KEYS).ok());

/// A bearer token: whoever signed it, it was not the issuer of [`KEYS`].
pub fn jwt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(token) = BearerToken::new(text.to_owned()) else {
        return;
    };
    graphic(token.expose());
    if let Ok(claims) = token.claims() {
        claimed(&claims);
    }
    let Some(keys) = ISSUERS.as_ref() else {
        panic!("our own keys");
    };
    match token.verify(keys, now()) {
        Ok(claims) => panic!("verified: {claims:?}"),
        Err(error) => printable(&error.to_string(), "an error"),
    }
}

/// An issuer's discovery document.
pub fn discovery(data: &[u8]) {
    match offline::published(ISSUER, data) {
        Ok(scopes) => {
            scopes.iter().for_each(|scope| printable(scope, "a scope"));
            if scopes.len() > 1000 || scopes.iter().any(|scope| scope.chars().count() > 600) {
                panic!("{} scopes, or long ones", scopes.len());
            }
            // what is published is not missing, and what is asked for is not left out
            let wanted = || scopes.iter().map(String::as_str);
            if !not_published(&scopes, wanted()).is_empty() || !not_asked(&scopes, wanted()).is_empty() {
                panic!("{scopes:?} are missing from themselves");
            }
        }
        Err(error) => printable(&error.to_string(), "an error"),
    }
}

/// An issuer's keys.
pub fn jwks(data: &[u8]) {
    match IssuerKeys::parse(ISSUER, data) {
        Ok(keys) => {
            if keys.count() == 0 || keys.count() > 64 {
                panic!("{} keys", keys.count());
            }
            // nothing an issuer publishes is the secret of a keyed hash
            let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLm9yZyJ9.AAAA";
            let forged = BearerToken::new(token.to_owned()).map(|token| token.verify(&keys, now()).is_ok());
            if forged != Ok(false) {
                panic!("a keyed hash counts as a signature");
            }
        }
        Err(error) => printable(&error.to_string(), "an error"),
    }
}
