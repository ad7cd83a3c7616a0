use std::{
    fs,
    io::{Read, Write},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
};
use rustls::{ClientConnection, ServerConfig, ServerConnection, pki_types::PrivateKeyDer};

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // two with one name would be one to whoever looks for a list by name
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    params
        .distinguished_name
        .push(DnType::CommonName, format!("CA {number}"));
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn server(ca: &Ca, name: &str) -> Arc<ServerConfig> {
    numbered(ca, name, 1)
}

fn numbered(ca: &Ca, name: &str, serial: u64) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.serial_number = Some(serial.into());
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, ca).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// The handshake in memory, and one byte through it.
fn talk(client: Arc<ClientConfig>, server: Arc<ServerConfig>, host: &str) -> Result<(), rustls::Error> {
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(client, host).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        // the server's view of our alert does not matter here
        drop(server.process_new_packets());
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    server.writer().write_all(b"x").unwrap();
    let mut wire = Vec::new();
    server.write_tls(&mut wire).unwrap();
    client.read_tls(&mut wire.as_slice()).unwrap();
    client.process_new_packets()?;
    assert_eq!(client.reader().read(&mut [0; 4]).unwrap(), 1);
    Ok(())
}

fn only(file: Option<&Path>, dir: Option<&Path>) -> Trust {
    Trust {
        system: false,
        ca_file: file.map(Into::into),
        ca_dir: dir.map(Into::into),
        crl: Crl::Off,
        name: None,
    }
}

#[test]
fn only_the_named_ca_and_the_right_name_are_believed() {
    let (ours, theirs) = (ca(), ca());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, ours.pem()).unwrap();
    let config = client_config(&only(Some(&file), None)).unwrap();
    talk(Arc::clone(&config), server(&ours, "vault.test"), "vault.test").unwrap();
    assert!(talk(Arc::clone(&config), server(&ours, "vault.test"), "other.test").is_err());
    assert!(talk(config, server(&theirs, "vault.test"), "vault.test").is_err());
}

#[test]
fn another_name_replaces_the_hosts_and_nothing_else() {
    let (ours, theirs) = (ca(), ca());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), ours.pem()).unwrap();
    let trust = Trust {
        name: Some("cluster.test".into()),
        ..only(None, Some(dir.path()))
    };
    let config = client_config(&trust).unwrap();
    talk(Arc::clone(&config), server(&ours, "cluster.test"), "node1.test").unwrap();
    assert!(talk(Arc::clone(&config), server(&ours, "node1.test"), "node1.test").is_err());
    assert!(talk(config, server(&theirs, "cluster.test"), "node1.test").is_err());
    let bad = Trust {
        name: Some("not a name".into()),
        ..trust
    };
    assert!(matches!(client_config(&bad), Err(Error::Name { .. })));
}

#[test]
fn a_directory_is_read_as_openssl_would() {
    let (hashed, pem) = (ca(), ca());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("0a1b2c3d.0", &hashed.pem());
    write("named.pem", &pem.pem());
    write("0a1b2c3d.r0", "a revocation list");
    write("0a1b2c3d.signing_policy", "access_id_CA");
    write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n@@\n-----END CERTIFICATE-----\n",
    );
    std::os::unix::fs::symlink("gone", dir.path().join("dangling.pem")).unwrap();
    let config = client_config(&only(None, Some(dir.path()))).unwrap();
    for issuer in [&hashed, &pem] {
        talk(Arc::clone(&config), server(issuer, "vault.test"), "vault.test").unwrap();
    }
}

#[test]
fn what_cannot_be_honoured_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert!(matches!(
        client_config(&only(Some(&missing), None)),
        Err(Error::Unreadable { .. })
    ));
    assert!(matches!(
        client_config(&only(None, Some(&missing))),
        Err(Error::Unreadable { .. })
    ));
    assert!(matches!(
        client_config(&only(None, Some(dir.path()))),
        Err(Error::NoCertificate { .. })
    ));
    let empty = dir.path().join("empty.txt");
    fs::write(&empty, "").unwrap();
    assert!(matches!(
        client_config(&only(Some(&empty), None)),
        Err(Error::NoCertificate { .. })
    ));
    assert!(matches!(client_config(&only(None, None)), Err(Error::NoSource)));
}

/// A list of a CA on which these serial numbers stand, good until the end of that year.
fn list(ca: &Ca, revoked: &[u64], year: i32) -> String {
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(year, 12, 31),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: (*serial).into(),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().pem().unwrap()
}

#[test]
fn revocation_lists_count_as_asked() {
    let (with_list, without, outdated) = (ca(), ca(), ca());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("00000001.0", &with_list.pem());
    write("00000002.0", &without.pem());
    write("00000003.0", &outdated.pem());
    write("00000001.r0", &list(&with_list, &[7], 2090));
    write("00000003.r0", &list(&outdated, &[9], 2021));
    write("00000004.r0", "no list at all");
    let config = |crl| {
        let trust = Trust {
            crl,
            ..only(None, Some(dir.path()))
        };
        client_config(&trust).unwrap()
    };
    let fine =
        |crl, ca: &Ca, serial| talk(config(crl), numbered(ca, "vault.test", serial), "vault.test").is_ok();
    for (crl, expected) in [
        (Crl::Off, [true, true, true, true, true]),
        (Crl::Present, [true, false, true, true, false]),
        (Crl::Required, [true, false, false, false, false]),
    ] {
        let got = [
            fine(crl, &with_list, 1),
            fine(crl, &with_list, 7),
            fine(crl, &without, 1),
            fine(crl, &outdated, 1),
            fine(crl, &outdated, 9),
        ];
        assert_eq!(got, expected, "{crl:?}");
    }
}

#[test]
fn a_list_counts_under_another_name_as_well() {
    let ours = ca();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000001.0"), ours.pem()).unwrap();
    fs::write(dir.path().join("00000001.r0"), list(&ours, &[7], 2090)).unwrap();
    let trust = Trust {
        crl: Crl::Required,
        name: Some("cluster.test".into()),
        ..only(None, Some(dir.path()))
    };
    let config = client_config(&trust).unwrap();
    talk(
        Arc::clone(&config),
        numbered(&ours, "cluster.test", 1),
        "node1.test",
    )
    .unwrap();
    assert!(talk(config, numbered(&ours, "cluster.test", 7), "node1.test").is_err());
}

#[test]
fn lists_that_are_wanted_and_cannot_be_had_are_an_error() {
    let ours = ca();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    fs::write(&file, ours.pem()).unwrap();
    fs::write(dir.path().join("00000001.r0"), "no list at all").unwrap();
    let with = |crl, file: Option<&Path>, dir: Option<&Path>| {
        client_config(&Trust {
            crl,
            ..only(file, dir)
        })
    };
    for crl in [Crl::Present, Crl::Required] {
        assert!(matches!(
            with(crl, Some(&file), None),
            Err(Error::NoListDirectory)
        ));
    }
    assert!(matches!(
        with(Crl::Required, None, Some(dir.path())),
        Err(Error::NoList { .. })
    ));
    assert!(with(Crl::Present, None, Some(dir.path())).is_ok());
}
