//! The harness of the end-to-end tests: the real binary, a lab of its own for each test, and a look at the machine around it.
//!
//! Input: the `swarmnet` program of the profile under test, built on first use; `SWARMNET_TEST_BINARY` names another one. Output:
//! labs in a folder of their own, gone when the [`Lab`] is dropped, also by a panic. Labs of one process run one after the other; across
//! processes the test runner keeps them apart (`.config/nextest.toml`). A tool that is missing fails the test that needs it.
//!
//! Nothing here knows the product's types: the tests see what a user sees.
#![forbid(unsafe_code)]

mod binary;
mod lab;
mod machine;
pub mod mutate;
pub mod rng;

use std::process::Output;
use std::time::{Duration, Instant};

pub use binary::program;
pub use lab::{Lab, Session};
pub use machine::Machine;

/// Time between two looks of [`eventually`].
const POLL: Duration = Duration::from_millis(50);

/// Asks until `holds` says yes; how long that took, or `None` when it did not within `timeout`.
///
/// The condition is asked once more after the time is over, so that a slow question gets its answer counted.
pub fn eventually(timeout: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    loop {
        let late = begun.elapsed() > timeout;
        if holds() {
            return Some(begun.elapsed());
        }
        if late {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// What a command wrote to its standard output, without the space around it.
pub fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// What a command wrote to its standard error, without the space around it.
pub fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).trim().to_owned()
}
