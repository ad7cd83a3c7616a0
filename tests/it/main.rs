//! The table of contents of the integration tests.
