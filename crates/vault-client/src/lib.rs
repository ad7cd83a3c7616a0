//! mtk-vault-client
