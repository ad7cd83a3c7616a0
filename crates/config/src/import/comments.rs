//! The comments of a file, by the line they stand at.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use crate::tree::Position;

/// Comments not yet written anywhere.
#[derive(Debug, Default)]
pub(super) struct Comments {
    /// At the head of the first file, parted from what follows.
    pub(super) head: Vec<String>,
    /// By file and line of what they stand above or beside.
    by_place: BTreeMap<(u16, u32), Vec<String>>,
}

impl Comments {
    /// All comments of these files but those in `known`.
    pub(super) fn of<T: AsRef<str>>(texts: &[(PathBuf, T)], known: &HashSet<String>) -> Self {
        let mut all = Self::default();
        for ((_, text), file) in texts.iter().zip(0..) {
            let mut reader = Reader::default();
            for (line, number) in text.as_ref().lines().zip(1..) {
                reader.line(line, (file, number), &mut all);
            }
            all.add((file, u32::MAX), reader.pending);
        }
        all.head.retain(|c| !known.contains(c.as_str()));
        for comments in all.by_place.values_mut() {
            comments.retain(|c| !known.contains(c.as_str()));
        }
        all
    }

    /// Those at this place, which are then written.
    pub(super) fn take(&mut self, at: Position) -> Vec<String> {
        self.by_place.remove(&(at.file, at.line)).unwrap_or_default()
    }

    /// Whether there are any from one line to before another.
    pub(super) fn any_within(&self, from: Position, before: u32) -> bool {
        let range = (from.file, from.line)..(from.file, before.max(from.line));
        self.by_place
            .range(range)
            .any(|(_, comments)| !comments.is_empty())
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> Vec<String> {
        std::mem::take(&mut self.by_place)
            .into_values()
            .flatten()
            .collect()
    }

    fn add(&mut self, place: (u16, u32), comments: Vec<String>) {
        if !comments.is_empty() {
            self.by_place.entry(place).or_default().extend(comments);
        }
    }
}

/// Where in a file the reader is.
#[derive(Debug, Default)]
struct Reader {
    /// Comments waiting for what they stand above.
    pending: Vec<String>,
    /// Whether anything but comments was met.
    begun: bool,
    /// The quote that is open at the end of the line before.
    quote: Option<char>,
    /// The indentation of the line that began a block of text, in which `#` is text.
    block: Option<usize>,
}

impl Reader {
    fn line(&mut self, line: &str, place: (u16, u32), all: &mut Comments) {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        if let Some(of) = self.block {
            if trimmed.is_empty() || indent > of {
                return;
            }
            self.block = None;
        }
        if self.quote.is_none() {
            if trimmed.is_empty() {
                if !self.begun && place.0 == 0 {
                    all.head.append(&mut self.pending);
                }
                return;
            }
            if let Some(comment) = trimmed.strip_prefix('#') {
                self.pending.push(comment.trim().to_owned());
                return;
            }
        }
        // what begins the first file is about all of it, even without a blank line behind
        if !self.begun && place.0 == 0 && all.head.is_empty() {
            all.head.append(&mut self.pending);
        }
        self.begun = true;
        let (content, comment) = self.split(line);
        let mut comments = std::mem::take(&mut self.pending);
        comments.extend(comment.map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()));
        all.add(place, comments);
        let last = content.split_whitespace().next_back().unwrap_or_default();
        let header = last.starts_with(['|', '>']) && last.chars().skip(1).all(|c| "+-0123456789".contains(c));
        if self.quote.is_none() && header {
            self.block = Some(indent);
        }
    }

    /// A line's content, and the comment behind it.
    fn split<'l>(&mut self, line: &'l str) -> (&'l str, Option<&'l str>) {
        let mut before = ' ';
        let mut chars = line.char_indices();
        while let Some((index, c)) = chars.next() {
            match (self.quote, c) {
                (Some('"'), '\\') => {
                    chars.next();
                }
                (Some(open), c) if open == c => self.quote = None,
                (Some(_), _) => {}
                // a quote within a word is a letter of it
                (None, '"' | '\'') if before.is_whitespace() || "[{,:".contains(before) => {
                    self.quote = Some(c)
                }
                (None, '#') if before.is_whitespace() => {
                    let (content, comment) = line.split_at(index);
                    return (content, comment.strip_prefix('#'));
                }
                (None, _) => {}
            }
            before = c;
        }
        (line, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_found_and_text_is_left_alone() {
        let text = "# head\n\n# above\na: 'x # no' # beside\nb: |\n  # text\n  more\nc: \"# no\n  # no\" # yes\nd: it's # so\n# end\n";
        let mut comments = Comments::of(&[("f".into(), text)], &HashSet::new());
        assert_eq!(comments.head, ["head"]);
        let mut at = |line| {
            comments.take(Position {
                file: 0,
                line,
                column: 1,
            })
        };
        assert_eq!(at(4), ["above", "beside"]);
        assert_eq!(at(5), Vec::<String>::new());
        assert_eq!(at(9), ["yes"]);
        assert_eq!(at(10), ["so"]);
        assert_eq!(comments.rest(), ["end"]);
    }
}
