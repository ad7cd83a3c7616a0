//! mtk-testkit
