//! Collectors and credds.

use futures_util::future::join_all;
use jiff::Timestamp;
use state::EdgeId;

use super::{Case, Check, Hop};
use crate::{
    failure::{Failure, Stage},
    run::{credd_name, service_key},
    words::span,
};

pub(super) async fn examine(case: &Case<'_>) -> Vec<Check> {
    let service = case.service;
    if !service.store || !case.selection.shows_credds() {
        return Vec::new();
    }
    let (mut checks, found) = tokio::join!(collectors(case), case.world.credds_of(service));
    let found = match found {
        Ok(found) => found,
        Err(failure) => {
            // a collector that failed has said so already
            if checks.iter().all(|c| c.health != super::Health::Failed) {
                checks.push(Check::failed(Hop::Collector, &failure, service));
            }
            return checks;
        }
    };
    let found = found.into_iter();
    let shown = found.filter(|credd| case.selection.shows_credd(credd_name(credd)));
    let each = shown.map(async |credd| match credd {
        Err((name, failure)) => {
            let failure = Failure {
                peer: name,
                ..failure
            };
            Check::failed(Hop::Credd, &failure, service)
        }
        Ok(address) => match case.world.credd(&address, service).await {
            Ok(credd) => one(case, &address, &credd).await,
            // that was said at its own hop, and nothing else was
            Err(failure)
                if case.ticket.is_none() && matches!(failure.stage, Stage::Keytab | Stage::Ticket) =>
            {
                Check::skipped(Hop::Credd, address.name(), "there is no ticket")
            }
            Err(failure) => Check::failed(Hop::Credd, &failure, service),
        },
    });
    checks.extend(join_all(each).await);
    checks
}

/// Each collector by itself: a run is content with the first that answers.
async fn collectors(case: &Case<'_>) -> Vec<Check> {
    let service = case.service;
    let options = credd_client::Options::default();
    let each = service.collectors.iter().map(async |collector| {
        let asked = std::slice::from_ref(collector);
        let constraint = service.schedd_constraint.as_deref();
        let answer = match credd_client::schedds(asked, constraint, &options).await {
            // one that wants to know who asks; a robot that cannot say so is said at its own hop
            Err(e) if e.wants_identity() => match case.world.reader(service).await {
                Ok(known) => credd_client::schedds(asked, constraint, &known).await,
                Err(_) => Err(e),
            },
            answer => answer,
        };
        match answer {
            Ok(schedds) => {
                let names: Vec<&str> = schedds.iter().map(|s| s.name.as_str()).collect();
                let found = format!("answers, with {} schedds: {}", names.len(), names.join(", "));
                Check::good(Hop::Collector, collector, found)
            }
            Err(e) => {
                let failure = Failure::at_credd(Stage::Discover, collector, &e);
                Check::failed(Hop::Collector, &failure, service)
            }
        }
    });
    join_all(each).await
}

async fn one(case: &Case<'_>, address: &credd_client::CreddAddress, credd: &credd_client::Credd) -> Check {
    let service = case.service;
    let name = service.name.to_string();
    let peer = address.name().to_owned();
    let held = match credd.query(&service.account, &name, None).await {
        Ok(held) => held,
        Err(e) => {
            let failure = Failure::at_credd(Stage::Credd, peer, &e);
            let mut check = Check::failed(Hop::Credd, &failure, service);
            if let Some(advice) = e.advice() {
                check.remedy = Some(advice.to_owned());
            }
            return check;
        }
    };
    let user = credd.mapped_user().unwrap_or_else(|| service.account.clone());
    let us = format!("takes us for {user}");
    let bring = format!("mtk refresh --service {}", service.id);
    let Some(top) = held.top else {
        return Check::warning(
            Hop::Credd,
            peer,
            format!("{us}, and holds no {name}"),
            format!(
                "{bring} stores it; if it vanishes again, the credmon there is refused by Vault (CredMonOAuthLog)"
            ),
        );
    };
    if held.damaged {
        let found = format!("{us}, and cannot read the {name} it holds");
        return Check::warning(Hop::Credd, peer, found, bring);
    }
    let id = EdgeId::Store {
        service: service_key(service),
        credd: peer.clone(),
        name: name.clone(),
    };
    let ours = case.snapshot.stores.get(&id);
    let now = Timestamp::now();
    let life = match ours.filter(|store| store.top_time == Some(top)) {
        Some(store) if store.expires <= now => {
            let found = format!("{us}, and its {name} has expired");
            return Check::warning(Hop::Credd, peer, found, bring);
        }
        Some(store) => format!("good for {}", span(store.expires.duration_since(now))),
        None => "not stored by this mtk".to_owned(),
    };
    let found = format!("{us}, and holds {name} since {} ({life})", top.strftime("%F %T"));
    // the credmon looks every minute
    let unused = held.used.is_none_or(|used| used < top) && now.duration_since(top).as_secs() > 180;
    if unused {
        return Check::warning(
            Hop::Credd,
            peer,
            format!("{found}, but its credmon has made no access token of it"),
            "see that condor_credmon_vault runs there, and what CredMonOAuthLog says of this credential",
        );
    }
    Check::good(Hop::Credd, peer, found)
}
