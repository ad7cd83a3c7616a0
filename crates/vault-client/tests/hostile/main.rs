//! A server with a good certificate and bad intentions: whatever it answers is a typed error, soon, in little memory,
//! and without a secret in it.

#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod hashicorp;
mod nodes;
mod oidc;
mod server;
mod ways;
