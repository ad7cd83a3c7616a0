//! Credds that no package has: the versions between, and conversations that are cut.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use credd_client::{
    Credd, CreddAddress, Error, Identity, Kind, Method, Options, Restriction, ResultCode, Stage, Terms,
    Version,
    ads::{Kind as AdKind, Query},
    classad::{Ad, Limits},
};
use credential::SecretBytes;
use testkit::hostile::{
    Peer, Session, ads,
    credd::{CLAIMED, Credd as Script, Nature, Proof, TRUSTED},
};

use super::{LONG, options};
use crate::waiting::block;

const USER: &str = "dunepro";

/// One of each behaviour that changed between 24.0 and 25, and its neighbours.
const VERSIONS: [Version; 10] = [
    Version(23, 10, 0),
    Version(24, 0, 2),
    Version(24, 7, 2),
    Version(24, 7, 3),
    Version(24, 9, 2),
    Version(24, 10, 2),
    Version(24, 11, 2),
    Version(24, 12, 15),
    Version(24, 12, 16),
    Version(25, 6, 1),
];

pub fn client(address: SocketAddr, options: &Options) -> Credd {
    let sinful = format!("<{address}?alias=ap1.example.org>");
    let options = Options {
        methods: [Method::ClaimToBe, Method::Fs].into_iter().collect(),
        ..options.clone()
    };
    Credd::new(
        CreddAddress::from_entry(&sinful).unwrap(),
        Identity::new(USER),
        options,
    )
}

fn json(host: &str) -> SecretBytes {
    let url = format!("https://{host}/v1/secret/oauth/creds/dune/x:production");
    SecretBytes::new(format!("{{\"vault_token\": \"hvs.x\", \"vault_url\": \"{url}\"}}\n").into_bytes())
}

fn of(version: Version) -> (Script, Credd) {
    with(Nature::of(version))
}

fn with(nature: Nature) -> (Script, Credd) {
    let script = Script::start(nature).unwrap();
    let client = client(script.address(), &options(LONG));
    (script, client)
}

fn store(credd: &Credd, service: &str) -> Result<credd_client::Stored, Error> {
    block(credd.store(USER, service, None, &json(TRUSTED)))
}

#[test]
fn a_store_says_everything_the_versions_ask_for() {
    for version in VERSIONS {
        let (script, credd) = of(version);
        let stored = store(&credd, CLAIMED).unwrap_or_else(|e| panic!("{version:?}: {e:?}"));
        assert_eq!(stored.confirmed, version >= Version(23, 10, 1), "{version:?}");
        let [options] = script.stores().try_into().unwrap();
        // 24.7.3 wants the service, 24.10.2 is told not to guess
        assert_eq!(options.text("Service"), Some(CLAIMED));
        assert_eq!(options.boolean("NeedRefresh"), Some(true));
        let held = block(credd.query(USER, CLAIMED, None)).unwrap();
        assert_eq!((held.top, held.used), (Some(stored.top), None));
        assert_eq!((credd.handshakes(), credd.resumptions()), (1, 3));
    }
}

/// 24.0.2 and later answer with the time of an access token that may be old.
#[test]
fn an_old_access_token_is_not_taken_for_the_store() {
    for version in VERSIONS {
        let (script, credd) = of(version);
        script.used(CLAIMED, 1_700_000_000);
        let stored = store(&credd, CLAIMED).unwrap();
        assert!(stored.top.as_second() > 1_800_000_000, "{version:?}: {stored:?}");
        // what is there twice: the second store moves the time
        assert!(store(&credd, CLAIMED).unwrap().top > stored.top);
    }
}

/// 24.7.3 to 24.9 keep what is no credmon's as an access token, and say it went well.
#[test]
fn what_nobody_refreshes_is_not_called_stored() {
    for version in VERSIONS {
        let (script, credd) = of(version);
        let stored = store(&credd, "unclaimed");
        let file = script.file("unclaimed").unwrap();
        if (Version(24, 7, 3)..Version(24, 10, 2)).contains(&version) {
            let error = stored.unwrap_err();
            assert!(
                matches!(&error.kind, Kind::NotRefreshed { name, .. } if name == "unclaimed"),
                "{version:?}: {error:?}"
            );
            assert_eq!(error.stage, Stage::Verifying);
            assert!(!error.retryable() && error.advice().unwrap().contains("VAULT_CREDMON_PROVIDER_NAMES"));
            // and a query shows an access token alone
            let held = block(credd.query(USER, "unclaimed", None)).unwrap();
            assert!(held.top.is_none() && held.used.is_some());
        } else {
            stored.unwrap_or_else(|e| panic!("{version:?}: {e:?}"));
            assert!(file.top.is_some() && file.used.is_none(), "{version:?}");
        }
    }
}

