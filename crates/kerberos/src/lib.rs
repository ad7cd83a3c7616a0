//! mtk-kerberos
