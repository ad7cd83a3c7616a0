//! mtk-credd-client
