//! mtk-cedar
