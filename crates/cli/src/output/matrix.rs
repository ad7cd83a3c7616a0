//! Services by places, as wide as the terminal lets it be.

use std::collections::{BTreeMap, BTreeSet};

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
    let mut at: BTreeMap<Place<'_>, BTreeMap<usize, Vec<&StatusEdge>>> = BTreeMap::new();
    for (n, service) in services.iter().enumerate() {
        for edge in &service.edges {
            let here = at.entry((edge.kind, &edge.place)).or_default();
            here.entry(n).or_default().push(edge);
        }
    }
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
        let mut head = vec![Cell::plain("")];
        head.extend(now.iter().map(|place| Cell::new(name(place), Shade::Head)));
        let mut rows = vec![head];
        let having: BTreeSet<usize> = now
            .iter()
            .filter_map(|p| at.get(p))
            .flat_map(|s| s.keys().copied())
            .collect();
        for (n, service) in having.into_iter().filter_map(|n| Some((n, *services.get(n)?))) {
            let mut row = vec![Cell::plain(label(service))];
            row.extend(now.iter().map(|place| {
                let edges = at.get(place).and_then(|all| all.get(&n));
                cell(edges.map_or(&[], Vec::as_slice), limits)
            }));
            rows.push(row);
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
    let all: BTreeSet<&str> = services
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

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use pipeline::Selection;
    use state::{EdgeId, Fared, Fault, Push, Silence, SilenceKind, Snapshot};

    use super::*;

    const LIMITS: Limits = Limits {
        bad: SignedDuration::from_hours(24),
        warn: None,
    };

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    /// Two experiments with nodes of their own; what is left on each node, in hours.
    fn seen(left: &[(&str, &str, i64)], change: impl Fn(&mut Snapshot)) -> Status {
        let role = |account: &str, nodes: &str| {
            format!("\n    roles:\n      production: {{account: {account}, destinationNodes: [{nodes}]}}\n")
        };
        let text = format!(
            "vaultServer: vault.test\nkerberosPrincipalPattern: '{{{{.Account}}}}/robot@TEST'\n\
             condorCollectorHost: cm.test\nexperiments:\n  dune:{}  mu2e:{}",
            role("dunepro", "d1.test, d2.test, shared.test"),
            role("mu2epro", "m1.test, shared.test"),
        );
        let path = std::path::Path::new("managedTokens.yml");
        let site = config::parse(path, &text, &config::Env::default()).unwrap().site;
        let mut snapshot = Snapshot::default();
        for (experiment, node, hours) in left {
            let service = site
                .services
                .iter()
                .find(|s| s.id.experiment == *experiment)
                .unwrap();
            let service = pipeline::service_key(service);
            let (node, path) = ((*node).to_owned(), "/tmp/vt_u1".to_owned());
            let push = Push {
                service: service.clone(),
                node: node.clone(),
                path: path.clone(),
                kind: String::new(),
                accessor: String::new(),
                digest: String::new(),
                pushed_at: now(),
                expires: Some(now() + SignedDuration::from_hours(*hours)),
            };
            snapshot.pushes.insert(EdgeId::Push { service, node, path }, push);
        }
        change(&mut snapshot);
        pipeline::status(&site, &snapshot, &Selection::default(), now())
    }

    fn drawn(status: &Status, width: usize) -> String {
        matrix(status, &LIMITS, width, Paint::new(crate::args::Color::Never))
    }

    const LEFT: [(&str, &str, i64); 5] = [
        ("dune", "d1.test", 150),
        ("dune", "d2.test", 150),
        ("dune", "shared.test", 120),
        ("mu2e", "m1.test", 150),
        ("mu2e", "shared.test", 12),
    ];

    #[test]
    fn what_breaks_first_is_at_the_top_and_on_the_left() {
        let wide = "                 shared  m1     d1     d2\n\
                    mu2e_production  12h 0m  6d 6h\n\
                    dune_production  5d 0h          6d 6h  6d 6h\n";
        assert_eq!(drawn(&seen(&LEFT, |_| {}), 120), wide);
        // and below one another where there is no room, with those that have something there
        let narrow = "                 shared  m1\nmu2e_production  12h 0m  6d 6h\ndune_production  5d 0h\n\n\
                      \u{20}                d1     d2\ndune_production  6d 6h  6d 6h\n";
        assert_eq!(drawn(&seen(&LEFT, |_| {}), 40), narrow);
    }

    #[test]
    fn what_is_silenced_is_in_brackets_and_last() {
        let status = seen(&LEFT, |snapshot| {
            snapshot.silences.push(Silence {
                kind: SilenceKind::Node,
                name: "shared.test".into(),
                why: "new disks".into(),
                who: "me".into(),
                since: now(),
                until: now() + SignedDuration::from_hours(1),
                ended: None,
            });
        });
        let drawn = drawn(&status, 120);
        assert!(drawn.contains("(12h 0m)"), "{drawn}");
        let first = drawn.lines().nth(1).unwrap();
        assert!(first.starts_with("dune_production"), "{drawn}");
    }

    #[tokio::test]
    async fn a_failure_since_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let (state, _) = state::State::open(&dir.path().join("mtk")).await.unwrap();
        let edge = seen(&LEFT, |_| {});
        let edge = edge.services[1]
            .edges
            .iter()
            .find(|e| e.place == "m1.test")
            .unwrap();
        assert_eq!((edge.edge.as_deref(), edge.consecutive_failures), (None, 0));
        let id = EdgeId::Push {
            service: state::ServiceKey {
                experiment: "mu2e".into(),
                role: "production".into(),
                account: "mu2epro".into(),
                principal: "mu2epro/robot@TEST".into(),
            },
            node: "m1.test".into(),
            path: "/tmp/vt_u1".into(),
        };
        let fault = Fault {
            stage: "push".into(),
            kind: "timed-out".into(),
            text: "no answer".into(),
            next_try: None,
        };
        let all = [(id, Fared::Failed(fault))];
        state.record_outcomes(now(), &all).await.unwrap();
        let edges = state.snapshot().await.unwrap().edges;
        let status = seen(&LEFT, |snapshot| snapshot.edges.clone_from(&edges));
        let drawn = drawn(&status, 120);
        assert!(drawn.contains("6d 6h!"), "{drawn}");
    }
}
