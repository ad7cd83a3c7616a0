//! Keys of the Go service.

use super::{
    CONDOR,
    Fate::{Named, NotNeeded, Used},
    Form, Key, MTK, OUTPUT, key, section,
};

const NO_PING: &str = "nodes are not pinged: the SSH connection itself shows whether one is there";
const NO_STAGING: &str = "no token lies in a file on its way to a credd";

pub(crate) const TOP: &[Key] = &[
    key(
        "vaultServer",
        Used,
        Form::Text,
        "Vault: host, host:port or https://...",
    ),
    key(
        "kerberosPrincipalPattern",
        Used,
        Form::Template,
        "the robots' principals, realm included: {{.Account}}/managedtokens/<host>@<REALM>",
    ),
    key(
        "keytabPath",
        Used,
        Form::Path,
        "directory with <account>.keytab (/opt/managed-tokens/keytabs)",
    ),
    key(
        "condorCollectorHost",
        Used,
        Form::List,
        "collectors, asked in this order",
    ),
    key(
        "condorScheddConstraint",
        Used,
        Form::Text,
        "ClassAd expression: which schedds count",
    ),
    key(
        "condorCreddHost",
        Used,
        Form::List,
        "credds to store in, instead of asking a collector",
    ),
    key(
        "defaultRoleFileDestinationTemplate",
        Used,
        Form::Template,
        "where the default-role file goes (/tmp/default_role_{{.Experiment}}_{{.DesiredUID}})",
    ),
    key(
        "fileCopierOptions",
        Used,
        Form::Text,
        "rsync's options: --chmod gives the mode of files on nodes, --chown is for the account itself",
    ),
    key("sshOptions", Used, Form::Text, "options of ssh, as -o Name=value"),
    key("pingOptions", NotNeeded(NO_PING), Form::Text, "options of ping"),
    key(
        "serviceCreddVaultTokenPathRoot",
        NotNeeded(NO_STAGING),
        Form::Path,
        "where the Go service keeps a Vault token for each credd",
    ),
    key(
        "minTokenLifetime",
        Used,
        Form::Span,
        "a token on a node is renewed when less is left (3d)",
    ),
    key(
        "dbLocation",
        Used,
        Form::Path,
        "the Go service's database; UIDs are read from it (/var/lib/managed-tokens/uid.db)",
    ),
    key(
        "devEnvironmentLabel",
        Used,
        Form::Text,
        "what this installation is called in metrics and logs (production)",
    ),
    key("disableNotifications", Used, Form::Truth, "notify nobody (false)"),
    key(
        "errorCountToSendMessage",
        Used,
        Form::Count,
        "notify after this many failures in a row (3)",
    ),
    section("timeouts", TIMEOUTS, "how long each step may take"),
    section("workerType", WORKER_TYPES, "how often each step is tried again"),
    section("ferry", FERRY, "where UIDs are looked up"),
    section(
        "email",
        &[
            key("from", Used, Form::Text, "sender"),
            key(
                "smtpHost",
                Used,
                Form::Text,
                "mail server; without it nobody gets mail",
            ),
            key("smtpPort", Used, Form::Count, "its port (25)"),
        ],
        "how mail is sent",
    ),
    section("notifications", NOTIFICATIONS, "who is told"),
    section("notifications_test", NOTIFICATIONS, "who is told in test runs"),
    key(
        "logs",
        Named(&[
            key("logfile", Used, Form::Path, "log file"),
            key("debugfile", Used, Form::Path, "log file with everything"),
        ]),
        Form::Map,
        "log files of each executable",
    ),
    section(
        "prometheus",
        &[
            key(
                "host",
                Used,
                Form::Text,
                "Pushgateway that is told after each run",
            ),
            key("jobname", Used, Form::Text, "job the metrics are pushed under"),
        ],
        "metrics",
    ),
    section(
        "loki",
        &[
            key("host", Used, Form::Text, "Loki's address"),
            key(
                "response_header_timeout",
                Used,
                Form::Span,
                "how long it may take to answer",
            ),
        ],
        "logs to Loki",
    ),
    section(
        "tracing",
        &[key("url", Used, Form::Text, "receiver of traces (OTLP)")],
        "traces",
    ),
    section("mtk", MTK, "keys of mtk; the Go service ignores them"),
    key(
        "experiments",
        Used,
        Form::Map,
        "the services: experiments and their roles",
    ),
    key(
        "$schema",
        NotNeeded("it is for editors"),
        Form::Text,
        "where an editor finds the schema of this file",
    ),
];

