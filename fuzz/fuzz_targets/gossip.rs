//! libFuzzer's driver of one target.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| swarmnet_fuzz::targets::gossip(data));
