//! Every key of the Go service's file, and ours.

/// What becomes of a key the file may hold at its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Read here.
    Used,
    /// Accepted; the function behind it comes with a later version.
    Later,
    /// Accepted; it steers a step that does not exist in mtk.
    NotNeeded,
    /// A map whose keys have fates of their own.
    Section(&'static [(&'static str, Fate)]),
    /// A map from names the site chooses.
    Named(&'static [(&'static str, Fate)]),
}

use Fate::{Later, Named, NotNeeded, Section, Used};

pub(crate) const TOP: &[(&str, Fate)] = &[
    ("experiments", Used),
    ("keytabPath", Used),
    ("kerberosPrincipalPattern", Used),
    ("vaultServer", Used),
    ("condorCollectorHost", Used),
    ("condorScheddConstraint", Used),
    ("condorCreddHost", Used),
    ("defaultRoleFileDestinationTemplate", Used),
    ("fileCopierOptions", Used),
    ("sshOptions", Used),
    ("minTokenLifetime", Used),
    ("dbLocation", Used),
    ("disableNotifications", Used),
    ("timeouts", Section(TIMEOUTS)),
    ("workerType", Section(WORKER_TYPES)),
    ("mtk", Section(MTK)),
    ("serviceCreddVaultTokenPathRoot", NotNeeded),
    ("pingOptions", Later),
    ("devEnvironmentLabel", Later),
    ("errorCountToSendMessage", Later),
    (
        "email",
        Section(&[("from", Later), ("smtpHost", Later), ("smtpPort", Later)]),
    ),
    ("notifications", Section(NOTIFICATIONS)),
    ("notifications_test", Section(NOTIFICATIONS)),
    ("logs", Named(&[("logfile", Later), ("debugfile", Later)])),
    ("prometheus", Section(&[("host", Later), ("jobname", Later)])),
    (
        "loki",
        Section(&[("host", Later), ("response_header_timeout", Later)]),
    ),
    ("tracing", Section(&[("url", Later)])),
    ("ferry", Section(FERRY)),
];

const NOTIFICATIONS: &[(&str, Fate)] = &[("SLACK_ALERTS_URL", Later), ("admin_email", Later)];

const FERRY: &[(&str, Fate)] = &[
    ("host", Later),
    ("port", Later),
    ("caPath", Later),
    ("hostCert", Later),
    ("hostKey", Later),
    ("serviceExperiment", Later),
    ("serviceRole", Later),
    ("serviceKerberosPrincipal", Later),
    ("serviceKeytabPath", Later),
    ("vaultServer", Later),
];

/// The Go service takes each with or without the word timeout at its end.
pub(crate) const TIMEOUTS: &[(&str, Fate)] = &[
    ("globalTimeout", Used),
    ("kerberosTimeout", Used),
    ("vaultStorerTimeout", Used),
    ("pingTimeout", Used),
    ("pushTimeout", Used),
    ("ferryRequestTimeout", Later),
    ("dbTimeout", NotNeeded),
    ("global", Used),
    ("kerberos", Used),
    ("vaultStorer", Used),
    ("ping", Used),
    ("push", Used),
    ("ferryRequest", Later),
    ("db", NotNeeded),
];

pub(crate) const RETRY: &[(&str, Fate)] = &[("numRetries", Used), ("retrySleep", Used)];

pub(crate) const WORKER_TYPES: &[(&str, Fate)] = &[
    ("getKerberosTickets", Section(RETRY)),
    ("getToken", Section(RETRY)),
    ("storeAndGetToken", Section(RETRY)),
    ("pushTokens", Section(RETRY)),
    (
        "pingAggregator",
        Section(&[("numRetries", Later), ("retrySleep", Later)]),
    ),
    // in the sample file, though the Go service itself no longer reads it
    (
        "storeAndGetTokenInteractive",
        Section(&[("numRetries", NotNeeded), ("retrySleep", NotNeeded)]),
    ),
];

/// Our additions, all below one key.
pub(crate) const MTK: &[(&str, Fate)] = &[
    ("stateDirectory", Used),
    ("consentLifetime", Used),
    ("credd", Section(&[("renewBefore", Used)])),
    ("node", Section(&[("tokenLifetime", Used)])),
    (
        "limits",
        Section(&[
            ("vaultConcurrency", Used),
            ("creddConcurrency", Used),
            ("nodeConcurrency", Used),
            ("perNode", Used),
        ]),
    ),
    (
        "vault",
        Section(&[
            ("caFile", Used),
            ("caDir", Used),
            ("alias", Used),
            ("certificateName", Used),
            ("crl", Used),
            (
                "quota",
                Section(&[
                    ("requests", Used),
                    ("window", Used),
                    ("block", Used),
                    ("share", Used),
                ]),
            ),
        ]),
    ),
    (
        "ssh",
        Section(&[
            ("knownHosts", Used),
            ("identityFile", Used),
            ("identityFiles", Used),
            ("transport", Used),
        ]),
    ),
];

pub(crate) const EXPERIMENT: &[(&str, Fate)] =
    &[("emails", Later), ("experimentOverride", Used), ("roles", Used)];

/// What a role may say: its own keys, and `<key>Override` for what the file says for all.
pub(crate) const ROLE: &[(&str, Fate)] = &[
    ("account", Used),
    ("destinationNodes", Used),
    ("keytabPathOverride", Used),
    ("userPrincipalOverride", Used),
    ("kerberosPrincipalPatternOverride", Used),
    ("desiredUIDOverride", Used),
    ("vaultServerOverride", Used),
    ("condorCreddHostOverride", Used),
    ("condorCollectorHostOverride", Used),
    ("condorScheddConstraintOverride", Used),
    ("defaultRoleFileDestinationTemplateOverride", Used),
    ("fileCopierOptionsOverride", Used),
    ("sshOptionsOverride", Used),
    ("disableNotificationsOverride", Used),
    ("tokenGetterOverride", Used),
    ("pingOptionsOverride", Later),
    ("serviceCreddVaultTokenPathRootOverride", NotNeeded),
    // ours
    ("primary", Used),
    ("scopes", Used),
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
