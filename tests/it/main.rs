//! Integration tests of mtk against the real servers of the test bed.
//!
//! They run inside a bed that is up (`cargo xtask test` brings one up for them; by hand: `cargo xtask testbed exec`),
//! one after another, because some break a server. The list of modules is the table of contents.

mod audit;
mod bed;
mod command_line;
mod condor_auth;
mod condor_config;
mod condor_methods;
mod consumers;
mod credd_commands;
mod credmon;
mod doctor;
mod examples;
mod failures;
mod fuzz_regressions;
mod hostile_condor;
mod hostile_sftp;
mod hostile_sshd;
mod identity;
mod insisting;
mod killed;
mod metrics;
mod mtk;
mod notices;
mod observers;
mod old_names;
mod onboarding;
mod outputs;
mod packaging;
mod person;
mod revocation;
mod secrets;
mod ssh_backends;
mod ssh_config;
mod ssh_files;
mod ssh_host_keys;
mod ssh_limits;
mod sshd;
mod state_command;
mod storer;
mod token_command;
mod token_logins;
mod token_side_by_side;
mod uids;
mod vault_budget;
mod vault_ha;
mod vault_matrix;
mod vault_revoked;
mod vault_tokens;
mod views;
mod waiting;
mod whole_way;
