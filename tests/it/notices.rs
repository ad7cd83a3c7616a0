//! Notices of failures: mail through a real Postfix, read from its mailboxes; Slack and a web hook by a recorder that takes
//! their place.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::site::{LDAP, VAULT};

use crate::{
    bed::{Ends, Stopped, bed},
    mtk::Operator,
    observers::Recorder,
};

/// STARTTLS is offered here,
const PORT: u16 = 2525;
/// not here,
const PLAIN: u16 = 2526;
/// and here under a name that the certificate does not have.
const OTHER_NAME: u16 = 2527;

/// The accounts that play the operators and the people of an experiment.
const OPERATORS: &str = "novapro";
const PEOPLE: &str = "mu2epro";

/// Debian's Postfix, with a certificate of the bed's CA.
struct Postfix {
    child: Option<Ends>,
}

impl Postfix {
    fn start() -> Self {
        let place = |path: &str| bed().layout().in_root(path);
        for dir in [
            "/etc/postfix-mtk",
            "/var/spool/postfix-mtk",
            "/var/lib/postfix-mtk",
        ] {
            fs::create_dir_all(place(dir)).unwrap();
        }
        let chowned = bed()
            .layout()
            .chroot("chown")
            .args(["postfix", "/var/lib/postfix-mtk"])
            .status();
        assert!(chowned.unwrap().success());
        let (certificate, key) = bed().layout().certificate("vault");
        fs::copy(certificate, place("/etc/postfix-mtk/cert.pem")).unwrap();
        fs::copy(key, place("/etc/postfix-mtk/key.pem")).unwrap();
        // unknown users are refused: their mailboxes are the accounts'
        fs::write(
            place("/etc/postfix-mtk/main.cf"),
            "compatibility_level = 3.6\nqueue_directory = /var/spool/postfix-mtk\ndata_directory = /var/lib/postfix-mtk\n\
             command_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\nmyhostname = mail.mtk.test\n\
             mydestination = mtk.test\ninet_interfaces = 127.0.0.1\nmynetworks = 127.0.0.0/8\nalias_maps =\n\
             alias_database =\nmaillog_file = /var/log/postfix-mtk.log\nsmtpd_tls_security_level = may\n\
             smtpd_tls_cert_file = /etc/postfix-mtk/cert.pem\nsmtpd_tls_key_file = /etc/postfix-mtk/key.pem\n\
             smtpd_tls_received_header = yes\n",
        )
        .unwrap();
        let services = fs::read_to_string(place("/etc/postfix/master.cf")).unwrap();
        let own: String = services
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("smtp  "))
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    // outside their own little root: there is no name service in it
                    [name, kind, private, unprivileged, _, rest @ ..] if !line.starts_with(' ') => {
                        format!("{name} {kind} {private} {unprivileged} n {}\n", rest.join(" "))
                    }
                    _ => format!("{line}\n"),
                }
            })
            .collect();
        let (vault, ldap) = (VAULT.address, LDAP.address);
        let listening = format!(
            "{vault}:{PORT} inet n - n - - smtpd\n{ldap}:{OTHER_NAME} inet n - n - - smtpd\n\
             {vault}:{PLAIN} inet n - n - - smtpd -o smtpd_tls_security_level=none\n"
        );
        fs::write(place("/etc/postfix-mtk/master.cf"), listening + &own).unwrap();
        let mut command = bed().layout().chroot("postfix");
        command.args(["-c", "/etc/postfix-mtk", "start-fg"]);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let postfix = Self {
            child: Some(Ends(command.spawn().unwrap())),
        };
        let until = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect((vault, PORT)).is_err() {
            assert!(Instant::now() < until, "Postfix does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
        for account in [OPERATORS, PEOPLE] {
            let _ = fs::remove_file(mailbox(account));
        }
        postfix
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let mut stop = bed().layout().chroot("postfix");
        let _ = stop.args(["-c", "/etc/postfix-mtk", "stop"]).output();
        self.child.take();
        for account in [OPERATORS, PEOPLE] {
            let _ = fs::remove_file(mailbox(account));
        }
    }
}

fn mailbox(account: &str) -> PathBuf {
    bed().layout().in_root(format!("/var/mail/{account}"))
}

