//! `cargo xtask`: what the workspace is built, tested and measured with.

mod bench;
mod demo;
mod prerequisites;
mod say;
mod steps;
mod test;
mod testbed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "What mtk is built, tested and measured with",
    version
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what building and testing want of this host, or name it
    Prerequisites(prerequisites::Arguments),
    /// mtk beside the way it replaces, as ratios
    Bench(bench::Arguments),
    /// One token all the way on real servers, and the programs that use it
    Demo(demo::Arguments),
    /// Everything that must hold: what CI runs
    Test(test::Arguments),
    /// Real servers in namespaces of their own
    Testbed(testbed::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Prerequisites(arguments) => prerequisites::run(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Testbed(arguments) => testbed::run(arguments),
    };
    done.unwrap_or_else(|error| {
        say::people(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
