//! Data goes to stdout, people are spoken to on stderr. Nothing else in this program prints.

pub(crate) mod in_order;
pub(crate) mod matrix;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod table;

use std::io::Write;

/// What a command was asked for. A reader that went away is not our failure.
pub(crate) fn data(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// A line for programs that read along, out at once.
pub(crate) fn event(value: &serde_json::Value) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{value}");
    let _ = out.flush();
}

/// Something for the person in front, while it goes on.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Something a person should know.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "mtk: warning: {text}");
}

/// Why the command ends, its causes once each.
pub(crate) fn error(error: &anyhow::Error) {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    let _ = writeln!(std::io::stderr(), "mtk: {text}");
}
