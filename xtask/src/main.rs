//! `cargo xtask`: what the workspace is built, tested and measured with.

mod api;
mod bench;
mod bench_config;
mod bench_credd;
mod bench_push;
mod bench_vault;
mod demo;
mod fixtures;
mod fuzz;
mod man;
mod measured;
mod prerequisites;
mod say;
mod soak;
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
    /// The public interface of cedar and credd-client, compared with docs/api
    Api(steps::Committed),
    /// The pages of mtk's manual, compared with docs/man
    Man(steps::Committed),
    /// What real programs say, recorded again
    Fixtures(fixtures::Arguments),
    /// What must hold for any bytes whatever, with a fuzzer's
    Fuzz(fuzz::Arguments),
    /// What takes hours: fuzzing, kills at any moment, growth over many runs
    Soak(soak::Arguments),
    /// Real servers in namespaces of their own
    Testbed(testbed::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Prerequisites(arguments) => prerequisites::run(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Demo(arguments) => demo::demo(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Api(text) => api::api(text),
        Command::Man(text) => man::man(text),
        Command::Fixtures(arguments) => fixtures::fixtures(&arguments),
        Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Command::Soak(arguments) => soak::soak(&arguments),
        Command::Testbed(arguments) => testbed::run(arguments),
    };
    done.unwrap_or_else(|error| {
        say::people(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
