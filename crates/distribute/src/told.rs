//! What is told of files, for whoever keeps an audit log: digests, never what is in them.

use crate::{File, FileError, Landed, Mode, Placed};
use credential::act::{Act, Verb, digest, tell};

/// What was written or removed, or may have been.
pub(crate) fn of_file(place: &str, by: &str, file: &File, result: &Result<Landed, FileError>, mode: Mode) {
    let act = |verb| {
        let act = Act::new(verb, place).what(&file.path);
        if by.is_empty() { act } else { act.by(by) }
    };
    // the digest is all that leaves here
    let written = || act(Verb::Write).digest(digest(file.content.expose()));
    match (result, mode) {
        (Ok(landed), _) => match landed.placed {
            Placed::Written => tell(&written()),
            Placed::Removed => tell(&act(Verb::Remove)),
            _ => {}
        },
        (Err(error), Mode::Write) => tell(&written().failed(error)),
        (Err(error), Mode::Remove) => tell(&act(Verb::Remove).failed(error)),
        (Err(_), _) => {}
    }
}