/// Use after free in 24.7.3 to 24.12.15, 25.0.0 to 25.0.5, 25.1 to 25.5: the credd spoils what it adds scopes to.
#[test]
fn a_credential_the_credd_spoiled_is_not_called_stored() {
    let terms = Terms {
        restriction: Restriction {
            scopes: Some("storage.read:/".to_owned()),
            audience: None,
        },
        ..Terms::default()
    };
    let mut spoiled = Vec::new();
    let more = [Version(25, 0, 5), Version(25, 0, 6), Version(25, 5, 0)];
    for version in VERSIONS.into_iter().chain(more) {
        let (script, credd) = of(version);
        match block(credd.store_on(USER, CLAIMED, None, &json(TRUSTED), &terms)) {
            Ok(_) => assert!(!script.file(CLAIMED).unwrap().garbage, "{version:?}"),
            Err(error) => {
                let code = ResultCode::NotJson;
                assert!(
                    matches!(error.kind, Kind::Refused { code: c, .. } if c == code),
                    "{error:?}"
                );
                assert_eq!(error.stage, Stage::Verifying);
                spoiled.push(version);
            }
        }
        // the same scopes in the JSON are left alone everywhere
        let json = SecretBytes::new(
            format!("{{\"vault_url\": \"https://{TRUSTED}/v1/x\", \"scopes\": \"storage.read:/\"}}\n")
                .into_bytes(),
        );
        block(credd.store(USER, CLAIMED, Some("scoped"), &json)).unwrap();
        let held = block(credd.query_restricted(USER, CLAIMED, Some("scoped"), &terms.restriction)).unwrap();
        assert!(!held.other_restriction && !held.damaged, "{version:?}: {held:?}");
    }
    let expected = [
        Version(24, 7, 3),
        Version(24, 9, 2),
        Version(24, 10, 2),
        Version(24, 11, 2),
        Version(24, 12, 15),
        Version(25, 0, 5),
        Version(25, 5, 0),
    ];
    assert_eq!(spoiled, expected);
}

/// TRUSTED_VAULT_HOSTS, from 24.11.2 on.
#[test]
fn another_vault_server_is_refused_by_those_that_ask() {
    for version in VERSIONS {
        let (script, credd) = of(version);
        let stored = block(credd.store(USER, CLAIMED, None, &json("vault.evil.test:8200")));
        if version < Version(24, 11, 2) {
            stored.unwrap();
            continue;
        }
        let error = stored.unwrap_err();
        let code = ResultCode::UntrustedVault;
        assert!(
            matches!(error.kind, Kind::Refused { code: c, .. } if c == code),
            "{error:?}"
        );
        assert!(!error.retryable() && error.advice().unwrap().contains("TRUSTED_VAULT_HOSTS"));
        assert_eq!(script.file(CLAIMED), None);
    }
}

/// From 23.10.1 on the answer must name us; before that it cannot.
#[test]
fn an_answer_without_a_user_counts_by_the_version() {
    for version in VERSIONS {
        let nature = Nature {
            nameless: true,
            ..Nature::of(version)
        };
        let (_script, credd) = with(nature);
        let stored = store(&credd, CLAIMED);
        if version < Version(23, 10, 1) {
            assert!(!stored.unwrap().confirmed);
        } else {
            let error = stored.unwrap_err();
            assert!(
                matches!(error.kind, Kind::OtherUser { after: None, .. }),
                "{error:?}"
            );
        }
    }
}

/// The three styles of names that FS has had; the two newer ones came to 24.12 with .22 and .23.
#[test]
fn all_three_styles_of_fs() {
    for (proof, version) in [
        (Proof::Directory, Version(24, 12, 21)),
        (Proof::NamedDirectory, Version(24, 12, 22)),
        (Proof::BoundDirectory, Version(24, 12, 23)),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let nature = Nature {
            proof,
            directory: directory.path().to_owned(),
            ..Nature::of(version)
        };
        let script = Script::start(nature).unwrap();
        let options = Options {
            methods: [Method::Fs].into_iter().collect(),
            fs_directory: directory.path().to_owned(),
            ..options(LONG)
        };
        let address = CreddAddress::from_entry(&format!("<{}>", script.address())).unwrap();
        let credd = Credd::new(address, Identity::new("root"), options);
        let stored = block(credd.store("root", CLAIMED, None, &json(TRUSTED)));
        stored.unwrap_or_else(|e| panic!("{proof:?}: {e:?}"));
        assert_eq!(credd.handshakes(), 1);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0, "{proof:?}");
    }
}

