//! Fuzzing with libFuzzer: `cargo +nightly fuzz run TARGET`. See `targets.rs`.

pub mod targets;
