//! mtk-state
