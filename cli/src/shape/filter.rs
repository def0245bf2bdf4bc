//! `--filter key=value`: equal keys are alternatives, different keys must all hold.

use std::collections::BTreeMap;

use crate::error::CliError;

/// The filters of one list command.
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// # Errors
    /// Usage, in Docker's words (`sw:C41`), for a key that is not `known` or a word without `=`.
    pub(crate) fn parse(words: &[String], known: &[&str]) -> Result<Self, CliError> {
        let mut filters = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                CliError::usage(format!("invalid filter '{word}': want KEY=VALUE"))
            })?;
            if !known.contains(&key) {
                return Err(CliError::usage(format!(
                    "invalid filter '{key}': want one of {}",
                    known.join(", ")
                )));
            }
            filters.0.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(filters)
    }

    /// Is the key absent, or does one of its values pass?
    pub(crate) fn allows(&self, key: &str, pass: impl Fn(&str) -> bool) -> bool {
        self.0.get(key).is_none_or(|values| values.iter().any(|v| pass(v)))
    }

    /// Do all label filters hold? (`label=a`, `label=a=1`)
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.get("label").is_none_or(|wanted| {
            wanted.iter().all(|w| match w.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
                None => labels.contains_key(w),
            })
        })
    }
}
