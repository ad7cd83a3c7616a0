//! How long, how often, how much at once, and how Vault is recognised.

use std::time::Duration;

use super::{DAY, Plan, Shown, some_time};
use crate::{
    Crl, Limits, Origin, Retries, Retry, Timeouts, Vault, VaultQuota, duration,
    section::{self, Section},
    tree::Value,
};

impl<'t> Plan<'_, 't> {
    pub(super) fn timeouts(&mut self) -> Timeouts {
        let section = self.top.child("timeouts", self.report);
        let default = Timeouts::default();
        let mut one = |key: &str, default| {
            let short = key.trim_end_matches("Timeout");
            // the Go service strips the word, so both forms count
            let key = if section.get(key).is_none() && section.get(short).is_some() {
                short
            } else {
                key
            };
            self.span(&section, key, default)
        };
        let timeouts = Timeouts {
            global: one("globalTimeout", default.global),
            kerberos: one("kerberosTimeout", default.kerberos),
            vault_storer: one("vaultStorerTimeout", default.vault_storer),
            ping: one("pingTimeout", default.ping),
            push: one("pushTimeout", default.push),
        };
        let sum = timeouts.kerberos + timeouts.vault_storer + timeouts.ping + timeouts.push;
        if sum > timeouts.global {
            self.report.note(
                section.at(),
                "timeouts",
                format!(
                    "the steps' timeouts sum up to {}, more than globalTimeout {}",
                    duration::show(sum),
                    duration::show(timeouts.global)
                ),
                "fine here, where steps run side by side; the Go service would not start",
            );
        }
        timeouts
    }

    pub(super) fn retries(&mut self, timeouts: &Timeouts) -> Retries {
        let section = self.top.child("workerType", self.report);
        Retries {
            kerberos: self.retry(&section, "getKerberosTickets", timeouts.kerberos),
            get_token: self.retry(&section, "getToken", timeouts.vault_storer),
            store: self.retry(&section, "storeAndGetToken", timeouts.vault_storer),
            push: self.retry(&section, "pushTokens", timeouts.push),
        }
    }

    /// The Go service runs without any retry once pauses and timeout do not fit, as they do not in its own sample
    /// file; here the pause gives way.
    pub(super) fn retry(&mut self, types: &Section<'t>, step: &str, timeout: Duration) -> Retry {
        let section = types.child(step, self.report);
        let retries = self
            .value(&section, "numRetries", section::count)
            .unwrap_or_default();
        let pause = self
            .value(&section, "retrySleep", |v| section::span(v).map(Shown))
            .map_or(Duration::ZERO, |s| s.0);
        let retries = if retries > 100 {
            self.report.warn(
                section.at(),
                &section.path_of("numRetries"),
                "more than 100 tries are not made",
                "",
            );
            100
        } else {
            retries
        };
        if retries == 0 || pause.saturating_mul(retries) < timeout {
            return Retry { retries, pause };
        }
        let shorter = timeout / (retries + 1);
        self.report.warn(
            section.at(),
            &section.path_of("retrySleep"),
            format!(
                "{retries} pauses of {} do not fit into the step's timeout of {}: pauses are shortened to {}",
                duration::show(pause),
                duration::show(timeout),
                duration::show(shorter)
            ),
            "lengthen the timeout or shorten the pause; the Go service runs without any retry then",
        );
        Retry {
            retries,
            pause: shorter,
        }
    }

    /// Unset means that nobody said how long consents last.
    pub(super) fn consent_lifetime(&mut self, mtk: &Section<'t>) -> Option<Duration> {
        self.value(mtk, "consentLifetime", some_time).map(|shown| shown.0)
    }

    pub(super) fn node_token_lifetime(&mut self, mtk: &Section<'t>, minimum: Duration) -> Duration {
        let limit = Duration::from_secs(credential::NODE_TOKEN_LIMIT.unsigned_abs());
        let node = mtk.child("node", self.report);
        let at = node.get("tokenLifetime").map_or(node.at(), |e| e.node.at);
        let path = node.path_of("tokenLifetime");
        let mut life = self.span(&node, "tokenLifetime", DAY * 7);
        if life > limit {
            let message = format!(
                "a Vault token in a file may live {} at the most",
                duration::show(limit)
            );
            self.report
                .error(at, &path, message, "until this is right 7d holds");
            life = DAY * 7;
        }
        if minimum >= life {
            let message = format!(
                "a token that lives {} would always be below minTokenLifetime {} and renewed by every run",
                duration::show(life),
                duration::show(minimum)
            );
            self.report.error(at, &path, message, "lower minTokenLifetime");
        }
        life
    }

    pub(super) fn limits(&mut self, mtk: &Section<'t>) -> Limits {
        let section = mtk.child("limits", self.report);
        let default = Limits::default();
        let mut one = |key: &str, default: usize| {
            let read = |v: &Value| match section::count(v)? {
                0 => Err("it must not be zero".to_owned()),
                n => Ok(n),
            };
            match self.value(&section, key, read) {
                Some(n) => usize::try_from(n).unwrap_or(usize::MAX).min(10_000),
                None => {
                    self.keep(section.path_of(key), default.to_string(), Origin::Default);
                    default
                }
            }
        };
        let limits = Limits {
            vault_concurrency: one("vaultConcurrency", default.vault_concurrency),
            credd_concurrency: one("creddConcurrency", default.credd_concurrency),
            node_concurrency: one("nodeConcurrency", default.node_concurrency),
            per_node: one("perNode", default.per_node),
        };
        if limits.per_node >= 10 {
            self.report.warn(
                section.get("perNode").map_or(section.at(), |e| e.node.at),
                &section.path_of("perNode"),
                "sshd begins to drop connections at 10 that are not yet authenticated (MaxStartups 10:30:100)",
                "stay below, unless the nodes allow more",
            );
        }
        limits
    }

    pub(super) fn vault(&mut self, mtk: &Section<'t>) -> Vault {
        let section = mtk.child("vault", self.report);
        let quota = self.vault_quota(&section);
        let crl = self
            .value(&section, "crl", |v| match section::text(v)?.as_str() {
                // YAML 1.1 reads the word as a truth value
                "off" | "false" => Ok(Crl::Off),
                "present" => Ok(Crl::Present),
                "required" => Ok(Crl::Required),
                _ => Err("off, present or required is wanted".to_owned()),
            })
            .unwrap_or_default();
        let token_per_credd = self.value(&section, "tokenPerCredd", section::boolean);
        Vault {
            crl,
            quota,
            token_per_credd: token_per_credd.unwrap_or_default(),
            ca_file: self.path(&section, "caFile"),
            ca_dir: self.path(&section, "caDir"),
            alias: self.text(&section, "alias"),
            certificate_name: self.text(&section, "certificateName"),
        }
    }

    fn vault_quota(&mut self, vault: &Section<'t>) -> VaultQuota {
        let section = vault.child("quota", self.report);
        let default = VaultQuota::default();
        let mut number = |key: &str, default: u32, most: u32| {
            let read = |v: &Value| match section::count(v)? {
                0 => Err("it must not be zero".to_owned()),
                n if n > most => Err(format!("it must not be more than {most}")),
                n => Ok(n),
            };
            match self.value(&section, key, read) {
                Some(n) => n,
                None => {
                    self.keep(section.path_of(key), default.to_string(), Origin::Default);
                    default
                }
            }
        };
        let requests = number("requests", default.requests, 1_000_000);
        let share = number("share", default.share.into(), 100);
        VaultQuota {
            requests,
            share: u8::try_from(share).unwrap_or(default.share),
            window: self.span(&section, "window", default.window),
            block: self.span(&section, "block", default.block),
        }
    }
}
