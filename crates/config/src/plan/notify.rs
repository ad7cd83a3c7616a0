//! Who is told of what, and how.

use std::{fmt, time::Duration};

use super::{DAY, Plan};
use crate::{
    Hook, Mail, MailTls, Notifications, Origin, QuietHours, Receivers, StakeholdersGet, address,
    section::{self, Section},
};

/// The Go service's sample file has it; without the key that service tells of every failure.
const THRESHOLD: u32 = 3;
const SMTP_PORT: u32 = 25;
const TIMEOUT: Duration = Duration::from_secs(10);

impl<'t> Plan<'_, 't> {
    pub(super) fn notifications(&mut self, mtk: &Section<'t>) -> Notifications {
        let top = self.top.clone();
        let ours = mtk.child("notify", self.report);
        let threshold = self.value(&top, "errorCountToSendMessage", section::count);
        if threshold.is_none() {
            self.keep(
                "errorCountToSendMessage".into(),
                THRESHOLD.to_string(),
                Origin::Default,
            );
        }
        let critical_below = self.span(&ours, "criticalBelow", DAY);
        let webhook = self.hook(&ours, "webhook");
        let webhook_token = self.path(&ours, "webhookTokenFile");
        let slack_file = self.path(&ours, "slackUrlFile");
        let stakeholders_get = self
            .choice(&ours, "stakeholders", &["relevant", "all", "none"])
            .map(|word| match word.as_str() {
                "all" => StakeholdersGet::All,
                "none" => StakeholdersGet::Nothing,
                _ => StakeholdersGet::Relevant,
            });
        Notifications {
            threshold: threshold.unwrap_or(THRESHOLD),
            mail: self.mail(mtk),
            receivers: self.receivers("notifications"),
            test_receivers: self.receivers("notifications_test"),
            stakeholders: Default::default(),
            stakeholders_get: stakeholders_get.unwrap_or_default(),
            slack_file,
            webhook,
            webhook_token,
            remind_every: self.span(&ours, "remindEvery", DAY),
            warn_below: self.span(&ours, "warnBelow", DAY * 3).max(critical_below),
            critical_below,
            quiet: self.value(&ours, "quietHours", |value| {
                section::text(value)?.parse::<QuietHours>()
            }),
            templates: self.path(&ours, "templates"),
            timeout: self.span(&ours, "timeout", TIMEOUT),
        }
    }

    fn mail(&mut self, mtk: &Section<'t>) -> Option<Mail> {
        let email = self.top.child("email", self.report);
        let ours = mtk.child("email", self.report);
        let from = self
            .mail_addresses(&email, "from")
            .and_then(|all| all.into_iter().next());
        let host = self.text(&email, "smtpHost");
        let port = self
            .value(&email, "smtpPort", section::count)
            .unwrap_or(SMTP_PORT);
        let tls = self
            .choice(&ours, "tls", &["auto", "plain", "starttls", "tls"])
            .map(|word| match word.as_str() {
                "plain" => MailTls::Plain,
                "starttls" => MailTls::StartTls,
                "tls" => MailTls::Tls,
                _ => MailTls::Auto,
            });
        let username = self.text(&ours, "username");
        let password_file = self.path(&ours, "passwordFile");
        let port = match u16::try_from(port) {
            Ok(port) => port,
            Err(_) => {
                let at = email.get("smtpPort").map_or(email.at(), |entry| entry.node.at);
                let key = email.path_of("smtpPort");
                self.report.error(at, &key, "a port is a number below 65536", "");
                return None;
            }
        };
        Some(Mail {
            from,
            host: host?,
            port,
            tls: tls.unwrap_or_default(),
            username,
            password_file,
        })
    }

    fn choice(&mut self, section: &Section<'t>, key: &str, words: &[&str]) -> Option<String> {
        self.value(section, key, |value| {
            let word = section::text(value)?;
            if words.contains(&word.as_str()) {
                return Ok(word);
            }
            Err(format!("{word:?} is none of {}", words.join(", ")))
        })
    }

    fn receivers(&mut self, key: &str) -> Receivers {
        let section = self.top.child(key, self.report);
        Receivers {
            admins: self.mail_addresses(&section, "admin_email").unwrap_or_default(),
            slack: self.hook(&section, "SLACK_ALERTS_URL"),
        }
    }

    /// Addresses of mail. One that cannot be one is an error and left out: the others are to be reached all the same.
    pub(super) fn mail_addresses(&mut self, section: &Section<'t>, key: &str) -> Option<Vec<String>> {
        let entry = section.get(key)?;
        let path = section.path_of(&entry.key);
        let words = match section::list(&entry.node.value) {
            Ok(words) => words,
            Err(why) => {
                self.report.error(entry.node.at, &path, why, "");
                return None;
            }
        };
        let mut good = Vec::new();
        for (word, at) in words {
            if is_mail_address(&word) {
                good.push(word);
            } else {
                let why = format!("{word:?} is no address of mail");
                let at = at.unwrap_or(entry.node.at);
                self.report
                    .error(at, &path, why, "name@host is wanted; nobody is told there");
            }
        }
        self.keep(path, good.join(" "), Origin::File(entry.node.at));
        Some(good)
    }

    /// A web hook: whoever knows its path may use it.
    fn hook(&mut self, section: &Section<'t>, key: &str) -> Option<Hook> {
        let hook = self.value(section, key, |value| {
            Ok(Hook(section::text(value)?.trim().to_owned()))
        })?;
        if hook.0.is_empty() {
            return None;
        }
        Some(Hook(address::with_scheme(hook.0, "https")))
    }
}

