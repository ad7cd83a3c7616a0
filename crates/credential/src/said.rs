use std::error::Error;

/// What a peer said, for people to read: without control characters, in at most `limit` bytes. What is cut ends in
/// ` ...`, which comes on top.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > limit {
            out.push_str(" ...");
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_reaches_a_terminal_but_text_of_bounded_length() {
        assert_eq!(printable("a\u{1b}[2J\nb", 100), "a [2J b");
        assert_eq!(printable("abc", 3), "abc");
        assert_eq!(printable("abcd", 3), "abc ...");
        // a character is there whole or not at all
        assert_eq!(printable("ab\u{fc}", 3), "ab ...");
    }
}
