//! The test bed: one command's worth of real servers, in namespaces of their own.

pub mod cache;
pub mod layout;
pub mod nodes;
pub mod pool;
pub mod process;
pub mod root;
pub mod servers;

pub use cache::Cache;
pub use layout::Layout;
pub use servers::Servers;
