//! Columns that line up, on a terminal in colours; tables for programs.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use anyhow::Context;

use crate::{Problem, args::Color};

/// How a cell looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shade {
    Plain,
    Good,
    Warn,
    Bad,
    /// Of no matter now.
    Dim,
    /// The name of a column.
    Head,
}

/// A text with its look.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) shade: Shade,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, shade: Shade) -> Self {
        let text = text.into();
        Self { text, shade }
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Shade::Plain)
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    pub(crate) fn new(color: Color) -> Self {
        Self(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let unwanted = std::env::var_os(crate::env::NO_COLOR).is_some_and(|v| !v.is_empty());
                !unwanted && std::io::stdout().is_terminal()
            }
        })
    }

    pub(crate) fn text(self, text: &str, shade: Shade) -> String {
        let style = match shade {
            Shade::Plain => Style::new(),
            Shade::Good => AnsiColor::Green.on_default(),
            Shade::Warn => AnsiColor::Yellow.on_default(),
            Shade::Bad => AnsiColor::Red.on_default().bold(),
            Shade::Dim => Style::new().dimmed(),
            Shade::Head => Style::new().bold(),
        };
        if self.0 && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Rows as lines, each column as wide as its widest cell.
    pub(crate) fn align(self, rows: &[Vec<Cell>], indent: &str) -> String {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |text: &str| text.chars().count();
        let widest = |c: usize| {
            rows.iter()
                .filter_map(|r| r.get(c))
                .map(|cell| width(&cell.text))
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| widest(c).unwrap_or(0)).collect();
        let mut out = String::new();
        for row in rows {
            let used = row
                .iter()
                .rposition(|cell| !cell.text.is_empty())
                .map_or(0, |n| n + 1);
            let mut line = indent.to_owned();
            for (n, (cell, column)) in row.iter().zip(&widths).take(used).enumerate() {
                line.push_str(&self.text(&cell.text, cell.shade));
                if n + 1 < used {
                    line.push_str(&" ".repeat(column - width(&cell.text) + 2));
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Rows as lines without colours.
pub(crate) fn align(rows: &[Vec<String>], indent: &str) -> String {
    let rows: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| row.iter().map(Cell::plain).collect())
        .collect();
    Paint(false).align(&rows, indent)
}

/// Rows as comma-separated values (RFC 4180), the names of the columns first.
pub(crate) fn csv(columns: &[&str], rows: &[Vec<String>]) -> Result<String, Problem> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let written = (|| {
        writer.write_record(columns)?;
        rows.iter().try_for_each(|row| writer.write_record(row))
    })();
    let text = written.map_err(anyhow::Error::from).and_then(|()| {
        Ok(String::from_utf8(
            writer.into_inner().map_err(|e| e.into_error())?,
        )?)
    });
    text.context("the answer cannot be written as CSV")
        .map_err(Problem::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = [vec!["a".into(), "b".into()], vec!["ccc".into(), String::new()]];
        assert_eq!(align(&rows, " "), " a    b\n ccc\n");
    }

    #[test]
    fn colours_take_no_room() {
        let rows = [
            vec![Cell::new("bad", Shade::Bad), Cell::plain("x")],
            vec![Cell::plain("longer"), Cell::new("", Shade::Dim)],
        ];
        let painted = Paint(true).align(&rows, "");
        let lines: Vec<&str> = painted.lines().collect();
        assert!(
            lines[0].starts_with('\u{1b}') && lines[0].ends_with("     x"),
            "{painted:?}"
        );
        assert_eq!(lines[1], "longer");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let rows = [vec!["a,b".to_owned(), "say \"x\"".to_owned()]];
        let text = csv(&["one", "two"], &rows).ok().unwrap();
        assert_eq!(text, "one,two\n\"a,b\",\"say \"\"x\"\"\"\n");
    }
}
