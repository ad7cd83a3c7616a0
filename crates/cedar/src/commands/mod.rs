//! What is asked once a conversation stands (cedar.md 6).

pub mod collector;
pub mod store_cred;