const NOTIFICATIONS: &[Key] = &[
    key(
        "SLACK_ALERTS_URL",
        Used,
        Form::Text,
        "web hook of Slack; it is a secret",
    ),
    key("admin_email", Used, Form::List, "operators' addresses"),
];

const FERRY: &[Key] = &[
    key("host", Used, Form::Text, "FERRY's host"),
    key("port", Used, Form::Count, "its port"),
    key("caPath", Used, Form::Path, "directory of CA certificates"),
    key("hostCert", Used, Form::Path, "certificate of this host"),
    key("hostKey", Used, Form::Path, "its key"),
    key(
        "serviceExperiment",
        Used,
        Form::Text,
        "experiment whose token opens FERRY",
    ),
    key("serviceRole", Used, Form::Text, "role whose token opens FERRY"),
    key(
        "serviceKerberosPrincipal",
        Used,
        Form::Text,
        "principal of that role",
    ),
    key("serviceKeytabPath", Used, Form::Path, "its keytab"),
    key(
        "vaultServer",
        Used,
        Form::Text,
        "Vault that role's token comes from",
    ),
];

/// The Go service takes each with or without the word timeout at its end.
const TIMEOUTS: &[Key] = &[
    key("globalTimeout", Used, Form::Span, "the whole run (300s)"),
    key("kerberosTimeout", Used, Form::Span, "getting a ticket (20s)"),
    key(
        "vaultStorerTimeout",
        Used,
        Form::Span,
        "getting a token from Vault and storing it in one credd (60s)",
    ),
    key(
        "pingTimeout",
        Used,
        Form::Span,
        "seeing whether a node is there (10s)",
    ),
    key(
        "pushTimeout",
        Used,
        Form::Span,
        "all files of one service to one node (30s)",
    ),
    key(
        "ferryRequestTimeout",
        Used,
        Form::Span,
        "one question to FERRY (30s)",
    ),
    key(
        "dbTimeout",
        NotNeeded(DB),
        Form::Span,
        "one access to the Go service's database",
    ),
    key("global", Used, Form::Span, "as globalTimeout"),
    key("kerberos", Used, Form::Span, "as kerberosTimeout"),
    key("vaultStorer", Used, Form::Span, "as vaultStorerTimeout"),
    key("ping", Used, Form::Span, "as pingTimeout"),
    key("push", Used, Form::Span, "as pushTimeout"),
    key("ferryRequest", Used, Form::Span, "as ferryRequestTimeout"),
    key("db", NotNeeded(DB), Form::Span, "as dbTimeout"),
];

const DB: &str = "that database is only read, and mtk's own is a local file";

const RETRY: &[Key] = &[
    key("numRetries", Used, Form::Count, "tries after the first (0)"),
    key("retrySleep", Used, Form::Span, "pause before each (0s)"),
];

const WORKER_TYPES: &[Key] = &[
    section("getKerberosTickets", RETRY, "getting tickets"),
    section(
        "getToken",
        RETRY,
        "getting tokens from Vault where nothing is stored",
    ),
    section(
        "storeAndGetToken",
        RETRY,
        "getting tokens from Vault and storing them in credds",
    ),
    section("pushTokens", RETRY, "bringing files to nodes"),
    section(
        "pingAggregator",
        &[
            key(
                "numRetries",
                NotNeeded(NO_PING),
                Form::Count,
                "tries after the first",
            ),
            key("retrySleep", NotNeeded(NO_PING), Form::Span, "pause before each"),
        ],
        "pinging nodes",
    ),
    // in the sample file, though the Go service itself no longer reads it
    section(
        "storeAndGetTokenInteractive",
        &[
            key(
                "numRetries",
                NotNeeded(ONBOARDING),
                Form::Count,
                "tries after the first",
            ),
            key(
                "retrySleep",
                NotNeeded(ONBOARDING),
                Form::Span,
                "pause before each",
            ),
        ],
        "the Go service's onboarding",
    ),
];

