//! Keys of mtk, all optional, below `mtk`.

use super::{
    Fate::{Named, Used},
    Form, Key, key, section,
};

pub(crate) const MTK: &[Key] = &[
    key(
        "stateDirectory",
        Used,
        Form::Path,
        "where mtk remembers what it did; /var/lib/mtk without it",
    ),
    key(
        "consentLifetime",
        Used,
        Form::Span,
        "how long a consent given with mtk onboard lasts at the issuer; no server tells it",
    ),
    section(
        "audit",
        &[
            key(
                "enabled",
                Used,
                Form::Truth,
                "write down what is done with credentials (true)",
            ),
            key(
                "file",
                Used,
                Form::Path,
                "the audit log; audit.log in the state directory without it",
            ),
        ],
        "the audit log",
    ),
    section(
        "metrics",
        &[
            key(
                "textfile",
                Used,
                Form::Path,
                "file for node_exporter's textfile collector",
            ),
            key(
                "instance",
                Used,
                Form::Text,
                "our instance at the Pushgateway; the host's name without it",
            ),
            key(
                "timeout",
                Used,
                Form::Span,
                "how long the Pushgateway is waited for; 5s without it",
            ),
        ],
        "metrics of a run",
    ),
    section(
        "credd",
        &[key(
            "renewBefore",
            Used,
            Form::Span,
            "a credd's token is renewed when less is left (14d)",
        )],
        "tokens in credds",
    ),
    section(
        "node",
        &[key(
            "tokenLifetime",
            Used,
            Form::Span,
            "life of a token on a node, at most 1000000s (7d)",
        )],
        "tokens on nodes",
    ),
    section("condor", CONDOR, "how robots prove themselves to credds"),
    section(
        "uids",
        &[
            key(
                "order",
                Used,
                Form::List,
                "where UIDs are looked for that the file does not say: ferry, go, nss, in this order",
            ),
            key("map", Used, Form::Map, "UIDs by account"),
        ],
        "UIDs of accounts on the nodes",
    ),
    key(
        "outputs",
        Named(OUTPUT),
        Form::Map,
        "what every service gives out beside the files of the Go service, by a name of the site's choice",
    ),
    section("email", EMAIL, "how mail is sent, beside email"),
    section("notify", NOTIFY, "who is told of what, and when"),
    section("limits", LIMITS, "how much runs at once"),
    section("vault", VAULT, "how Vault is recognised, and how much it takes"),
    section("ssh", SSH, "how nodes are reached"),
];

/// For all below `mtk`, and in an experiment or a role.
pub(crate) const CONDOR: &[Key] = &[
    key(
        "methods",
        Used,
        Form::List,
        "methods to offer, of KERBEROS, SCITOKENS, TOKEN, SSL (all of these), FS, CLAIMTOBE, ANONYMOUS",
    ),
    key(
        "caFile",
        Used,
        Form::Path,
        "CA certificates of daemons, for SSL and SCITOKENS, beside the system's",
    ),
    key("caDir", Used, Form::Path, "directory of such"),
    key(
        "certificate",
        Used,
        Form::Path,
        "client certificate for SSL, as PEM",
    ),
    key("key", Used, Form::Path, "its key, if it is not in the same file"),
    key(
        "tokenDirectory",
        Used,
        Form::Path,
        "directory of tokens of the pool (IDTOKENS), for TOKEN",
    ),
    key(
        "bearerTokenFile",
        Used,
        Form::Path,
        "file of a bearer token, for SCITOKENS",
    ),
    key(
        "superUser",
        Used,
        Form::Text,
        "the HTCondor user the robot is, if it stores for the account (CRED_SUPER_USERS of the credds)",
    ),
    key(
        "superUserPrincipal",
        Used,
        Form::Text,
        "principal of that user, realm included, if it is not the service's own",
    ),
    key("superUserKeytab", Used, Form::Path, "keytab of that principal"),
];

const EMAIL: &[Key] = &[
    key(
        "tls",
        Used,
        Form::Choice(&["auto", "plain", "starttls", "tls"]),
        "auto: STARTTLS where the server offers it; starttls: or nothing is sent; tls: from the first byte (auto)",
    ),
    key("username", Used, Form::Text, "whom the mail server knows us as"),
    key("passwordFile", Used, Form::Path, "file with its password"),
];

