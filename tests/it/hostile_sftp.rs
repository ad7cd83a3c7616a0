//! Servers that mean ill once the keys are exchanged, over both transports: at the login, in SFTP, and with their keys.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use distribute::{Error, File, FileError, Gate, Limits, Login, Mode, Node, Placed, Report, Stage, Verdict};
use testkit::hostile::ssh::{
    Script, Server, banner,
    packet::{Line, string},
    prompts, refusal,
    sftp::{Answer, Files, attrs, kind, reply, status},
};

use crate::{
    hostile_sshd::resident,
    sshd::{Folder, both, node},
    waiting::runtime,
};

const NAME: &str = "/tmp/vt_hostile";

/// How much of a login or a session such a server can take. The login has more than it needs where it is an honest one.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    auth: Duration::from_secs(6),
    per_file: Duration::from_secs(2),
    total: Duration::from_secs(20),
};

/// More than any of it needs, in KiB; the server's share of it runs in the same process.
const MAX_GROWTH: u64 = 64 * 1024;

/// How many are played at once: most of them take their time by the clock.
const AT_ONCE: u64 = 6;

/// Both transports, and a key for them.
struct Kit {
    folder: Folder,
    limits: Limits,
}

impl Kit {
    fn new() -> Self {
        let folder = Folder::new("hostile-sftp");
        folder.key("user", "ed25519");
        Self {
            folder,
            limits: LIMITS,
        }
    }

    fn logins(&self) -> [Login; 2] {
        both(self.folder.join("user"))
    }

    /// Two files placed on `server` in one session, by the clock.
    fn place(&self, server: &Server, login: Login, mode: Mode) -> Result<Report, Error> {
        let line = format!("[127.0.0.1]:{} {}\n", server.port(), server.known());
        let known = self
            .folder
            .write(&format!("known_hosts.{}", server.port()), &line);
        let mut node = Node {
            port: server.port(),
            ..node("127.0.0.1", &known, login)
        };
        // the only one that server knows
        node.options.algorithms.kex = Some("+ecdh-sha2-nistp256".to_owned());
        let files = ["", "-second"].map(|more| File {
            path: format!("{NAME}{more}"),
            content: "hvs.hostile\n".to_owned().into(),
            mode: 0o400,
        });
        let runtime = runtime();
        let began = Instant::now();
        let report = runtime.block_on(distribute::place(
            &Gate::default(),
            &node,
            &files,
            mode,
            &self.limits,
        ));
        let took = began.elapsed();
        let who = &node.login;
        assert!(took < self.limits.total, "{who:?} took {took:?}: {report:?}");
        report
    }
}

fn script(answer: fn(&mut Files, &[u8], Vec<u8>) -> Answer) -> Script {
    Script {
        answer,
        ..Script::default()
    }
}

/// What both transports make of it.
fn each(script: Script, mode: Mode, judge: impl Fn(&Login, Result<Report, Error>) + Sync) {
    all(LIMITS, &[script], mode, |_, login, report| judge(login, report));
}

/// What both transports make of each script, judged with its number: some at once, within bounds.
fn all(
    limits: Limits,
    scripts: &[Script],
    mode: Mode,
    judge: impl Fn(usize, &Login, Result<Report, Error>) + Sync,
) {
    let kit = Kit { limits, ..Kit::new() };
    let scripts = scripts.iter().copied().enumerate();
    let plays = scripts.flat_map(|(number, script)| kit.logins().map(|login| (number, script, login)));
    let left = Mutex::new(plays.collect::<Vec<_>>());
    let next = || left.lock().unwrap().pop();
    let memory = resident();
    let player = || {
        while let Some((number, script, login)) = next() {
            let server = Server::start(&[3], script).unwrap();
            let report = kit.place(&server, login.clone(), mode);
            let grown = resident().saturating_sub(memory);
            assert!(
                grown < AT_ONCE * MAX_GROWTH,
                "{number}, {login:?}: {grown} KiB more: {report:?}"
            );
            judge(number, &login, report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(player);
        }
    });
}

#[test]
fn the_server_is_honest_when_it_is_told_to_be() {
    each(Script::default(), Mode::Write, |login, report| {
        let report = report.unwrap_or_else(|error| panic!("{login:?}: {error}"));
        assert!(
            matches!(report.host_key, Some(Verdict::Known { .. })),
            "{login:?}"
        );
        for file in report.files {
            assert_eq!(file.unwrap().placed, Placed::Written, "{login:?}");
        }
    });
}

