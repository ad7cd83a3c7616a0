//! What several tests begin with.

use jiff::Timestamp;
use state::ServiceKey;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

pub(crate) fn service(account: &str) -> ServiceKey {
    ServiceKey {
        experiment: "dune".into(),
        role: "production".into(),
        account: account.into(),
        principal: format!("{account}/managedtokens/mtk.test@MTK.TEST"),
    }
}
