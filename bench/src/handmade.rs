//! A baseline made by hand with `ip` and `nft`: a script, and the namespaces that it makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::lab::output;

const NAMED_DIR: &str = "/run/netns";

/// Its namespaces, and with them all of it, go when the value goes.
#[derive(Debug)]
pub(crate) struct HandMade(&'static [&'static str]);

impl HandMade {
    pub(crate) fn make(script: &str, namespaces: &'static [&'static str]) -> Result<Self> {
        let made = Self(namespaces);
        output(Command::new("sh").args(["-c", script]))?;
        Ok(made)
    }

    pub(crate) fn netns(&self, name: &str) -> PathBuf {
        debug_assert!(self.0.contains(&name), "{name} is not removed");
        Path::new(NAMED_DIR).join(name)
    }
}

impl Drop for HandMade {
    fn drop(&mut self) {
        for name in self.0 {
            if self.netns(name).exists()
                && let Err(err) = output(Command::new("ip").args(["netns", "del", name]))
            {
                eprintln!("swarmnet-bench: {err:#}");
            }
        }
    }
}
