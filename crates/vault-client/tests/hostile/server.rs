//! The server, and what a client asks of it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use credential::{Lifetime, LongToken};
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use vault_client::{Client, Error, Options, SecretPath};

pub(crate) const TOKEN: &str = "s.ThisIsTheVaultTokenOfOurs";
pub(crate) const ODD: &str = "eyJvbmUgdGhhdCBub2JvZHkgbWF5IHNlZSBhdCBhbGw";

pub(crate) type Tls = StreamOwned<ServerConnection, TcpStream>;
pub(crate) type Script = dyn Fn(&mut Tls, &str) -> std::io::Result<()> + Send + Sync;

/// A server that reads the head of each request and then does as it is told.
pub(crate) struct Hostile {
    pub(crate) port: u16,
    pub(crate) ca: String,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Hostile {
    pub(crate) fn new(script: impl Fn(&mut Tls) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        Self::reading(move |stream, _| script(stream))
    }

    /// One that does by the head of the request.
    pub(crate) fn reading(
        script: impl Fn(&mut Tls, &str) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let hostile = Self::with(rustls::ALL_VERSIONS, |_| {});
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        hostile.listen_on(listener, Arc::new(script))
    }

    /// Nobody listens yet.
    pub(crate) fn with(
        versions: &[&'static rustls::SupportedProtocolVersion],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &ca).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)
                .unwrap();
        Self {
            port: 0,
            ca: ca.pem(),
            tls: Arc::new(tls),
            requests: Arc::default(),
        }
    }

    pub(crate) fn listen_on(mut self, listener: TcpListener, script: Arc<Script>) -> Self {
        self.port = listener.local_addr().unwrap().port();
        self.listen(listener, script);
        self
    }

    pub(crate) fn listen(&self, listener: TcpListener, script: Arc<Script>) {
        let (tls, requests) = (Arc::clone(&self.tls), Arc::clone(&self.requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, requests, script) = (Arc::clone(&tls), Arc::clone(&requests), Arc::clone(&script));
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), stream);
                    while let Some(head) = head(&mut stream) {
                        requests.fetch_add(1, Ordering::Relaxed);
                        if script(&mut stream, &head).is_err() {
                            break;
                        }
                    }
                });
            }
        });
    }

    /// One answer, again and again.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |stream| {
            stream.write_all(&answer)?;
            stream.flush()
        })
    }

    /// Status 200 and this JSON.
    pub(crate) fn json(body: &str) -> Self {
        Self::saying(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.options()).unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, &self.ca).unwrap();
        let trust = tls::Trust {
            system: false,
            ca_file: Some(file),
            ..tls::Trust::default()
        };
        let mut options = Options::new(
            format!("localhost:{}", self.port).parse().unwrap(),
            tls::client_config(&trust).unwrap(),
        );
        options.read_timeout = Duration::from_secs(3);
        options.bearer_timeout = Duration::from_secs(3);
        options.election_patience = Duration::from_millis(200);
        options
    }
}

/// The head of one request, or `None` when the client has left.
pub(crate) fn head(stream: &mut Tls) -> Option<String> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        seen.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&seen).to_lowercase();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .map_or(0, |n| n.trim().parse::<usize>().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

/// Status 200 or another, and this JSON.
pub(crate) fn say(stream: &mut Tls, status: u16, body: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

pub(crate) fn token() -> LongToken {
    LongToken::new(TOKEN.to_owned()).unwrap()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The error of every kind of request, none of which may show a secret or take long.
#[track_caller]
pub(crate) fn errors(hostile: &Hostile) -> Vec<Error> {
    let begun = Instant::now();
    let client = hostile.client();
    let path = SecretPath::new("dune", "dunepro", "production").unwrap();
    let now = Timestamp::now();
    let life = Lifetime::new(now, SignedDuration::from_hours(1));
    let robot = "dunepro@MTK.TEST".parse().unwrap();
    let errors = run(async {
        vec![
            client
                .login_kerberos("dune", "production", TOKEN.as_bytes(), &robot, now)
                .await
                .map(drop)
                .unwrap_err(),
            client
                .create_child(&token(), life, SignedDuration::from_mins(1), now)
                .await
                .map(drop)
                .unwrap_err(),
            client.bearer(&token(), &path, 60).await.map(drop).unwrap_err(),
            client.lookup_self(&token()).await.map(drop).unwrap_err(),
        ]
    });
    for error in &errors {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("ThisIsTheVaultToken"), "{shown}");
        assert!(!shown.contains(&ODD[..20]), "{shown}");
        assert!(shown.len() < 4000, "{} characters", shown.len());
        assert!(!error.to_string().contains(['\n', '\r', '\u{1b}']), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    errors
}

#[track_caller]
pub(crate) fn all(hostile: &Hostile, kind: impl Fn(&Error) -> bool) {
    for error in errors(hostile) {
        assert!(kind(&error), "{error:?}");
    }
}
