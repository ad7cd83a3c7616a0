//! Services by places, as wide as the terminal lets it be.

use std::collections::BTreeMap;

use pipeline::{Life, ServiceStatus, Status, StatusEdge, span};

use super::table::{Cell, Paint, Shade};

/// Below what is left a cell is red; yellow is what mtk should have renewed by now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bad: jiff::SignedDuration,
    /// Instead of what the configuration says of renewals.
    pub(crate) warn: Option<jiff::SignedDuration>,
}

impl Limits {
    pub(crate) fn shade(&self, edge: &StatusEdge) -> Shade {
        if !edge.counts() {
            Shade::Dim
        } else if !edge.life.is_alive() || edge.is_below(self.bad.as_secs()) {
            Shade::Bad
        } else if self
            .warn
            .map_or(edge.overdue, |warn| edge.is_below(warn.as_secs()))
        {
            Shade::Warn
        } else {
            Shade::Good
        }
    }
}

/// What is left, for a cell.
fn short(life: Life) -> String {
    match life {
        Life::Never => "never".to_owned(),
        Life::Until { seconds_left, .. } if seconds_left <= 0 => "EXPIRED".to_owned(),
        Life::Until { seconds_left, .. } => span(jiff::SignedDuration::from_secs(seconds_left)),
        Life::Endless => "no end".to_owned(),
    }
}

/// All a service has at one place is as good as the worst of it.
fn cell(edges: &[&StatusEdge], limits: &Limits) -> Cell {
    let worst = edges.iter().min_by_key(|e| (!e.counts(), e.life.left()));
    let Some(worst) = worst else {
        return Cell::plain("");
    };
    let failing = edges.iter().any(|e| e.consecutive_failures > 0);
    let mut text = short(worst.life);
    if failing {
        text.push('!');
    }
    if !worst.counts() {
        text = format!("({text})");
    }
    Cell::new(text, limits.shade(worst))
}

/// The least that is left of what counts; silenced services are last.
pub(crate) fn first_end(service: &ServiceStatus) -> i64 {
    let counting = service.edges.iter().filter(|e| e.counts());
    let least = counting.map(|e| e.life.left()).min();
    // a service with nothing at all was never stored
    let none = if service.silenced || !service.edges.is_empty() {
        i64::MAX
    } else {
        i64::MIN
    };
    least.unwrap_or(none)
}

type Place<'a> = (&'a str, &'a str);

/// The services, what breaks first at the top, by credds and nodes, what breaks first on the left. What does not fit
/// beside one another stands below, with the services that have something there.
pub(crate) fn matrix(status: &Status, limits: &Limits, width: usize, paint: Paint) -> String {
    let mut services: Vec<&ServiceStatus> = status.services.iter().collect();
    services.sort_by_key(|s| first_end(s));
    let (places, names) = (places(&services), short_names(&services));
    let name = |place: &Place<'_>| names.get(place.1).cloned().unwrap_or_default();
    let label = |s: &ServiceStatus| format!("{}_{}", s.experiment, s.role);
    let first = services
        .iter()
        .map(|s| label(s).chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    let mut rest = places.as_slice();
    while !rest.is_empty() {
        let mut used = first;
        let fits = rest.iter().take_while(|place| {
            // the longest thing in a cell is (EXPIRED!)
            used += name(place).chars().count().max(8) + 2;
            used <= width
        });
        let (now, later) = rest.split_at(fits.count().max(1));
        rest = later;
        let mut rows = vec![vec![Cell::plain("")]];
        if let Some(head) = rows.first_mut() {
            head.extend(now.iter().map(|place| Cell::new(name(place), Shade::Head)));
        }
        for service in &services {
            let cells: Vec<Cell> = now
                .iter()
                .map(|(kind, place)| {
                    let here = |e: &&StatusEdge| e.kind == *kind && e.place == *place;
                    let edges: Vec<&StatusEdge> = service.edges.iter().filter(here).collect();
                    cell(&edges, limits)
                })
                .collect();
            if cells.iter().any(|c| !c.text.is_empty()) {
                rows.push([vec![Cell::plain(label(service))], cells].concat());
            }
        }
        out.push_str(&paint.align(&rows, ""));
        if !rest.is_empty() {
            out.push('\n');
        }
    }
    for service in services.iter().filter(|s| s.edges.is_empty()) {
        out.push_str(&format!("{}  nothing was ever stored\n", label(service)));
    }
    out
}

/// The credds, then the nodes, then what is given out here: those of the service that breaks first are first, and each service's together.
fn places<'a>(services: &[&'a ServiceStatus]) -> Vec<Place<'a>> {
    // the rest is of this host
    let rank = |kind: &str| match kind {
        "credd" => 0,
        "node" => 1,
        _ => 2,
    };
    let mut order: BTreeMap<(u8, usize, i64, Place<'_>), Place<'_>> = BTreeMap::new();
    let mut least: BTreeMap<Place<'_>, (usize, i64)> = BTreeMap::new();
    for (n, service) in services.iter().enumerate() {
        for edge in &service.edges {
            let left = if edge.counts() { edge.life.left() } else { i64::MAX };
            let place = (edge.kind, edge.place.as_str());
            let known = least.entry(place).or_insert((n, left));
            known.1 = known.1.min(left);
        }
    }
    for (place, (n, left)) in least {
        order.insert((rank(place.0), n, left, place), place);
    }
    order.into_values().collect()
}

/// Hosts without the domain, where that leaves them apart.
fn short_names(services: &[&ServiceStatus]) -> BTreeMap<String, String> {
    let all: std::collections::BTreeSet<&str> = services
        .iter()
        .flat_map(|s| s.edges.iter().map(|e| e.place.as_str()))
        .collect();
    let host = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for name in &all {
        *count.entry(host(name)).or_default() += 1;
    }
    all.into_iter()
        .map(|name| {
            let short = host(name);
            let alone = count.get(&short) == Some(&1) && !short.is_empty();
            (name.to_owned(), if alone { short } else { name.to_owned() })
        })
        .collect()
}