/// One after another, with what each of the two files ends in.
#[test]
fn answers_that_lie_end_the_file_or_the_session_with_a_name_for_it() {
    type Twist = (
        &'static str,
        fn(&mut Files, &[u8], Vec<u8>) -> Answer,
        fn(&FileError) -> bool,
    );
    // libssh2 makes the best of some of it, and then the server refuses what comes of that
    let lost: fn(&FileError) -> bool = |error| {
        matches!(
            error,
            FileError::SessionLost { .. } | FileError::TimedOut { .. } | FileError::Refused { .. }
        )
    };
    let twists: [Twist; 16] = [
        (
            "a packet of 4 GiB",
            |_, request, honest| match request[0] {
                kind::LSTAT => Answer::Lie(u32::MAX, honest),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "a packet of 100 MB that comes",
            |_, request, honest| match request[0] {
                kind::LSTAT => Answer::Lie(100_000_000, [&honest[..], &vec![0; 20_000_000]].concat()),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "an empty packet",
            |_, request, honest| match request[0] {
                kind::LSTAT => Answer::Lie(0, Vec::new()),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "a packet shorter than it says",
            |_, request, honest| match request[0] {
                kind::LSTAT => Answer::Lie(honest.len() as u32 + 1000, honest),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "a handle of 4 GiB",
            |_, request, honest| match request[0] {
                kind::OPEN => Answer::Say(reply(kind::HANDLE, request, &[0xff; 4])),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "a status code nobody has",
            |_, request, honest| match request[0] {
                kind::OPEN => Answer::Say(status(request, u32::MAX, "?")),
                _ => Answer::Say(honest),
            },
            |error| matches!(error, FileError::Refused { .. } | FileError::SessionLost { .. }),
        ),
        (
            "a status code of a later version",
            |_, request, honest| match request[0] {
                kind::WRITE => Answer::Say(status(request, 14, "no space")),
                _ => Answer::Say(honest),
            },
            |error| {
                matches!(
                    error,
                    FileError::DiskFull { .. } | FileError::Refused { .. } | FileError::SessionLost { .. }
                )
            },
        ),
        (
            "OK where a handle is due",
            |_, request, honest| match request[0] {
                kind::OPEN => Answer::Say(status(request, 0, "")),
                _ => Answer::Say(honest),
            },
            |error| {
                matches!(
                    error,
                    FileError::Refused { .. } | FileError::SessionLost { .. } | FileError::TimedOut { .. }
                )
            },
        ),
        (
            "another kind of answer",
            |_, request, honest| match request[0] {
                kind::WRITE => Answer::Say(reply(kind::ATTRS, request, &attrs(1, 0o100_400))),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "another number",
            |_, request, honest| match request[0] {
                kind::LSTAT => Answer::Say([&honest[..1], &[0x7f; 4], &honest[5..]].concat()),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "answers to others without end",
            |_, request, honest| match request[0] {
                kind::LSTAT => Answer::Endless([&honest[..1], &[0x7f; 4], &honest[5..]].concat()),
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "silence",
            |_, request, honest| match request[0] {
                kind::WRITE => Answer::Silence,
                _ => Answer::Say(honest),
            },
            lost,
        ),
        (
            "a rename that did nothing",
            |files, request, honest| match request[0] {
                kind::EXTENDED if honest[0] == kind::STATUS && files.files.contains_key(NAME) => {
                    files.files.remove(NAME);
                    Answer::Say(honest)
                }
                _ => Answer::Say(honest),
            },
            |error| {
                matches!(
                    error,
                    FileError::Refused {
                        doing: "read back",
                        ..
                    } | FileError::SessionLost { .. }
                )
            },
        ),
        (
            "a rename after which the content is another",
            |files, request, honest| match request[0] {
                kind::EXTENDED => {
                    if let Some((bytes, _)) = files.files.get_mut(NAME) {
                        bytes[0] ^= 1;
                    }
                    Answer::Say(honest)
                }
                _ => Answer::Say(honest),
            },
            |error| matches!(error, FileError::ReadBackDiffers { .. }),
        ),
        (
            "a read without end",
            |_, request, honest| match request[0] {
                kind::READ => Answer::Say(reply(kind::DATA, request, &string(&[b'x'; 32_000]))),
                _ => Answer::Say(honest),
            },
            |error| {
                matches!(
                    error,
                    FileError::ReadBackDiffers { .. }
                        | FileError::SessionLost { .. }
                        | FileError::Refused {
                            doing: "read back",
                            ..
                        }
                )
            },
        ),
        (
            "a read of nothing, again and again",
            |_, request, honest| match request[0] {
                kind::READ => Answer::Say(reply(kind::DATA, request, &string(b""))),
                _ => Answer::Say(honest),
            },
            |error| {
                matches!(
                    error,
                    FileError::ReadBackDiffers { .. }
                        | FileError::SessionLost { .. }
                        | FileError::Refused {
                            doing: "read back",
                            ..
                        }
                )
            },
        ),
    ];
    let scripts = twists.map(|(_, answer, _)| script(answer));
    all(LIMITS, &scripts, Mode::Write, |number, login, report| {
        let (what, _, ends) = &twists[number];
        match report {
            Ok(report) => match &report.files[0] {
                Err(error) => {
                    assert!(ends(error), "{what}, {login:?}: {error:?}");
                    assert!(!error.to_string().contains("hvs."), "{what}: {error}");
                }
                Ok(landed) => panic!("{what}, {login:?}: {landed:?}"),
            },
            // libssh2 opens a channel of its own for each request beyond the draft, which may be what breaks
            Err(error) => assert!(error.stage() >= Stage::Sftp, "{what}, {login:?}: {error:?}"),
        }
    });
}

/// Placed, and then the sweeping meets a directory that does not end: it takes its few seconds, and the file is there.
#[test]
fn a_directory_without_end_does_not_keep_a_session() {
    fn listing(_: &mut Files, request: &[u8], honest: Vec<u8>) -> Answer {
        if request[0] != kind::READDIR {
            return Answer::Say(honest);
        }
        let name = [string(b".mtk-x"), string(b"-rw"), attrs(1, 0o100_400)].concat();
        let many = [&100_u32.to_be_bytes()[..], &name.repeat(100)].concat();
        Answer::Say(reply(kind::NAME, request, &many))
    }
    fn empty(_: &mut Files, request: &[u8], honest: Vec<u8>) -> Answer {
        match request[0] {
            kind::READDIR => Answer::Say(reply(kind::NAME, request, &[0; 4])),
            _ => Answer::Say(honest),
        }
    }
    fn lying(_: &mut Files, request: &[u8], honest: Vec<u8>) -> Answer {
        match request[0] {
            kind::READDIR => Answer::Say(reply(kind::NAME, request, &[0xff; 4])),
            _ => Answer::Say(honest),
        }
    }
    let scripts = [listing, empty, lying].map(script);
    all(LIMITS, &scripts, Mode::Write, |number, login, report| {
        let report = report.unwrap_or_else(|error| panic!("{number}, {login:?}: {error}"));
        for file in report.files {
            assert_eq!(file.unwrap().placed, Placed::Written, "{number}, {login:?}");
        }
    });
}

#[test]
fn names_that_climb_out_of_their_directory_are_not_followed() {
    static LISTED: AtomicUsize = AtomicUsize::new(0);
    static FOLLOWED: AtomicUsize = AtomicUsize::new(0);
    fn climbing(files: &mut Files, request: &[u8], honest: Vec<u8>) -> Answer {
        if String::from_utf8_lossy(request).contains("..") {
            FOLLOWED.fetch_add(1, Ordering::SeqCst);
        }
        if request[0] == kind::READDIR && files.requests < 1000 {
            files.requests = 1000;
            LISTED.fetch_add(1, Ordering::SeqCst);
            let name = format!("../tmp/.mtk-{}", "a".repeat(32));
            let one = [string(name.as_bytes()), string(b""), attrs(1, 0o100_400)].concat();
            return Answer::Say(reply(kind::NAME, request, &[&[0, 0, 0, 1][..], &one].concat()));
        }
        Answer::Say(honest)
    }
    each(script(climbing), Mode::Write, |login, report| {
        for file in report.unwrap().files {
            assert_eq!(file.unwrap().placed, Placed::Written, "{login:?}");
        }
    });
    assert!(
        LISTED.load(Ordering::SeqCst) > 0,
        "nobody looked for left-over files"
    );
    assert_eq!(FOLLOWED.load(Ordering::SeqCst), 0, "a name with .. was used");
}

/// What may come while somebody logs in.
#[test]
fn logins_that_do_not_end_end_by_the_clock_and_within_bounds() {
    type Play = fn(&mut Line, bool) -> io::Result<bool>;
    let plays: [(&str, Play); 7] = [
        ("silence", |line, _| line.silence().map(|()| true)),
        ("banners without end", |line, _| {
            line.endless(&banner(&[b'b'; 8000])).map(|()| true)
        }),
        ("refusals without end", |line, _| {
            line.endless(&refusal("publickey", false)).map(|()| true)
        }),
        ("always one more login", |line, _| {
            line.send(&refusal("publickey,keyboard-interactive", true))
                .map(|()| true)
        }),
        ("a hundred thousand prompts", |line, _| {
            // a message of its own for each, and many in one as far as one holds
            for _ in 0..100_000 {
                line.send(&prompts(1))?;
            }
            line.send(&prompts(5_000))?;
            line.silence().map(|()| true)
        }),
        ("prompts without end", |line, _| {
            line.endless(&prompts(1_000)).map(|()| true)
        }),
        ("messages nobody knows without end", |line, _| {
            line.endless(&[&[192][..], &[0; 8000]].concat()).map(|()| true)
        }),
    ];
    let scripts = plays.map(|(_, login)| Script {
        login,
        ..Script::default()
    });
    let limits = Limits {
        auth: Duration::from_secs(1),
        ..LIMITS
    };
    all(limits, &scripts, Mode::Write, |number, login, report| {
        let (what, _) = plays[number];
        let error = report.expect_err(what);
        assert_eq!(
            error.stage(),
            Stage::Authentication,
            "{what}, {login:?}: {error:?}"
        );
        let named = matches!(
            error,
            Error::TimedOut { .. }
                | Error::AuthRefused { .. }
                | Error::Disconnected { .. }
                | Error::Protocol { .. }
                | Error::KeyFile { .. }
        );
        assert!(named, "{what}, {login:?}: {error:?}");
        println!("{what}, {login:?}: {error}");
    });
}

#[test]
fn who_refuses_for_ever_is_not_asked_for_ever() {
    let kit = Kit::new();
    for login in kit.logins() {
        let server = Server::start(
            &[3],
            Script {
                login: |line, _| line.send(&refusal("publickey", true)).map(|()| true),
                ..Script::default()
            },
        )
        .unwrap();
        kit.place(&server, login.clone(), Mode::Verify).unwrap_err();
        assert!(server.logins() <= 4, "{login:?} asked {} times", server.logins());
        assert_eq!(server.connections(), 1, "{login:?}");
    }
}

/// A node that shows one key at first and another later, within one run.
#[test]
fn another_host_key_at_the_second_connection_ends_it() {
    let kit = Kit::new();
    for login in kit.logins() {
        let server = Server::start(&[3, 4], Script::default()).unwrap();
        let report = kit.place(&server, login.clone(), Mode::Write).unwrap();
        assert!(report.files.iter().all(Result::is_ok), "{login:?}: {report:?}");
        match kit.place(&server, login.clone(), Mode::Write) {
            Err(Error::HostKey { verdict, .. }) if matches!(*verdict, Verdict::Changed { .. }) => {}
            other => panic!("{login:?}: {other:?}"),
        }
        // and nothing was told to whoever that was
        assert_eq!(server.connections(), 2);
    }
}

/// libssh2 keeps what it is not waiting for, so a session of it has a bound on what it takes.
#[test]
fn what_nobody_asked_for_ends_a_session_before_it_fills_the_memory() {
    let mut kit = Kit::new();
    kit.limits.auth = Duration::from_secs(60);
    kit.limits.total = Duration::from_secs(90);
    let script = Script {
        login: |line, _| line.endless(&banner(&[b'b'; 30_000])).map(|()| true),
        ..Script::default()
    };
    let server = Server::start(&[3], script).unwrap();
    let [libssh2, _] = kit.logins();
    let memory = resident();
    let error = kit.place(&server, libssh2, Mode::Verify).unwrap_err();
    let grown = resident().saturating_sub(memory);
    assert!(error.to_string().contains("nobody asked for"), "{error}");
    assert!(grown < MAX_GROWTH, "{grown} KiB more");
}
