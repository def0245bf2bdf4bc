//! Kernel settings under `/proc/sys/net` of a namespace.
//!
//! Keys are paths below `/proc/sys`, with slashes: `net/ipv4/conf/eth0.100/rp_filter` (a device's name may hold dots).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::KernelError;
use crate::netns::Netns;

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

/// Reads one setting, without the final newline.
pub fn get(netns: &Netns, key: &str) -> Result<String, KernelError> {
    let path = path(key);
    netns
        .run(|| fs::read_to_string(&path))?
        .map(|text| text.trim_end().to_owned())
        .map_err(|err| KernelError::SysctlRead { path, err })
}

/// Reads those of the settings that exist.
pub fn get_all(
    netns: &Netns,
    keys: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>, KernelError> {
    netns.run(|| {
        keys.iter()
            .filter_map(|key| match fs::read_to_string(path(key)) {
                Ok(text) => Some(Ok((key.clone(), text.trim_end().to_owned()))),
                // The device or the feature is not there.
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => None,
                Err(err) => Some(Err(KernelError::SysctlRead { path: path(key), err })),
            })
            .collect()
    })?
}

/// Writes settings in order; stops at the first that fails.
pub fn set_all(netns: &Netns, settings: &[(String, String)]) -> Result<(), KernelError> {
    netns.run(|| settings.iter().try_for_each(|(key, value)| write(key, value)))?
}

/// Writes one setting.
pub fn set(netns: &Netns, key: &str, value: &str) -> Result<(), KernelError> {
    netns.run(|| write(key, value))?
}

fn write(key: &str, value: &str) -> Result<(), KernelError> {
    let path = path(key);
    // Not writing what is there already leaves read-only mounts of /proc/sys usable when they say the right thing.
    if fs::read_to_string(&path).is_ok_and(|now| now.trim_end() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|err| KernelError::SysctlWrite {
        path,
        value: value.to_owned(),
        err,
    })
}
