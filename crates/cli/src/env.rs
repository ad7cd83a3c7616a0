//! Every environment variable mtk reads, once.

/// A filter for the log in the syntax of `tracing-subscriber`, such as `cedar=trace`.
pub(crate) const LOG: &str = "MTK_LOG";

/// Who called sudo: whoever silences something is named.
pub(crate) const SUDO_USER: &str = "SUDO_USER";

/// Set to anything: no colours.
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// Options for `mtk token get`, as htgettoken reads them; words as a shell parts them.
pub(crate) const HTGETTOKENOPTS: &str = "HTGETTOKENOPTS";

/// The file of the Vault token, for `mtk token destroy` as for htdestroytoken.
pub(crate) const VAULT_TOKEN_FILE: &str = "VAULT_TOKEN_FILE";

/// Where the SSH agent listens.
pub(crate) const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// A directory of CA certificates, as grid tools read it.
pub(crate) const X509_CERT_DIR: &str = "X509_CERT_DIR";

/// A bearer token itself (WLCG bearer token discovery).
pub(crate) const BEARER_TOKEN: &str = "BEARER_TOKEN";

/// The file of a bearer token (WLCG bearer token discovery).
pub(crate) const BEARER_TOKEN_FILE: &str = "BEARER_TOKEN_FILE";

/// Where a session's own files are; a bearer token among them.
pub(crate) const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// The state directory, as `--state-dir`. Commands without a state (`mtk token`, `mtk storer`) count their Vault requests
/// there; they look at this variable alone and not at the option.
pub(crate) const STATE_DIR: &str = "MTK_STATE_DIR";

/// The audit log, before the configuration; the only way to name one for commands without a configuration.
pub(crate) const AUDIT_LOG: &str = "MTK_AUDIT_LOG";

/// For which user `mtk storer` stores, as condor_vault_storer: somebody's who is one of the credd's `CRED_SUPER_USERS`.
pub(crate) const STORER_USER: &str = "CONDOR_VAULT_STORER_USER";

/// What stands in the names of `mtk storer`'s files instead of `u<uid>`.
pub(crate) const STORER_ID: &str = "CONDOR_VAULT_STORER_ID";

/// Of which kind the services are for which condor_submit runs a storer.
pub(crate) const STORER_MODE: &str = "CONDOR_CREDENTIAL_STORER_MODE";

/// Options for condor_store_cred, which condor_vault_storer hands over.
pub(crate) const STORECRED_OPTS: &str = "SEC_CREDENTIAL_STORECRED_OPTS";

/// Below it htgettoken keeps credkeys.
pub(crate) const HOME: &str = "HOME";

// Those that the Go service reads as well are listed where they are understood: `config::Env`.
