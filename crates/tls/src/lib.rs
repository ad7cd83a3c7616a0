//! mtk-tls
