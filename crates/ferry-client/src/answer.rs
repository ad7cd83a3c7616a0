//! The JSON of `getUserInfo`, judged.

use credential::printable;
use serde::Deserialize;

/// The longest answer that is read: a true one has some 300 bytes.
pub const MAX_ANSWER: usize = 256 * 1024;
/// Longest text kept of what FERRY says.
const MAX_TEXT: usize = 500;

/// What FERRY knows of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Its UID: never 0, never the one that means none.
    pub uid: u32,
    /// Whether it is active.
    pub active: bool,
}

/// Why something is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Bad {
    /// Longer than [`MAX_ANSWER`].
    #[error("it is longer than {MAX_ANSWER} bytes")]
    TooLong,
    /// Not the JSON of an answer.
    #[error("it is not the JSON of an answer: {0}")]
    Json(String),
    /// `ferry_status` is neither `success` nor `failure`.
    #[error("its status is {0:?}")]
    Status(String),
    /// `ferry_status` is `failure`; FERRY's words, cut and cleaned.
    #[error("FERRY failed: {0}")]
    Failure(String),
    /// No UID, or none that an account could have.
    #[error("{0} is not an account's UID")]
    Uid(i64),
}

#[derive(Deserialize)]
struct Wire {
    ferry_status: String,
    #[serde(default)]
    ferry_error: Option<serde_json::Value>,
    #[serde(default)]
    ferry_output: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Output {
    uid: i64,
    // what does not say that it is inactive is not
    #[serde(default = "yes")]
    status: bool,
}

fn yes() -> bool {
    true
}

impl Answer {
    /// Judges the body of an answer.
    ///
    /// # Errors
    /// [`Bad`].
    pub fn parse(body: &[u8]) -> Result<Self, Bad> {
        if body.len() > MAX_ANSWER {
            return Err(Bad::TooLong);
        }
        let json = |e: serde_json::Error| Bad::Json(printable(&e.to_string(), MAX_TEXT));
        let wire: Wire = serde_json::from_slice(body).map_err(json)?;
        match wire.ferry_status.as_str() {
            "success" => {}
            "failure" => return Err(Bad::Failure(words(wire.ferry_error.as_ref()))),
            other => return Err(Bad::Status(printable(other, MAX_TEXT))),
        }
        let output: Output = serde_json::from_value(wire.ferry_output.unwrap_or_default()).map_err(json)?;
        match u32::try_from(output.uid) {
            Ok(uid) if uid != 0 && uid != u32::MAX => Ok(Self {
                uid,
                active: output.status,
            }),
            _ => Err(Bad::Uid(output.uid)),
        }
    }
}

/// FERRY's errors: a list of texts.
fn words(error: Option<&serde_json::Value>) -> String {
    let texts: Vec<&str> = match error {
        Some(serde_json::Value::Array(list)) => list.iter().filter_map(|v| v.as_str()).collect(),
        Some(serde_json::Value::String(text)) => vec![text],
        _ => Vec::new(),
    };
    if texts.is_empty() {
        return "it gives no reason".to_owned();
    }
    printable(&texts.join("; "), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"ferry_status":"success","ferry_error":[],"ferry_output":{"expirationdate":"2038-01-01T00:00:00Z",
        "fullname":"Dune Production","groupaccount":true,"status":true,"uid":50001,"vopersonid":""}}"#;

    #[test]
    fn an_answer() {
        let answer = Answer::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((answer.uid, answer.active), (50001, true));
    }

    #[test]
    fn what_is_none() {
        let with = |from: &str, to: &str| Answer::parse(GOOD.replace(from, to).as_bytes());
        assert_eq!(with("50001", "0"), Err(Bad::Uid(0)));
        assert_eq!(with("50001", "-5"), Err(Bad::Uid(-5)));
        assert_eq!(with("50001", "4294967295"), Err(Bad::Uid(4_294_967_295)));
        assert!(matches!(with("50001", "\"50001\""), Err(Bad::Json(_))));
        assert!(matches!(with("\"uid\":50001,", ""), Err(Bad::Json(_))));
        assert_eq!(with("success", "maybe"), Err(Bad::Status("maybe".into())));
        let says = with(
            "\"success\",\"ferry_error\":[]",
            "\"failure\",\"ferry_error\":[\"user\\u001b not found\",\"x\"]",
        );
        assert_eq!(says, Err(Bad::Failure("user  not found; x".into())));
        assert!(matches!(with("\"success\"", "\"failure\""), Err(Bad::Failure(_))));
        assert!(matches!(Answer::parse(b"<html>"), Err(Bad::Json(_))));
        assert_eq!(Answer::parse(&vec![b' '; MAX_ANSWER + 1]), Err(Bad::TooLong));
        for length in 0..GOOD.len() {
            assert!(Answer::parse(&GOOD.as_bytes()[..length]).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..300usize) {
            drop(Answer::parse(&bytes));
            let mut changed = GOOD.as_bytes().to_vec();
            for (n, byte) in bytes.iter().take(4).enumerate() {
                let length = changed.len();
                changed[(at + n * 7) % length] = *byte;
            }
            if let Ok(answer) = Answer::parse(&changed) {
                prop_assert!(answer.uid != 0 && answer.uid != u32::MAX);
            }
        }
    }
}
