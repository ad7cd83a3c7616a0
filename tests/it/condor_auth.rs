//! Every authentication method against the bed's credds: without its secret, with a wrong one, with the right one;
//! how methods fall through to each other.

mod anonymous;
mod sessions;

use std::{path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use cedar::{Error as Cedar, auth::MethodFailure};
use credd_client::{
    ClientCertificate, Credd, CreddAddress, Error, Held, IdToken, Identity, Kind, Method, Options,
};
use credential::BearerToken;
use kerberos::{Gss, Keytab, Ticket};
use testkit::{
    bed::pool::security,
    site::{ACCESS_POINTS, REALM},
};
use tokio::runtime::Runtime;

use crate::bed::bed;

const SERVICE: &str = "dune_production";
const ACCOUNT: &str = "dunepro";
const USER: &str = "dunepro@mtk.test";

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    })
}

/// The credd of an access point, told that it is called `alias`.
fn called(access_point: &str, alias: &str) -> CreddAddress {
    let host = ACCESS_POINTS
        .iter()
        .find(|host| host.server == access_point)
        .unwrap();
    let sinful = format!("<{}:9618?alias={alias}&sock=credd>", host.address);
    CreddAddress::from_entry(&sinful).unwrap()
}

fn credd(access_point: &str) -> CreddAddress {
    called(access_point, &format!("{access_point}.mtk.test"))
}

fn options(methods: &[Method]) -> Options {
    let trust = tls::Trust {
        system: false,
        ca_file: Some(bed().layout().ca()),
        ..tls::Trust::default()
    };
    Options {
        step: Duration::from_secs(10),
        methods: methods.iter().copied().collect(),
        tls: Some(tls::client_config(&trust).unwrap()),
        ..Options::default()
    }
}

fn ticket(account: &str) -> (Ticket, Gss) {
    static GSS: OnceLock<Gss> = OnceLock::new();
    let gss = GSS.get_or_init(|| Gss::new(2)).clone();
    let principal = format!("{account}/managedtokens/mtk.mtk.test@{REALM}")
        .parse()
        .unwrap();
    let keytab = Keytab::open(&bed().keytab(account), &principal).unwrap();
    let ticket = runtime().block_on(gss.acquire(&keytab)).unwrap();
    (ticket, gss)
}

fn with_ticket(account: &str) -> Identity {
    let (ticket, gss) = ticket(account);
    Identity::kerberos(ticket, gss, account)
}

fn id_token(identity: &str, arguments: &[&str]) -> String {
    security::id_token(bed().layout(), identity, arguments).unwrap()
}

fn with_id_token(text: &str) -> Identity {
    Identity::new(ACCOUNT).with_id_tokens([IdToken::parse(text).unwrap()])
}

fn certificate(name: &str) -> ClientCertificate {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = security::client_certificate(bed().layout(), dir.path(), name).unwrap();
    ClientCertificate::from_pem(&certificate, &key).unwrap()
}

fn bearer(account: &str, scope: &str) -> BearerToken {
    BearerToken::new(security::bearer(bed().layout(), account, scope).unwrap()).unwrap()
}

/// Other bytes for the last part of a token, so that its signature fits no more.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (first, rest) = signature.split_at(1);
    format!("{signed}.{}{rest}", if first == "A" { "B" } else { "A" })
}

fn query(client: &Credd, user: &str) -> Result<Held, Error> {
    runtime().block_on(client.query(user, SERVICE, None))
}

/// Asks what the credd holds; says whom it took us for.
fn ask(address: CreddAddress, identity: Identity, methods: &[Method]) -> Result<String, Error> {
    let user = identity.user.clone();
    let client = Credd::new(address, identity, options(methods));
    query(&client, &user)?;
    Ok(client.mapped_user().unwrap())
}

