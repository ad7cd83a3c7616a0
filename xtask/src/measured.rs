//! What a measurement begins with: things built for release, and a test bed of its own.

use anyhow::Result;
use testkit::{
    bed::{Bed, Owner},
    prerequisites::{self, For},
};

use crate::{
    say,
    steps::{Steps, cargo, run},
};

/// Something that is built for release.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Release {
    /// The binary.
    Mtk,
    /// An example of a crate: what measures it from inside.
    Example(&'static str, &'static str),
}

/// Installs what the host must have.
pub(crate) fn prepare(steps: &mut Steps) -> Result<()> {
    steps.step("prerequisites", || {
        prerequisites::ensure(&[For::Bed, For::Build], &say::people)
    })
}

/// Builds each.
pub(crate) fn build(steps: &mut Steps, releases: &[Release]) -> Result<()> {
    steps.step("building for release", || {
        releases.iter().try_for_each(|release| {
            let mut command = cargo(&["build", "--release", "--locked", "--package"]);
            run(match release {
                Release::Mtk => command.arg("mtk"),
                Release::Example(package, example) => command.args([package, "--example", example]),
            })
        })
    })
}

/// A test bed that ends with us.
pub(crate) fn bed(steps: &mut Steps, purpose: &str) -> Result<Bed> {
    steps.step("test bed up", || {
        let name = format!("{purpose}-{}", std::process::id());
        Bed::up(&name, Owner::Parent, &say::people)
    })
}

/// All three.
pub(crate) fn begin(steps: &mut Steps, releases: &[Release]) -> Result<Bed> {
    prepare(steps)?;
    build(steps, releases)?;
    bed(steps, "bench")
}

/// The most memory a process ever had, in KiB, from its `/proc/<pid>/status`.
pub(crate) fn peak_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