/// As far as it can be judged from here: `name@host` without anything that means something in a header.
fn is_mail_address(word: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>()[]\\,;:\"".contains(c);
    match word.rsplit_once('@') {
        Some((name, host)) => {
            !name.is_empty() && !host.is_empty() && !name.contains('@') && !word.contains(odd)
        }
        None => false,
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("https", &self.0));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}/***")
    }
}

impl std::str::FromStr for QuietHours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no span of hours such as 22:00-07:00");
        let minute = |part: &str| -> Option<u16> {
            let (hour, minute) = part.trim().split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        match (minute(from), minute(to)) {
            (Some(from), Some(to)) if from != to => Ok(Self { from, to }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|m| (m / 60, m % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.0, from.1, to.0, to.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_there_and_back_and_across_midnight() {
        let quiet: QuietHours = "22:00-07:30".parse().unwrap();
        assert_eq!(quiet.to_string(), "22:00-07:30");
        let at = |text: &str| {
            let (h, m) = text.split_once(':').unwrap();
            quiet.holds(h.parse::<u16>().unwrap() * 60 + m.parse::<u16>().unwrap())
        };
        assert!(at("22:00") && at("23:59") && at("0:00") && at("7:29"));
        assert!(!at("7:30") && !at("12:00") && !at("21:59"));
        let noon: QuietHours = "12:00-13:00".parse().unwrap();
        assert!(noon.holds(720) && !noon.holds(780) && !noon.holds(0));
        for wrong in ["", "22-7", "22:00", "25:00-07:00", "7:00-7:00", "7:60-8:00"] {
            assert!(wrong.parse::<QuietHours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hook_is_not_shown() {
        let hook = Hook("https://u:p@hooks.example.org/services/T0/B0/SECRET".into());
        assert_eq!(hook.to_string(), "https://hooks.example.org/***");
        assert!(!format!("{hook:?}").contains("SECRET"));
    }

    #[test]
    fn addresses_of_mail() {
        for good in ["a@b", "dune-people@example.org", "x+y@example.org"] {
            assert!(is_mail_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "A <a@b>",
            "a@b\r\nBcc: c@d",
        ] {
            assert!(!is_mail_address(bad), "{bad}");
        }
    }
}
