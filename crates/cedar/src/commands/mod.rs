//! What is asked once a conversation stands (cedar.md 6).

pub mod check_creds;
pub mod collector;
pub mod get_token;
pub mod store_cred;