/// The mails of an account, once there are so many.
#[track_caller]
fn mails(account: &str, count: usize) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(mailbox(account)).unwrap_or_default();
        let all: Vec<String> = format!("\n{text}").split("\nFrom ").skip(1).map(plain).collect();
        // the queue is empty once nothing more comes: a mail more would be seen by the next look
        if all.len() >= count {
            assert_eq!(all.len(), count, "{all:#?}");
            return all;
        }
        assert!(
            Instant::now() < until,
            "{} of {count} mails came: {all:#?}",
            all.len()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Quoted-printable, undone as far as it is of use here.
fn plain(mail: &str) -> String {
    mail.replace("=\n", "").replace("=3D", "=")
}

/// The bed's site with people who want to know, and more keys.
fn operator(mail: &str, receivers: &str, ours: &str) -> Operator {
    let text = fs::read_to_string(bed().dir.join("managedTokens.yml")).unwrap();
    let text = text
        .replace("disableNotifications: true\n", "")
        .replacen(
            "emails: [operators@mtk.test]",
            &format!("emails: [nobody-here@mtk.test, {PEOPLE}@mtk.test]"),
            1,
        )
        .replace("emails: [operators@mtk.test]", "emails: []");
    Operator::with(&text.replace(
        "experiments:\n",
        &format!(
            "email: {{from: mtk@mtk.test, {mail}}}\nnotifications: {{admin_email: '{OPERATORS}@mtk.test', {receivers}}}\n\
             {ours}experiments:\n"
        ),
    ))
}

/// One of the services that have this name at HTCondor.
const ONE: [&str; 4] = ["--experiment", "dune", "--role", "production"];

#[test]
fn a_failure_is_told_after_three_runs_and_once_and_so_is_its_end() {
    let _postfix = Postfix::start();
    let (slack, hook) = (Recorder::new(), Recorder::new());
    let operator = operator(
        &format!("smtpHost: {}, smtpPort: {PORT}", VAULT.name),
        &format!("SLACK_ALERTS_URL: '{}/services/T0/B0/s3cret'", slack.address),
        &format!(
            "mtk: {{notify: {{webhook: '{}/hook', webhookTokenFile: '@TOKEN@'}}}}\n",
            hook.address
        ),
    );
    let token = operator.path().join("hook-token");
    fs::write(&token, "t0ken\n").unwrap();
    let config = fs::read_to_string(&operator.config).unwrap();
    fs::write(
        &operator.config,
        config.replace("@TOKEN@", token.to_str().unwrap()),
    )
    .unwrap();
    let shown = operator.mtk(&["config", "show"]).stdout;
    assert!(
        !shown.contains("s3cret") && shown.contains(&format!("{}/***", slack.address)),
        "{shown}"
    );

    operator.run(&ONE).all(&["done", "fresh"]);
    let node = Stopped::server("both");
    operator.run(&ONE);
    operator.run(&ONE);
    assert!(slack.is_silent() && hook.is_silent() && !mailbox(OPERATORS).exists());
    assert_eq!(
        operator.run(&[&ONE[..], &["--dont-notify"]].concat()).ran.code,
        Some(1)
    );
    assert!(slack.is_silent() && !mailbox(OPERATORS).exists());
    let told = operator.run(&ONE);
    assert_eq!(told.ran.code, Some(1));
    let trace = told.json["trace_id"].as_str().unwrap();
    let mail = &mails(OPERATORS, 1)[0];
    for part in [
        "Subject: [mtk test] notice: 1 new",
        "push to node both.mtk.test",
        "failed 4 times in a row",
        "ends in 6d",
        trace,
        "X-Mtk-Trace-Id: ",
        "Auto-Submitted: auto-generated",
        // the Go service's way: TLS where the server has it
        "using TLSv1.",
    ] {
        assert!(mail.contains(part), "no {part:?} in {mail}");
    }
    // one of the addresses is nobody's, and the other gets it all the same
    let mail = &mails(PEOPLE, 1)[0];
    assert!(
        mail.contains("managed tokens] dune: 1 new") && mail.contains("both.mtk.test"),
        "{mail}"
    );
    let said: Value = serde_json::from_slice(&slack.next().body).unwrap();
    assert!(
        said["text"]
            .as_str()
            .unwrap()
            .contains("*dune_production* push to node both.mtk.test"),
        "{said}"
    );
    let posted = hook.next();
    assert_eq!(
        (posted.path.as_str(), posted.authorization.as_deref()),
        ("/hook", Some("Bearer t0ken"))
    );
    let said: Value = serde_json::from_slice(&posted.body).unwrap();
    let problem = &said["problems"][0];
    assert_eq!(
        (
            &problem["place"],
            &problem["why"],
            &problem["failures"],
            &said["trace_id"]
        ),
        (&"both.mtk.test".into(), &"new".into(), &4.into(), &trace.into()),
        "{said}"
    );

    operator.run(&ONE);
    assert!(slack.is_silent() && hook.is_silent(), "told twice");
    let remembered = operator.mtk(&["notify", "show"]).stdout;
    assert!(
        remembered.contains("admins: push/dune/production/both.mtk.test"),
        "{remembered}"
    );
    drop(node);
    operator.run(&ONE).all(&["done", "fresh"]);
    let mail = &mails(OPERATORS, 2)[1];
    assert!(
        mail.contains("well: 1 well again") && mail.contains("push to node both.mtk.test"),
        "{mail}"
    );
    mails(PEOPLE, 2);
    let said: Value = serde_json::from_slice(&slack.next().body).unwrap();
    assert!(said["text"].as_str().unwrap().contains("well again"), "{said}");
    assert_eq!(
        serde_json::from_slice::<Value>(&hook.next().body).unwrap()["recovered"][0]["place"],
        "both.mtk.test"
    );
    let remembered = operator.mtk(&["notify", "show"]).stdout;
    assert!(remembered.contains("nobody was told"), "{remembered}");
}

#[test]
fn a_service_that_is_not_set_up_is_told_and_nobody_who_listens_badly_matters() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let garbage = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, noise) = (silent.local_addr().unwrap(), garbage.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in garbage.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&[0xff; 4096]);
        }
    });
    let operator = operator(
        &format!("smtpHost: 127.0.0.1, smtpPort: {}", at.port()),
        &format!("SLACK_ALERTS_URL: 'http://{noise}/s3cret'"),
        &format!(
            "mtk: {{notify: {{webhook: 'http://{at}/s3cret', timeout: 2s, templates: '@DIR@'}}, email: {{tls: auto}}}}\n"
        ),
    );
    let templates = operator.path().join("templates");
    let made = operator.mtk(&["notify", "templates", templates.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    fs::write(
        templates.join("admins.txt"),
        "Subject: ours {{ severity }}\n{{ nothing_like_it }}\n",
    )
    .unwrap();
    let config = fs::read_to_string(&operator.config).unwrap();
    let config = config.replace("@DIR@", templates.to_str().unwrap()).replacen(
        "account: novapro",
        "acount: novapro",
        1,
    );
    fs::write(&operator.config, &config).unwrap();

    let report = operator.run(&[]);
    // all but the service that is broken is fresh, and nothing was waited for beyond its time
    assert_eq!(report.failed().len(), 1, "{:#?}", report.failed());
    let after = report.ran.took.as_secs_f64() - report.json["seconds"].as_f64().unwrap();
    assert!(after < 20.0, "{after}");
    for part in [
        "did not take it",
        "Slack at http://127.0.0.1",
        "the web hook at http://127.0.0.1",
    ] {
        assert!(
            report.ran.stderr.contains(part),
            "no {part:?}: {}",
            report.ran.stderr
        );
    }
    assert!(!report.ran.stderr.contains("s3cret"), "{}", report.ran.stderr);

    // where it is heard, the next run tells: in plain mail, by the built-in template if the site's does not work
    let _postfix = Postfix::start();
    let to = |port: u16, host: &str, tls: &str| {
        let config = config
            .replace(
                &format!("smtpHost: 127.0.0.1, smtpPort: {}", at.port()),
                &format!("smtpHost: {host}, smtpPort: {port}"),
            )
            .replace("tls: auto", &format!("tls: {tls}"));
        fs::write(&operator.config, config).unwrap();
    };
    // no way is taken that is less than what was asked for
    for (port, host, tls) in [(PLAIN, VAULT.name, "starttls"), (OTHER_NAME, LDAP.name, "auto")] {
        to(port, host, tls);
        let test = operator.mtk(&["notify", "test"]);
        assert_eq!(test.code, Some(1), "{}", test.stdout);
        let line = test.stdout.lines().find(|l| l.contains("mail to")).unwrap();
        assert!(line.starts_with("FAILED"), "{tls} at {host}: {line}");
    }
    to(PLAIN, VAULT.name, "auto");
    let report = operator.run(&["--no-verify"]);
    assert!(
        report.ran.stderr.contains("admins.txt does not work"),
        "{}",
        report.ran.stderr
    );
    let mail = &mails(OPERATORS, 1)[0];
    assert!(
        mail.contains("nova_production") && mail.contains("cannot be set up") && mail.contains("acount"),
        "{mail}"
    );
    assert!(!mail.contains("using TLS"), "{mail}");
    assert!(!mailbox(PEOPLE).exists(), "it is none of dune's");

    fs::write(
        templates.join("admins.txt"),
        "Subject: ours {{ severity }}\nRun {{ trace_id }}: {{ services[0].name }}\n",
    )
    .unwrap();
    to(PORT, VAULT.name, "starttls");
    fs::write(
        &operator.config,
        fs::read_to_string(&operator.config)
            .unwrap()
            .replace("notify: {", "notify: {remindEvery: 1s, "),
    )
    .unwrap();
    operator.run(&["--no-verify"]);
    let mail = &mails(OPERATORS, 2)[1];
    assert!(
        mail.contains("Subject: ours warning") && mail.contains(": nova_production"),
        "{mail}"
    );
    assert!(mail.contains("using TLSv1."), "{mail}");
    drop(silent);
}
