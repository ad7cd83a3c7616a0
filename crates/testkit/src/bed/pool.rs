//! Written by its owner next.
/// See the module.
pub fn start(_layout: &super::Layout, _servers: &mut super::Servers) -> anyhow::Result<()> {
    anyhow::bail!("being written")
}

/// See the module.
pub fn ready(_layout: &super::Layout) -> anyhow::Result<()> {
    anyhow::bail!("being written")
}