const ONBOARDING: &str = "mtk onboard waits for a person, not for a retry";

pub(crate) const EXPERIMENT: &[Key] = &[
    key(
        "emails",
        Used,
        Form::List,
        "people of the experiment who are told of failures",
    ),
    key(
        "experimentOverride",
        Used,
        Form::Text,
        "the experiment's name at HTCondor and Vault, if it is another one",
    ),
    section(
        "condor",
        CONDOR,
        "how its robots prove themselves to credds; before mtk.condor (mtk)",
    ),
    key("roles", Used, Form::Map, "its roles"),
    key(
        "outputs",
        Named(OUTPUT),
        Form::Map,
        "what each of its services gives out beside the files of the Go service, by a name of the site's choice",
    ),
];

/// What a role may say: its own keys, and `<key>Override` for what the file says for all.
pub(crate) const ROLE: &[Key] = &[
    key(
        "account",
        Used,
        Form::Text,
        "the UNIX account on the nodes, which is the HTCondor user",
    ),
    key(
        "destinationNodes",
        Used,
        Form::List,
        "nodes that get this role's files",
    ),
    section(
        "condor",
        CONDOR,
        "how its robot proves itself to credds; before the experiment's and mtk.condor (mtk)",
    ),
    key(
        "primary",
        Used,
        Form::Truth,
        "this role owns files that several roles of the account want (mtk)",
    ),
    key(
        "scopes",
        Used,
        Form::List,
        "what its bearer tokens must carry (mtk)",
    ),
    key(
        "desiredUIDOverride",
        Used,
        Form::Count,
        "the account's UID on the nodes",
    ),
    key(
        "userPrincipalOverride",
        Used,
        Form::Text,
        "the principal itself, realm included",
    ),
    key(
        "kerberosPrincipalPatternOverride",
        Used,
        Form::Template,
        "the principal, instead of kerberosPrincipalPattern",
    ),
    key("keytabPathOverride", Used, Form::Path, "the keytab itself"),
    key("vaultServerOverride", Used, Form::Text, "instead of vaultServer"),
    key(
        "condorCollectorHostOverride",
        Used,
        Form::List,
        "instead of condorCollectorHost",
    ),
    key(
        "condorScheddConstraintOverride",
        Used,
        Form::Text,
        "instead of condorScheddConstraint",
    ),
    key(
        "condorCreddHostOverride",
        Used,
        Form::List,
        "instead of condorCreddHost",
    ),
    key(
        "defaultRoleFileDestinationTemplateOverride",
        Used,
        Form::Template,
        "instead of defaultRoleFileDestinationTemplate",
    ),
    key(
        "fileCopierOptionsOverride",
        Used,
        Form::Text,
        "instead of fileCopierOptions",
    ),
    key("sshOptionsOverride", Used, Form::Text, "instead of sshOptions"),
    key(
        "pingOptionsOverride",
        NotNeeded(NO_PING),
        Form::Text,
        "instead of pingOptions",
    ),
    key(
        "disableNotificationsOverride",
        Used,
        Form::Truth,
        "instead of disableNotifications",
    ),
    key(
        "tokenGetterOverride",
        Used,
        Form::Choice(&["storeAndGetToken", "getToken"]),
        "getToken: nothing is stored in credds",
    ),
    key(
        "serviceCreddVaultTokenPathRootOverride",
        NotNeeded(NO_STAGING),
        Form::Path,
        "instead of serviceCreddVaultTokenPathRoot",
    ),
    key(
        "outputs",
        Named(OUTPUT),
        Form::Map,
        "what it gives out beside the files of the Go service, by a name of the site's choice",
    ),
];

/// Flags of the Go service's executables, which viper would read from the file as well.
pub(crate) const FLAGS: &[&str] = &[
    "admin",
    "authmethod",
    "configfile",
    "disable-notifications",
    "dont-notify",
    "experiment",
    "list-services",
    "no-loki",
    "push-tokens",
    "run-onboarding",
    "service",
    "test",
    "verbose",
    "version",
];

/// Keys of the Go service that nothing reads.
pub(crate) const DEAD: &[&str] = &["collectorHost", "htgettokenopts", "ORIG_HTGETTOKENOPTS"];
