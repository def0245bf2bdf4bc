//! Whether managers start locked, and the key that unlocks them.

use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::secret::Secret;
use crate::state::txn::Txn;

impl Txn<'_> {
    pub(super) fn set_autolock(&mut self, on: bool, fresh: &Secret) -> Result<Outcome, Rejection> {
        if self.initialised()?.lock.key.is_some() == on {
            return Ok(Outcome::Done);
        }
        self.put_lock(on.then(|| fresh.clone()))
    }

    pub(super) fn rotate_unlock_key(&mut self, fresh: &Secret) -> Result<Outcome, Rejection> {
        if self.initialised()?.lock.key.is_none() {
            return Err(Rejection::AutolockOff);
        }
        self.put_lock(Some(fresh.clone()))
    }

    fn put_lock(&mut self, key: Option<Secret>) -> Result<Outcome, Rejection> {
        let mut cluster = self.initialised()?.clone();
        cluster.lock.key = key;
        cluster.lock.version += 1;
        self.put_cluster(cluster);
        Ok(Outcome::Done)
    }
}
