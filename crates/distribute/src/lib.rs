//! mtk-distribute
