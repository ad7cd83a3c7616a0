#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| config::oracles::ssh_config(data));
