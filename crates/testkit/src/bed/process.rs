//! Processes as `/proc` shows them.

use std::fs;

/// What of `/proc/PID/stat` we use.
struct Stat {
    pid: u32,
    state: char,
    parent: u32,
    start: u64,
}

/// When a process started, in clock ticks after boot; with the pid it names a process for good. `None` if there is no such
/// process, or only its remains (a zombie).
pub fn start_time(pid: u32) -> Option<u64> {
    stat(pid)
        .filter(|stat| stat.state != 'Z' && stat.state != 'X')
        .map(|stat| stat.start)
}

/// A process and all its descendants, parents first.
pub fn tree(pid: u32) -> Vec<u32> {
    let all = all();
    let mut tree = vec![pid];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(
            all.iter()
                .filter(|stat| stat.parent == parent)
                .map(|stat| stat.pid),
        );
        next += 1;
    }
    tree
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    all()
        .iter()
        .filter(|stat| stat.parent == pid)
        .map(|stat| stat.pid)
        .collect()
}

fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(line: &str) -> Option<Stat> {
    // the name in parentheses may hold anything, parentheses included
    let (pid, _) = line.split_once(' ')?;
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Stat {
        pid: pid.parse().ok()?,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = "12 (a) b (c) S 7 12 12 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
        let stat = parse(line).unwrap();
        assert_eq!(
            (stat.pid, stat.state, stat.parent, stat.start),
            (12, 'S', 7, 98765)
        );
    }

    #[test]
    fn we_are_alive_and_pid_4194305_is_not() {
        assert!(start_time(std::process::id()).is_some());
        assert!(start_time(4_194_305).is_none());
        assert_eq!(tree(std::process::id()).first(), Some(&std::process::id()));
    }
}
