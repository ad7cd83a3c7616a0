//! Written by its owner next.
/// See the module.
pub fn prepare(_cache: &super::Cache) -> anyhow::Result<std::path::PathBuf> {
    anyhow::bail!("being written")
}

/// See the module.
pub fn mount(_layout: &super::Layout, _base: &std::path::Path) -> anyhow::Result<()> {
    anyhow::bail!("being written")
}