/// Collectors from 23.7 on, until it was repaired in 24, compared the type of generic ads with its case.
#[test]
fn credds_are_asked_for_in_the_case_they_are_kept_in() {
    let peer = Peer::start(std::net::Ipv4Addr::LOCALHOST, |_, stream| {
        let mut session = Session::new(stream, None)?;
        session.request()?;
        session.ad(&ads::open_policy())?;
        session.ad(&ads::verdict("unauthenticated@unmapped", "AUTHORIZED"))?;
        let query = session.receive()?;
        let query = Ad::decode(&mut query.reader(), Limits::GENERAL).map_err(std::io::Error::other)?;
        let found = (query.text("TargetType") == Some("CredD"))
            .then(|| ads::encoded(session.mode(), &ads::schedd("ap1.example.org")));
        session.send(&ads::answer(found.as_slice()))
    })
    .unwrap();
    let collector = credd_client::Collector::new(&peer.address().to_string()).unwrap();
    for kind in [AdKind::Credd, AdKind::Generic("CredD".into())] {
        let found = block(collector.query(&Query::all(kind, &["Name"]), &options(LONG))).unwrap();
        assert_eq!(found.len(), 1);
    }
}

/// Whatever is missing of what a credd says, on a new session and on a resumed one: an error that knows it, in time.
#[test]
fn a_conversation_cut_after_every_byte() {
    let step = Duration::from_secs(10);
    let (script, _) = of(Version(24, 12, 0));
    store(&client(script.address(), &options(step)), CLAIMED).unwrap();
    let mut whole = None;
    for bytes in 0..4096 {
        let credd = client(script.address(), &options(step));
        let before = script.connections();
        script.cut(0, bytes);
        let began = Instant::now();
        match block(credd.query(USER, CLAIMED, None)) {
            Ok(held) => {
                assert!(held.top.is_some());
                whole = Some(bytes);
                break;
            }
            Err(error) => {
                let text = format!("{:?}", error.kind);
                // closed before the choice of a method it has none to choose from
                let known = [
                    "Closed",
                    "Broken",
                    "Cedar(NoPolicy",
                    "Cedar(NoCommonMethod",
                    "Cedar(ClosedInMethod",
                    "Cedar(Unmapped",
                ];
                assert!(known.iter().any(|k| text.starts_with(k)), "{bytes}: {text}");
            }
        }
        assert!(began.elapsed() < step, "{bytes}");
        // nothing was tried twice behind our back
        assert_eq!(script.connections(), before + 1);
    }
    assert!(whole.unwrap() > 500, "{whole:?}");

    let credd = client(script.address(), &options(step));
    block(credd.query(USER, CLAIMED, None)).unwrap();
    let mut whole = None;
    for bytes in 0..4096 {
        let (began, before) = (Instant::now(), credd.handshakes());
        script.cut(0, bytes);
        // the session is given up, and one more connection answers
        let held = block(credd.query(USER, CLAIMED, None)).unwrap_or_else(|e| panic!("{bytes}: {e:?}"));
        assert!(held.top.is_some() && began.elapsed() < step, "{bytes}");
        if credd.handshakes() == before {
            whole = Some(bytes);
            break;
        }
        assert_eq!(credd.handshakes(), before + 1);
    }
    assert!(whole.unwrap() > 150, "{whole:?}");
}

/// A way to the scripted credd over IPv6.
fn over_ipv6(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(to).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

#[test]
fn a_credd_with_several_addresses_is_reached_at_the_one_that_answers() {
    let script = Script::start(Nature::of(Version(24, 12, 15))).unwrap();
    let port = over_ipv6(script.address()).port();
    for sinful in [
        format!("<[::1]:{port}?alias=ap1.example.org>"),
        // nobody listens at port 1
        format!("<127.0.0.1:1?addrs=127.0.0.1-1+[--1]-{port}&alias=ap1.example.org>"),
    ] {
        let options = Options {
            methods: [Method::ClaimToBe].into_iter().collect(),
            ..options(LONG)
        };
        let credd = Credd::new(
            CreddAddress::from_entry(&sinful).unwrap(),
            Identity::new(USER),
            options,
        );
        store(&credd, CLAIMED).unwrap_or_else(|e| panic!("{sinful}: {e:?}"));
    }
}