/// The reasons of the methods that were tried.
#[track_caller]
fn failed(outcome: Result<String, Error>) -> Vec<(Method, MethodFailure)> {
    match outcome.unwrap_err().kind {
        Kind::Cedar(Cedar::MethodsFailed(failed)) => failed,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn nothing_in_common(outcome: Result<String, Error>, expected: &str) {
    match outcome.unwrap_err().kind {
        Kind::Cedar(Cedar::NoCommonMethod { offered }) => assert_eq!(offered, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn token() {
    let only = [Method::Token];
    let good = id_token(USER, &[]);
    assert_eq!(ask(credd("ap1"), with_id_token(&good), &only).unwrap(), USER);
    // the token says less than the account may
    let reading = id_token(USER, &["-authz", "READ"]);
    let denied = ask(credd("ap1"), with_id_token(&reading), &only).unwrap_err();
    assert!(
        matches!(&denied.kind, Kind::Cedar(Cedar::Denied { user, .. }) if user == USER),
        "{denied:?}"
    );
    nothing_in_common(ask(credd("ap1"), Identity::new(ACCOUNT), &only), "");
    let outcome = failed(ask(credd("ap1"), with_id_token(&forged(&good)), &only));
    assert!(
        matches!(
            outcome.as_slice(),
            [(Method::Token, MethodFailure::PeerNotProven(_))]
        ),
        "{outcome:?}"
    );
    // ended: not even offered, and told why; the credd's own clock is asked by nobody
    let brief = id_token(USER, &["-lifetime", "1"]);
    std::thread::sleep(Duration::from_millis(2100));
    let outcome = failed(ask(credd("ap1"), with_id_token(&brief), &only));
    assert!(
        matches!(
            outcome.as_slice(),
            [(Method::Token, MethodFailure::Unavailable(_))]
        ),
        "{outcome:?}"
    );
}

#[test]
fn denied_says_whom_the_pool_knows() {
    let stranger = id_token("dunepro@elsewhere.test", &[]);
    let error = ask(credd("ap1"), with_id_token(&stranger), &[Method::Token]).unwrap_err();
    match error.kind {
        Kind::Cedar(Cedar::Denied { user, code, failed }) => {
            assert_eq!(
                (user.as_str(), code.as_str()),
                ("dunepro@elsewhere.test", "DENIED")
            );
            assert_eq!(failed, []);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ssl_with_a_client_certificate() {
    let only = [Method::Ssl];
    let identity = |name| Identity::new(ACCOUNT).with_certificate(certificate(name));
    assert_eq!(ask(credd("ap1"), identity(ACCOUNT), &only).unwrap(), USER);
    // without one there is nobody to store for, so it is not offered
    nothing_in_common(ask(credd("ap1"), Identity::new(ACCOUNT), &only), "");
    // good, and in no line of the map
    let error = ask(credd("ap1"), identity("Some Stranger"), &only).unwrap_err();
    assert!(
        matches!(
            error.kind,
            Kind::Cedar(Cedar::Unmapped {
                method: Method::Ssl,
                ..
            })
        ),
        "{error:?}"
    );
    // somebody else's
    let error = ask(credd("ap1"), identity("novapro"), &only).unwrap_err();
    assert!(
        matches!(error.kind, Kind::Cedar(Cedar::WrongUser { .. })),
        "{error:?}"
    );
    // of a CA the credd does not know
    let outcome = failed(ask(
        credd("ap1"),
        Identity::new(ACCOUNT).with_certificate(self_signed()),
        &only,
    ));
    assert_eq!(outcome, [(Method::Ssl, MethodFailure::Refused)]);
    // the credd's certificate is for another host
    let outcome = failed(ask(called("ap1", "ap2.mtk.test"), identity(ACCOUNT), &only));
    assert!(
        matches!(outcome.as_slice(), [(Method::Ssl, MethodFailure::PeerNotProven(why))] if why.contains("ap2.mtk.test")),
        "{outcome:?}"
    );
}

fn self_signed() -> ClientCertificate {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-subj", "/CN=dunepro", "-keyout"])
        .arg(file("key"))
        .arg("-out")
        .arg(file("crt"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let read = |name| std::fs::read(file(name)).unwrap();
    ClientCertificate::from_pem(&read("crt"), &read("key")).unwrap()
}

#[test]
fn scitokens() {
    let only = [Method::SciTokens];
    let identity = |token: BearerToken| Identity::new(ACCOUNT).with_bearer(token);
    let all = "compute.create compute.modify compute.cancel";
    let good = bearer(ACCOUNT, all);
    assert_eq!(ask(credd("ap1"), identity(good.clone()), &only).unwrap(), USER);
    nothing_in_common(ask(credd("ap1"), Identity::new(ACCOUNT), &only), "");
    let wrong = BearerToken::new(forged(good.expose())).unwrap();
    let outcome = failed(ask(credd("ap1"), identity(wrong), &only));
    assert_eq!(outcome, [(Method::SciTokens, MethodFailure::Refused)]);
    // it names us and allows nothing
    let error = ask(credd("ap1"), identity(bearer(ACCOUNT, "compute.read")), &only).unwrap_err();
    assert!(
        matches!(error.kind, Kind::Cedar(Cedar::Denied { .. })),
        "{error:?}"
    );
    // no token for a host that does not prove itself
    let outcome = failed(ask(called("ap1", "ap2.mtk.test"), identity(good), &only));
    assert!(
        matches!(
            outcome.as_slice(),
            [(Method::SciTokens, MethodFailure::PeerNotProven(_))]
        ),
        "{outcome:?}"
    );
}

/// In a mount namespace where /tmp is the credd's: what is made in one is seen in the other.
#[test]
fn fs() {
    let tmp: PathBuf = bed().layout().in_root("/tmp");
    let inner = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            // this binary may lie below /tmp itself
            r#"exec 3<"$2" && mount --bind "$1" /tmp && shift 2 && exec /proc/self/fd/3 "$@""#,
            "sh",
        ])
        .arg(&tmp)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "condor_auth::fs_with_the_same_tmp", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inner.stdout);
    assert!(inner.status.success() && said.contains("1 passed"), "{inner:?}");
    let left = std::fs::read_dir(&tmp)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("FS_"));
    assert_eq!(left.count(), 0);
    // with a /tmp of our own the credd looks for it in vain
    let outcome = failed(ask(credd("ap1"), Identity::new("root"), &[Method::Fs]));
    assert_eq!(outcome, [(Method::Fs, MethodFailure::Refused)]);
}

#[test]
#[ignore = "run by the test `fs`, in a namespace"]
fn fs_with_the_same_tmp() {
    let user = ask(credd("ap1"), Identity::new("root"), &[Method::Fs]).unwrap();
    assert_eq!(user, "root@mtk.test");
}

#[test]
fn methods_without_proof_are_for_those_who_name_them() {
    let claim = [Method::ClaimToBe];
    assert_eq!(ask(credd("ap1"), Identity::new(ACCOUNT), &claim).unwrap(), USER);
    let error = ask(credd("ap1"), Identity::new(ACCOUNT), &[Method::Anonymous]).unwrap_err();
    assert!(
        matches!(
            error.kind,
            Kind::Cedar(Cedar::WrongUser { .. } | Cedar::Denied { .. })
        ),
        "{error:?}"
    );
    // who names nothing offers neither, and has nothing else here
    nothing_in_common(ask(credd("ap1"), Identity::new(ACCOUNT), &Method::DEFAULT), "");
    let names: Vec<&str> = Options::default().methods.iter().map(Method::name).collect();
    assert_eq!(names, ["KERBEROS", "SCITOKENS", "TOKEN", "SSL"]);
}

#[test]
fn no_method_in_common() {
    let identity = with_id_token(&id_token(USER, &[]));
    nothing_in_common(ask(credd("ap3"), identity, &Method::DEFAULT), "TOKEN");
}

/// The credd's order decides; each method that fails leaves the next its turn, and its reason.
#[test]
fn one_method_falls_through_to_the_next() {
    let token = id_token(USER, &[]);
    // an address under another name: neither the ticket for that host nor the certificate of this one will do
    let elsewhere = || called("ap1", "ap2.mtk.test");
    let everything = || {
        with_ticket(ACCOUNT)
            .with_bearer(bearer(ACCOUNT, "compute.create compute.modify compute.cancel"))
            .with_certificate(certificate(ACCOUNT))
    };
    let good = everything().with_id_tokens([IdToken::parse(&token).unwrap()]);
    assert_eq!(ask(elsewhere(), good, &Method::DEFAULT).unwrap(), USER);

    let bad = everything().with_id_tokens([IdToken::parse(&forged(&token)).unwrap()]);
    let reasons = failed(ask(elsewhere(), bad.clone(), &Method::DEFAULT));
    let tried: Vec<Method> = reasons.iter().map(|(method, _)| *method).collect();
    assert_eq!(
        tried,
        [Method::Kerberos, Method::SciTokens, Method::Token, Method::Ssl]
    );
    assert_eq!(reasons[0].1, MethodFailure::Refused);
    assert!(
        reasons[1..]
            .iter()
            .all(|(_, why)| matches!(why, MethodFailure::PeerNotProven(_))),
        "{reasons:?}"
    );
    // and after all four the stream is still in step
    let methods: Vec<Method> = Method::DEFAULT.into_iter().chain([Method::ClaimToBe]).collect();
    assert_eq!(ask(elsewhere(), bad, &methods).unwrap(), USER);

    // a host the KDC does not know: there is nothing to present
    let unknown = with_ticket(ACCOUNT).with_id_tokens([IdToken::parse(&token).unwrap()]);
    assert_eq!(
        ask(called("ap1", "nowhere.mtk.test"), unknown, &Method::DEFAULT).unwrap(),
        USER
    );
}

/// Whoever gets through in the end is not mapped to anybody: the reasons before that are the interesting ones.
#[test]
fn reasons_are_kept_when_the_last_method_leads_nowhere() {
    let identity =
        with_id_token(&forged(&id_token(USER, &[]))).with_certificate(certificate("Some Stranger"));
    let error = ask(credd("ap1"), identity, &[Method::Token, Method::Ssl]).unwrap_err();
    match error.kind {
        Kind::Cedar(Cedar::Unmapped {
            method: Method::Ssl,
            failed,
        }) => {
            assert!(
                matches!(
                    failed.as_slice(),
                    [(Method::Token, MethodFailure::PeerNotProven(_))]
                ),
                "{failed:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}
