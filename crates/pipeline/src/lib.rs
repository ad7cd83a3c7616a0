//! mtk-pipeline
