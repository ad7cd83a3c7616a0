//! `cargo xtask api`: the public interface of the crates others may use, as committed text.
//!
//! It is read off the pages that stable rustdoc writes. rustdoc's JSON would be the better source; it is unstable, and
//! the crate `public-api` has no release for the JSON of the compiler pinned here.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};

use crate::{
    say,
    steps::{Committed, cargo, root, run, target},
};

/// Package, name in paths, listing.
const CRATES: [(&str, &str, &str); 2] = [
    ("mtk-cedar", "cedar", "docs/api/cedar.txt"),
    ("mtk-credd-client", "credd_client", "docs/api/credd-client.txt"),
];

/// Builds the documentation of the crates, and compares or writes their listings.
pub(crate) fn api(text: Committed) -> Result<ExitCode> {
    for (package, _, _) in CRATES {
        run(&mut cargo(&[
            "doc",
            "--package",
            package,
            "--no-deps",
            "--locked",
        ]))?;
    }
    if text.write {
        for (_, name, path) in CRATES {
            let path = root().join(path);
            std::fs::write(&path, listing(name)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    check().map(|()| ExitCode::SUCCESS)
}

/// Compares the listings with documentation that has just been built.
pub(crate) fn check() -> Result<()> {
    for (_, name, path) in CRATES {
        let committed = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        let now = listing(name)?;
        if now == committed {
            continue;
        }
        for (mark, one, other) in [("-", &committed, &now), ("+", &now, &committed)] {
            let others: std::collections::HashSet<_> = other.lines().collect();
            for line in one.lines().filter(|line| !others.contains(line)) {
                say::people(&format!("{mark} {line}"));
            }
        }
        bail!(
            "the public interface of {name} is not what {path} says: if that is meant, `cargo xtask api --write`"
        );
    }
    Ok(())
}

fn listing(name: &str) -> Result<String> {
    let folder = target().join("doc").join(name);
    let all = read(&folder.join("all.html"))?;
    let mut text = format!("# Public interface of {name}. Written by `cargo xtask api --write`.\n");
    let links = all
        .split("<a href=\"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"'));
    // links to the crate's own pages; the rest of that page is the frame around it
    let pages = links.filter(|(link, _)| !link.contains("..") && !link.contains(':') && is_item(link));
    let mut pages: Vec<&str> = pages.map(|(link, _)| link).collect();
    pages.sort_unstable();
    pages.dedup();
    for page in pages {
        let (path, item) = page.rsplit_once('/').unwrap_or(("", page));
        let item = item.split('.').nth(1).unwrap_or(item);
        let path = path.split('/').filter(|part| !part.is_empty());
        let path: Vec<&str> = std::iter::once(name).chain(path).chain([item]).collect();
        let _ = write!(text, "\n## {}\n\n", path.join("::"));
        text += &declarations(&read(&folder.join(page))?);
    }
    Ok(text)
}

fn is_item(link: &str) -> bool {
    let file = link.rsplit('/').next().unwrap_or(link);
    file.ends_with(".html") && file.split('.').count() == 3
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The item's own declaration, and those of its implementations that are written in this crate.
fn declarations(page: &str) -> String {
    let mut text = String::new();
    let Some((_, rest)) = page.split_once("<pre class=\"rust item-decl\"><code>") else {
        return text;
    };
    let (own, rest) = rest.split_once("</code></pre>").unwrap_or((rest, ""));
    text += &plain(own);
    text.push('\n');
    // behind it come the implementations that every type has
    let ours = rest
        .split("id=\"synthetic-implementations\"")
        .next()
        .unwrap_or_default();
    let ours = ours
        .split("id=\"blanket-implementations\"")
        .next()
        .unwrap_or_default();
    for section in ours.split("<section id=\"").skip(1) {
        let class = section.split("class=\"").nth(1).and_then(|c| c.split('"').next());
        let indent = match class.unwrap_or_default() {
            "impl" => "",
            "method" | "associatedconstant" => "    ",
            // of a trait: the trait says it
            _ => continue,
        };
        let header = section.split("class=\"code-header\">").nth(1).unwrap_or_default();
        // up to the end of the heading: h3 for an implementation, h4 for what is in it
        let header = header.split("</h").next().unwrap_or_default();
        let line = plain(header).split_whitespace().collect::<Vec<_>>().join(" ");
        // what `derive(PartialEq)` leaves for the compiler alone
        if !line.starts_with("impl StructuralPartialEq") {
            let _ = writeln!(text, "{indent}{line}");
        }
    }
    text
}

/// Text without tags, without what is only there to be clicked on, and without entities.
fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, tag)) = rest.split_once('<') {
        text += before;
        // an attribute stands in a block of its own above what it is of
        if tag.starts_with("/div") {
            text.push('\n');
        }
        let hidden = if tag.starts_with("summary") {
            "</summary>"
        } else {
            ">"
        };
        rest = tag.split_once(hidden).map_or("", |(_, behind)| behind);
    }
    text += rest;
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ];
    entities
        .iter()
        .fold(text, |text, (entity, sign)| text.replace(entity, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_off_a_page() {
        let page = "<nav>x</nav><pre class=\"rust item-decl\"><code>pub struct <a href=\"x\">A</a>&lt;T&gt; { }</code></pre>\
            <section id=\"impl-A\" class=\"impl\"><h3 class=\"code-header\">impl A</h3></section>\
            <section id=\"method.f\" class=\"method\"><h4 class=\"code-header\">pub fn f(&amp;self)\n -&gt; B</h4></section>\
            <section id=\"method.g\" class=\"method trait-impl\"><h4 class=\"code-header\">fn g()</h4></section>\
            <h2 id=\"synthetic-implementations\"></h2><section id=\"impl-S\" class=\"impl\"><h3 class=\"code-header\">x</h3>";
        let expected = "pub struct A<T> { }\nimpl A\n    pub fn f(&self) -> B\n";
        assert_eq!(declarations(page), expected);
        assert!(is_item("auth/enum.Method.html") && !is_item("auth/index.html") && !is_item("all.html"));
    }
}
