//! A credd of any version, as far as STORE_CRED goes: for those of which there is no package to be had.
//!
//! What it does differently from version to version is what HTCondor's history of changes says (cedar.md 8). It takes
//! every word for a proof (CLAIMTOBE), or a directory (FS).

use std::{
    collections::HashMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use cedar::{
    classad::{Ad, Limits},
    security::{SessionKey, Version},
    wire::{Incoming, Mode, Outgoing},
};

use super::{IV, Peer, Session, ads, broken};

/// The service its credmon is configured for; no other is.
pub const CLAIMED: &str = "dune";

/// The one Vault server it trusts, from the version on that asks.
pub const TRUSTED: &str = "vault.mtk.test:8200";

/// The clock of its files starts here.
const BEGIN: i64 = 1_800_000_000;

/// How clients prove themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// CLAIMTOBE.
    Word,
    /// FS, with names as they were before 24.0.22, 24.12.22 and 25.0.12.
    Directory,
    /// FS with the server's address in the name: 24.0.22, 24.12.22 and 25.0.12.
    NamedDirectory,
    /// FS with that, and the client's view of it asked for: 24.0.23, 24.12.23, 25.0.13 and later.
    BoundDirectory,
}

/// What it is like.
#[derive(Debug, Clone)]
pub struct Nature {
    /// Its version.
    pub version: Version,
    /// How clients prove themselves.
    pub proof: Proof,
    /// Whether it leaves the user out of its answers, whatever its version.
    pub nameless: bool,
    /// Where directories are to be made.
    pub directory: PathBuf,
}

impl Nature {
    /// Of this version, taking every word.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self {
            version,
            proof: Proof::Word,
            nameless: false,
            directory: PathBuf::from("/tmp"),
        }
    }

    fn text(&self) -> String {
        let Version(a, b, c) = self.version;
        format!("$CondorVersion: {a}.{b}.{c} 2025-01-01 $")
    }

    /// 24.7.3: a service is a must, and who is no credmon's business goes to `.use`.
    fn sorts(&self) -> bool {
        self.version >= Version(24, 7, 3)
    }

    /// 24.10.2: NeedRefresh counts, and a `vault_url` is known for what it is.
    fn asks_for_refresh(&self) -> bool {
        self.version >= Version(24, 10, 2)
    }

    /// The use after free of 24.7.3 to 24.12.15, 25.0.0 to 25.0.5 and 25.1 to 25.5.
    fn writes_garbage(&self) -> bool {
        match self.version {
            Version(24, 0..7, _) => false,
            Version(24, ..) => self.sorts() && self.version < Version(24, 12, 16),
            Version(25, 0, patch) => patch < 6,
            Version(25, 1..6, _) => true,
            _ => false,
        }
    }

    fn asks_for_trust(&self) -> bool {
        self.version >= Version(24, 11, 2)
    }

    fn names_user(&self) -> bool {
        !self.nameless && self.version >= Version(23, 10, 1)
    }
}

/// A credential of its.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Unix time of `.top`.
    pub top: Option<i64>,
    /// Unix time of `.use`.
    pub used: Option<i64>,
    /// Whether `.top` cannot be read.
    pub garbage: bool,
    scopes: String,
    audience: String,
}

#[derive(Default)]
struct State {
    files: HashMap<String, File>,
    /// The options of every store.
    stores: Vec<Ad>,
    keys: HashMap<String, (SessionKey, String)>,
    /// Its clock, a second a store.
    time: i64,
}

/// It, until it is dropped.
pub struct Credd {
    peer: Peer,
    state: Arc<Mutex<State>>,
    cut: Arc<(AtomicUsize, AtomicUsize)>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Credd {
    /// Listens on a free port of this host.
    ///
    /// # Errors
    /// There is none.
    pub fn start(nature: Nature) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            time: BEGIN,
            ..State::default()
        }));
        let cut = Arc::new((AtomicUsize::new(usize::MAX), AtomicUsize::new(usize::MAX)));
        let (known, scissors) = (state.clone(), cut.clone());
        let peer = Peer::start(Ipv4Addr::LOCALHOST, move |number, stream| {
            let here = scissors.0.load(Ordering::SeqCst) == number;
            let left = here.then(|| scissors.1.load(Ordering::SeqCst));
            Conversation {
                number,
                nature: &nature,
                state: &known,
                session: &mut Session::new(stream, left)?,
            }
            .run()
        })?;
        Ok(Self { peer, state, cut })
    }

    /// The next connection but `skip` is closed behind `bytes` bytes of ours.
    pub fn cut(&self, skip: usize, bytes: usize) {
        self.cut.1.store(bytes, Ordering::SeqCst);
        self.cut.0.store(self.peer.connections() + skip, Ordering::SeqCst);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.peer.address()
    }

    /// How many connections it has had.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.peer.connections()
    }

    /// What it holds under a stem.
    #[must_use]
    pub fn file(&self, stem: &str) -> Option<File> {
        locked(&self.state).files.get(stem).cloned()
    }

    /// Its credmon has made an access token, long ago.
    pub fn used(&self, stem: &str, time: i64) {
        locked(&self.state).files.entry(stem.to_owned()).or_default().used = Some(time);
    }

    /// The options of every store so far.
    #[must_use]
    pub fn stores(&self) -> Vec<Ad> {
        locked(&self.state).stores.clone()
    }
}

