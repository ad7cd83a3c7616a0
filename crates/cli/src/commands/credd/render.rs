//! How answers of credds look.

use credd_client::Held;
use jiff::Timestamp;
use pipeline::span;
use serde_json::{Value, json};

use super::ask::{Answer, Chosen, Failure, Fate, Listed, Place, Queried};
use crate::output::table::align;

fn ago(time: Option<Timestamp>, now: Timestamp) -> String {
    match time {
        None => "never".to_owned(),
        // the credd's clock may be ahead of ours
        Some(time) if time >= now => "just now".to_owned(),
        Some(time) => format!("{} ago", span(now.duration_since(time))),
    }
}

fn seconds(time: Option<Timestamp>, now: Timestamp) -> Option<i64> {
    time.map(|time| now.duration_since(time).as_secs())
}

fn failure_rows(place: &Place, failure: &Failure) -> Vec<Vec<String>> {
    let mut text = format!("! {}", failure.text);
    if let Some(advice) = failure.advice {
        text.push_str(&format!(" ({advice})"));
    }
    vec![vec![place.name().to_owned(), place.robot().account.clone(), text]]
}

/// A table with a headline, and below it what failed, whose text is too long for a column.
fn table<T>(
    answers: &[(Place, Answer<Vec<T>>)],
    headline: &[&str],
    row: impl Fn(&T) -> Vec<String>,
    empty: &str,
) -> String {
    let mut rows = vec![headline.iter().map(|&word| word.to_owned()).collect()];
    let mut failures = Vec::new();
    for (place, answer) in answers {
        let head = [place.name().to_owned(), place.robot().account.clone()];
        match answer {
            Ok(all) if all.is_empty() => {
                rows.push(head.into_iter().chain([empty.to_owned()]).collect());
            }
            Ok(all) => {
                rows.extend(
                    all.iter()
                        .map(|one| head.iter().cloned().chain(row(one)).collect::<Vec<_>>()),
                );
            }
            Err(failure) => failures.extend(failure_rows(place, failure)),
        }
    }
    let mut text = if rows.len() > 1 || failures.is_empty() {
        align(&rows, "")
    } else {
        String::new()
    };
    text.push_str(&align(&failures, ""));
    text
}

fn parts(listed: &Listed) -> (Option<&str>, Option<&str>) {
    match &listed.service {
        Some((service, handle)) => (Some(service), handle.as_deref()),
        None => (None, None),
    }
}

pub(crate) fn list(answers: &[(Place, Answer<Vec<Listed>>)], now: Timestamp) -> String {
    let row = |listed: &Listed| {
        vec![
            listed.entry.name.clone(),
            parts(listed).1.unwrap_or("-").to_owned(),
            ago(listed.entry.top, now),
            ago(listed.entry.used, now),
        ]
    };
    let headline = ["CREDD", "ACCOUNT", "CREDENTIAL", "HANDLE", "STORED", "USED"];
    table(answers, &headline, row, "nothing")
}

pub(crate) fn query(answers: &[(Place, Answer<Vec<Queried>>)], restricted: bool, now: Timestamp) -> String {
    let row = |Queried { name, held }: &Queried| {
        vec![
            name.clone(),
            state(held, restricted).to_owned(),
            ago(held.top, now),
            ago(held.used, now),
        ]
    };
    let headline = ["CREDD", "ACCOUNT", "CREDENTIAL", "STATE", "STORED", "USED"];
    table(answers, &headline, row, "nothing asked")
}

fn state(held: &Held, restricted: bool) -> &'static str {
    match (held.top, held.used) {
        (None, None) => "absent",
        _ if held.damaged => "damaged",
        _ if restricted && held.other_restriction => "other-restriction",
        (Some(_), None) => "not-used-yet",
        (None, Some(_)) => "access-token-only",
        (Some(_), Some(_)) => "held",
    }
}

pub(crate) fn deleted(answers: &[(Place, Answer<Vec<Chosen>>)], yes: bool, now: Timestamp) -> String {
    let row = |chosen: &Chosen| {
        let fate = match &chosen.fate {
            Fate::Would => "would be deleted".to_owned(),
            Fate::Deleted => "deleted".to_owned(),
            Fate::Changed => "! was renewed just now, left alone".to_owned(),
            Fate::Failed(failure) => format!("! {}", failure.text),
        };
        let listed = &chosen.listed;
        let stored = listed.entry.top.or(listed.entry.used);
        vec![listed.entry.name.clone(), ago(stored, now), fate]
    };
    let headline = ["CREDD", "ACCOUNT", "CREDENTIAL", "STORED", "FATE"];
    let mut text = table(answers, &headline, row, "nothing to delete");
    let any = answers
        .iter()
        .any(|(_, answer)| answer.as_ref().is_ok_and(|all| !all.is_empty()));
    if any && !yes {
        text.push_str("nothing was deleted: --yes does it\n");
    }
    text
}

fn json<T>(answers: &[(Place, Answer<Vec<T>>)], now: Timestamp, one: impl Fn(&T) -> Value) -> Value {
    let credds: Vec<Value> = answers
        .iter()
        .map(|(place, answer)| {
            let (version, address) = place.about();
            let robot = place.robot();
            let failure = answer
                .as_ref()
                .err()
                .map(|failure| json!({"kind": failure.kind, "text": failure.text, "advice": failure.advice}));
            let credentials: Vec<Value> = answer.iter().flatten().map(&one).collect();
            json!({
                "credd": place.name(), "address": address, "version": version, "account": robot.account,
                "principal": robot.principal.to_string(), "credentials": credentials, "failure": failure,
            })
        })
        .collect();
    json!({"now": now, "credds": credds})
}

fn listed(listed: &Listed, now: Timestamp) -> Value {
    let (service, handle) = parts(listed);
    let entry = &listed.entry;
    json!({
        "name": entry.name, "service": service, "handle": handle, "top": entry.top, "use": entry.used,
        "top_age_seconds": seconds(entry.top, now), "use_age_seconds": seconds(entry.used, now),
    })
}

pub(crate) fn list_json(answers: &[(Place, Answer<Vec<Listed>>)], now: Timestamp) -> Value {
    json(answers, now, |one| listed(one, now))
}

pub(crate) fn query_json(
    answers: &[(Place, Answer<Vec<Queried>>)],
    restricted: bool,
    now: Timestamp,
) -> Value {
    json(answers, now, |Queried { name, held }| {
        json!({
            "name": name, "state": state(held, restricted), "top": held.top, "use": held.used,
            "top_age_seconds": seconds(held.top, now), "use_age_seconds": seconds(held.used, now),
        })
    })
}

pub(crate) fn deleted_json(answers: &[(Place, Answer<Vec<Chosen>>)], yes: bool, now: Timestamp) -> Value {
    let mut all = json(answers, now, |chosen: &Chosen| {
        let (fate, why) = match &chosen.fate {
            Fate::Would => ("would-be-deleted", None),
            Fate::Deleted => ("deleted", None),
            Fate::Changed => ("changed", None),
            Fate::Failed(failure) => ("failed", Some(failure.text.as_str())),
        };
        let mut one = listed(&chosen.listed, now);
        if let Some(fields) = one.as_object_mut() {
            fields.insert("fate".to_owned(), fate.into());
            fields.insert("why".to_owned(), why.into());
        }
        one
    });
    if let Some(fields) = all.as_object_mut() {
        fields.insert("dry_run".to_owned(), (!yes).into());
    }
    all
}