const NOTIFY: &[Key] = &[
    key(
        "remindEvery",
        Used,
        Form::Span,
        "what was told and still fails is told again after so long (1d)",
    ),
    key(
        "warnBelow",
        Used,
        Form::Span,
        "what fails is a warning when less than this is left of what lies there (3d)",
    ),
    key(
        "criticalBelow",
        Used,
        Form::Span,
        "and critical when less than this is left (1d)",
    ),
    key(
        "quietHours",
        Used,
        Form::Text,
        "hours in which only what is critical is told, by this host's clock: 22:00-07:00",
    ),
    key(
        "stakeholders",
        Used,
        Form::Choice(&["relevant", "all", "none"]),
        "what people of an experiment are told: of their nodes and of what ends soon, everything, nothing (relevant)",
    ),
    key(
        "templates",
        Used,
        Form::Path,
        "directory of templates that stand in for the built-in ones",
    ),
    key(
        "slackUrlFile",
        Used,
        Form::Path,
        "file with the web hook of Slack, instead of SLACK_ALERTS_URL",
    ),
    key(
        "webhook",
        Used,
        Form::Text,
        "address that gets every notice as JSON",
    ),
    key(
        "webhookTokenFile",
        Used,
        Form::Path,
        "file with the bearer token for it",
    ),
    key(
        "timeout",
        Used,
        Form::Span,
        "how long all of them together are waited for after a run (10s)",
    ),
];

const LIMITS: &[Key] = &[
    key(
        "vaultConcurrency",
        Used,
        Form::Count,
        "requests under way at Vault (8)",
    ),
    key(
        "creddConcurrency",
        Used,
        Form::Count,
        "sessions under way with credds (16)",
    ),
    key(
        "nodeConcurrency",
        Used,
        Form::Count,
        "sessions under way with nodes (32)",
    ),
    key(
        "perNode",
        Used,
        Form::Count,
        "sessions under way with one node (4); sshd drops some from 10 on",
    ),
];

const VAULT: &[Key] = &[
    key("caFile", Used, Form::Path, "CA certificates beside the system's"),
    key(
        "caDir",
        Used,
        Form::Path,
        "directory of CA certificates, as /etc/grid-security/certificates",
    ),
    key(
        "alias",
        Used,
        Form::Text,
        "name in Vault's Kerberos principal, if it is not the host's",
    ),
    key(
        "certificateName",
        Used,
        Form::Text,
        "name in Vault's certificate, if it is not the host's",
    ),
    key(
        "crl",
        Used,
        Form::Choice(&["off", "present", "required"]),
        "what is done with revocation lists in caDir (off)",
    ),
    key(
        "tokenPerCredd",
        Used,
        Form::Truth,
        "a login for each credd of a service, where one for all would do (false)",
    ),
    section(
        "quota",
        &[
            key(
                "requests",
                Used,
                Form::Count,
                "requests Vault takes from one address in a window (360)",
            ),
            key("window", Used, Form::Span, "the window (5m)"),
            key(
                "block",
                Used,
                Form::Span,
                "for how long Vault blocks who goes beyond it (5m)",
            ),
            key(
                "share",
                Used,
                Form::Count,
                "percent of the requests that are mtk's (95)",
            ),
        ],
        "Vault's rate limit, as its operators set it",
    ),
];

const SSH: &[Key] = &[
    key(
        "knownHosts",
        Used,
        Form::Paths,
        "files of host keys; they go before sshOptions",
    ),
    key("identityFile", Used, Form::Paths, "as identityFiles"),
    key(
        "identityFiles",
        Used,
        Form::Paths,
        "private keys to log in with; sshOptions go before",
    ),
    key(
        "transport",
        Used,
        Form::Choice(&["auto", "libssh2", "russh", "openssh"]),
        "which SSH speaks to nodes (auto)",
    ),
];

/// An output: of the site, an experiment or a role.
pub(crate) const OUTPUT: &[Key] = &[
    key(
        "content",
        Used,
        Form::Choice(&["vaultToken", "bearer", "file"]),
        "what it holds: the node's Vault token, a bearer token, or a file of this host made by somebody else",
    ),
    key("source", Used, Form::Path, "for content: file, which file"),
    key(
        "scopes",
        Used,
        Form::List,
        "for content: bearer, what it is to be good for; all the role may without it",
    ),
    key(
        "audiences",
        Used,
        Form::List,
        "for content: bearer, whom it is for; as the issuer has it without it",
    ),
    key(
        "minimumLifetime",
        Used,
        Form::Span,
        "it is renewed, or a warning given about its source, when less is left (80m for bearer tokens, else minTokenLifetime)",
    ),
    key(
        "to",
        Used,
        Form::Choice(&["nodes", "here", "command"]),
        "where it goes: files on nodes, a file of this host, a command's standard input (nodes)",
    ),
    key(
        "path",
        Used,
        Form::Template,
        "the file's path; /tmp/bt_u{{.DesiredUID}} for bearer tokens on nodes without it",
    ),
    key(
        "mode",
        Used,
        Form::Text,
        "the file's mode in octal digits: 0400, 0600, 0440 or 0640; as fileCopierOptions has it without it",
    ),
    key(
        "owner",
        Used,
        Form::Text,
        "for to: here, the user the file is to belong to; mtk's own without it",
    ),
    key(
        "nodes",
        Used,
        Form::List,
        "for to: nodes, which of the role's destinationNodes; all without it",
    ),
    key(
        "command",
        Used,
        Form::List,
        "for to: command, the program's whole path and its arguments, which no shell reads",
    ),
    key(
        "deadline",
        Used,
        Form::Span,
        "for to: command, how long it may take (30s)",
    ),
];
