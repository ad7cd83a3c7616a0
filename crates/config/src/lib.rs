//! mtk-config
