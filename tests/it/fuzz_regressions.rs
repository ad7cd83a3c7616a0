//! What fuzzing ever found, and what it started from, through the same oracles. Needs no bed.

use std::path::PathBuf;

use testkit::oracles;

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/fuzz-regressions")
        .join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

#[test]
fn every_fixture_passes_its_oracle_whole_and_cut_anywhere() {
    for (target, oracle) in oracles::ALL {
        for (path, input) in inputs(target) {
            // shown if the oracle panics
            println!("{}", path.display());
            oracle(&input);
            // long ones were found whole, and would take long
            let step = 1 + input.len() / 200;
            (0..input.len()).step_by(step).for_each(|n| oracle(&input[..n]));
        }
    }
}

/// With a bit of them changed, too: the cheapest fuzzer there is.
#[test]
fn every_short_fixture_passes_with_a_bit_changed_anywhere() {
    for (target, oracle) in oracles::ALL {
        for (_, input) in inputs(target).into_iter().filter(|(_, i)| i.len() < 600) {
            // a conversation costs key agreements: every seventh bit still touches every byte
            for bit in (0..input.len() * 8).step_by(7) {
                let mut changed = input.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                oracle(&changed);
            }
        }
    }
}

/// The oracle of the state machine says something only if conversations get that far.
#[test]
fn honest_scripts_come_to_the_command() {
    let mut reached = 0;
    for (path, input) in inputs("client") {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let came = oracles::client::conversation(&input);
        assert!(came || !name.starts_with("honest"), "{name}");
        reached += usize::from(came);
    }
    assert!(reached >= 2);
}
