//! The test bed of mtk: real servers in namespaces of their own, and what tests need to drive them.
//!
//! No C library is among the dependencies, here and in `xtask`: both build on a machine that has nothing but
//! Rust, and then install what the rest of the workspace needs ([`prerequisites`]).

pub mod bed;
pub mod consumers;
#[cfg(feature = "hostile")]
pub mod hostile;
pub mod http;
#[cfg(feature = "hostile")]
pub mod oracles;
pub mod pip;
pub mod prerequisites;
pub mod site;
pub mod tools;
