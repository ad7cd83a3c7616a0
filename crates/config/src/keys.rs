//! Every key of the Go service's file, and ours: what becomes of it, what it holds, and a line of explanation.
//!
//! The reader, `mtk config import` and the schema for editors all read these tables.

mod ours;
mod theirs;

pub(crate) use ours::{CONDOR, MTK, OUTPUT};
pub(crate) use theirs::{DEAD, EXPERIMENT, FLAGS, ROLE, TOP};

/// A key the file may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// As the documentation writes it; the file may write it in any case.
    pub(crate) name: &'static str,
    /// What becomes of it.
    pub(crate) fate: Fate,
    /// What it holds.
    pub(crate) form: Form,
    /// One line for people.
    pub(crate) about: &'static str,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// Read here.
    Used,
    /// Accepted; what it steers does not exist in mtk, for this reason.
    NotNeeded(&'static str),
    /// A map whose keys have fates of their own.
    Section(&'static [Key]),
    /// A map from names the site chooses.
    Named(&'static [Key]),
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Text,
    /// A file or a directory; `~` is the home directory.
    Path,
    /// Paths: a list, or one path as text.
    Paths,
    /// A span of time.
    Span,
    Count,
    Truth,
    /// A list, or one text its words parted by blanks or commas.
    List,
    /// Text in which `{{.Field}}` is filled in.
    Template,
    /// One of these words.
    Choice(&'static [&'static str]),
    Map,
}

pub(crate) const fn key(name: &'static str, fate: Fate, form: Form, about: &'static str) -> Key {
    Key {
        name,
        fate,
        form,
        about,
    }
}

/// A map of keys.
pub(crate) const fn section(name: &'static str, keys: &'static [Key], about: &'static str) -> Key {
    key(name, Fate::Section(keys), Form::Map, about)
}

/// The key of this name in any case.
pub(crate) fn find(known: &'static [Key], name: &str) -> Option<&'static Key> {
    known.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &'static [Key], all: &mut Vec<&'static str>) {
        for key in keys
            .iter()
            .filter(|key| !["mtk", "$schema", "outputs"].contains(&key.name))
        {
            // mtk's own keys among theirs say so
            if key.about.contains("(mtk)") {
                continue;
            }
            all.push(key.name);
            if let Fate::Section(below) | Fate::Named(below) = key.fate {
                names(below, all);
            }
        }
    }

    #[test]
    fn the_page_on_migration_says_of_every_key_of_the_go_service_what_becomes_of_it() {
        let page = include_str!("../../../docs/migrate.md");
        let mut all = Vec::new();
        for keys in [TOP, EXPERIMENT, ROLE] {
            names(keys, &mut all);
        }
        assert!(all.len() > 70, "{}", all.len());
        for name in all {
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/migrate.md has no {name}"
            );
        }
    }
}
