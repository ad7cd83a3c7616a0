//! Times as people say them.

use jiff::Timestamp;

/// To the minute, in UTC: mails are read elsewhere.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