struct Conversation<'a> {
    number: usize,
    nature: &'a Nature,
    state: &'a Mutex<State>,
    session: &'a mut Session,
}

impl Conversation<'_> {
    fn run(mut self) -> io::Result<()> {
        let request = self.session.request()?;
        let user = match request.text("Sid") {
            Some(sid) => self.resumed(sid, request.boolean("ResumeResponse") == Some(true))?,
            None => self.established()?,
        };
        let command = self.session.receive()?;
        let answer = self.answer(&command, &user)?;
        self.session.send(answer.bytes())
    }

    fn resumed(&mut self, sid: &str, answered: bool) -> io::Result<String> {
        let known = locked(self.state)
            .keys
            .get(sid)
            .map(|(key, user)| (key.clone(), user.clone()));
        let mut ad = Ad::new();
        ad.set(
            "ReturnCode",
            if known.is_some() {
                "AUTHORIZED"
            } else {
                "SID_NOT_FOUND"
            },
        );
        ad.set("RemoteVersion", self.nature.text().as_str());
        ad.set("Nonce", "bm9uY2U=");
        if answered {
            self.session.ad(&ad)?;
        }
        let (key, user) = known.ok_or(io::ErrorKind::NotFound)?;
        self.session.channel.seal(&key, IV);
        Ok(user)
    }

    fn established(&mut self) -> io::Result<String> {
        let (method, bit) = match self.nature.proof {
            Proof::Word => ("CLAIMTOBE", 2),
            _ => ("FS", 4),
        };
        let mut policy = ads::policy(&self.session.pair, method);
        policy.set("RemoteVersion", self.nature.text().as_str());
        self.session.ad(&policy)?;
        self.session.receive()?;
        self.int(bit)?;
        let user = match self.nature.proof {
            Proof::Word => {
                let said = self.session.receive()?;
                let mut reader = said.reader();
                reader.int("the claim").map_err(broken)?;
                let user = reader.string("the user", 200).map_err(broken)?.to_owned();
                self.int(1)?;
                user
            }
            _ => self.directory()?,
        };
        // no key: it is agreed
        self.int(0)?;
        let key = self.session.key()?;
        self.session.channel.seal(&key, IV);
        let sid = format!("credd:1:2:{}", self.number);
        let user = format!("{user}@mtk.test");
        let mut verdict = ads::verdict(&user, "AUTHORIZED");
        verdict.set("Sid", sid.as_str());
        self.session.ad(&verdict)?;
        locked(self.state).keys.insert(sid, (key, user.clone()));
        Ok(user)
    }

    fn int(&mut self, value: i64) -> io::Result<()> {
        self.session.send(Outgoing::new(Mode::Plain).int(value).bytes())
    }

    /// FS (cedar.md 5.7).
    fn directory(&mut self) -> io::Result<String> {
        let address = self.session.stream.local_addr()?;
        let (ip, port, n) = (address.ip(), address.port(), self.number);
        let name = match self.nature.proof {
            Proof::Word | Proof::Directory => format!("FS_XXX{n}KP4F9y"),
            Proof::NamedDirectory => format!("FS_{ip}_{port}_KP4F9y{n}"),
            Proof::BoundDirectory => format!("FS_{ip}_{port}_KP4F9y{n}_"),
        };
        let path = self.nature.directory.join(name);
        let text = path.to_string_lossy().into_owned();
        let asked = Outgoing::new(Mode::Plain)
            .string("the directory", &text)
            .map_err(broken)?;
        self.session.send(asked.bytes())?;
        let said = self.session.receive()?;
        let mut reader = said.reader();
        let made = reader.int("the result").map_err(broken)? == 0;
        let extension = match reader.remaining() {
            0 => String::new(),
            _ => reader.string("the extension", 200).map_err(broken)?.to_owned(),
        };
        let bound = self.nature.proof == Proof::BoundDirectory;
        // the client's view of us must be ours
        let view = extension.is_empty() || (bound && extension == address.to_string());
        let ours = fs::symlink_metadata(format!("{text}{extension}"))
            .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o777 == 0o700);
        if made && view && ours {
            self.int(0)?;
            return Ok("root".to_owned());
        }
        self.int(-1)?;
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn answer(&self, command: &Incoming, user: &str) -> io::Result<Outgoing> {
        let mut reader = command.reader();
        reader.string("the target", 200).map_err(broken)?;
        reader.string("the password", 200).map_err(broken)?;
        let mode = reader.int("the mode").map_err(broken)?;
        let length = reader.length("the credential", 1_000_000).map_err(broken)?;
        let credential = reader.raw("the credential", length).map_err(broken)?;
        let options = Ad::decode(&mut reader, Limits::GENERAL).map_err(broken)?;
        let mut ad = Ad::new();
        if self.nature.names_user() {
            ad.set("fully_qualified_user", user);
        }
        let code = match mode & 3 {
            0 => self.add(credential, &options),
            1 => self.delete(&options),
            _ => self.query(&options, &mut ad),
        };
        ad.encode(Outgoing::new(Mode::Sealed).int(code)).map_err(broken)
    }

    fn add(&self, credential: &[u8], options: &Ad) -> i64 {
        let nature = self.nature;
        let mut state = locked(self.state);
        state.stores.push(options.clone());
        let json: serde_json::Value = serde_json::from_slice(credential).unwrap_or_default();
        let vault = json.get("vault_url").and_then(serde_json::Value::as_str);
        let service = match options.text("Service") {
            Some(service) => service.to_owned(),
            None if nature.sorts() => return 8,
            None => "scitokens".to_owned(),
        };
        if nature.asks_for_trust()
            && vault.is_some_and(|url| !url.starts_with(&format!("https://{TRUSTED}/")))
        {
            return 14;
        }
        let claimed = service == CLAIMED;
        let refreshed = if nature.asks_for_refresh() {
            options
                .boolean("NeedRefresh")
                .unwrap_or(vault.is_some() || claimed)
        } else {
            claimed || !nature.sorts()
        };
        let restricted = options.get("Scopes").is_some() || options.get("Audience").is_some();
        if restricted && !json.is_object() {
            return 12;
        }
        state.time += 1;
        let time = state.time;
        let file = state.files.entry(stem(&service, options)).or_default();
        if !refreshed {
            file.used = Some(time);
            return time;
        }
        let said = |name: &str, member: &str| {
            let member = json.get(member).and_then(serde_json::Value::as_str);
            options.text(name).or(member).unwrap_or_default().to_owned()
        };
        file.scopes = said("Scopes", "scopes");
        file.audience = said("Audience", "audience");
        file.garbage = restricted && nature.writes_garbage();
        file.top = Some(time);
        // not the time of this store
        file.used.unwrap_or(6)
    }

    fn delete(&self, options: &Ad) -> i64 {
        let service = options.text("Service").unwrap_or_default();
        locked(self.state).files.remove(&stem(service, options));
        1
    }

    fn query(&self, options: &Ad, ad: &mut Ad) -> i64 {
        let state = locked(self.state);
        let stem = stem(options.text("Service").unwrap_or_default(), options);
        let Some(file) = state.files.get(&stem) else {
            return 5;
        };
        if let Some(top) = file.top {
            ad.set(&format!("Top{stem}Time"), top);
            let same = |name, stored: &str| options.text(name).unwrap_or_default() == stored;
            if file.garbage {
                return 12;
            }
            if !(same("Scopes", &file.scopes) && same("Audience", &file.audience)) {
                return 13;
            }
        }
        match file.used {
            Some(used) => {
                ad.set(&stem, used);
                1
            }
            None => 6,
        }
    }
}

fn stem(service: &str, options: &Ad) -> String {
    match options.text("Handle") {
        Some(handle) => format!("{service}_{handle}"),
        None => service.to_owned(),
    }
}

/// Up to the command of a client that authenticates by its word: what comes next is sealed.
///
/// # Errors
/// The client closed.
pub fn sealed(session: &mut Session) -> io::Result<()> {
    let nature = Nature::of(Version(24, 12, 0));
    session.request()?;
    Conversation {
        number: 0,
        nature: &nature,
        state: &Mutex::default(),
        session,
    }
    .established()?;
    session.receive().map(drop)
}
