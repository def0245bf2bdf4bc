//! Join tokens beside the standing two: with an end, a number of uses, or for nodes that come and go.

use swarmnet_types::{Role, TokenId};

use crate::command::CreateToken;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::state::txn::Txn;
use crate::state::{FurtherToken, TokenEnd};

/// Tokens at once, those that are void included: a join compares with each.
const TOKENS_MAX: usize = 1_000;
/// How long a token that is void is remembered, so that who uses it hears why.
const KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl Txn<'_> {
    pub(super) fn create_token(&mut self, create: &CreateToken) -> Result<Outcome, Rejection> {
        self.forget_tokens();
        if create.ephemeral_ms.is_some() && create.role == Role::Manager {
            return Err(Rejection::EphemeralManager);
        }
        if create.ttl_ms == Some(0) || create.uses == Some(0) {
            return Err(Rejection::TokenForNothing);
        }
        if self.tables.tokens.len() >= TOKENS_MAX {
            return Err(Rejection::TokensFull { max: TOKENS_MAX });
        }
        let token = self.draw(TokenId::from_bytes, |s, id| s.tables.tokens.contains_key(id));
        let row = FurtherToken {
            id: token,
            role: create.role,
            secret: create.secret.clone(),
            created_ms: self.now_ms,
            expires_ms: create.ttl_ms.map(|ttl| self.now_ms.saturating_add(ttl)),
            uses: 0,
            uses_max: create.uses,
            used_ms: 0,
            revoked_ms: None,
            ephemeral_ms: create.ephemeral_ms,
        };
        self.set_token(token, Some(row));
        Ok(Outcome::TokenCreated { token })
    }

    pub(super) fn remove_token(&mut self, text: &str) -> Result<Outcome, Rejection> {
        self.forget_tokens();
        let mut row = self.find_token(text)?.clone();
        let token = row.id;
        let kept = row.end(self.now_ms).is_none().then(|| {
            row.revoked_ms = Some(self.now_ms);
            row
        });
        self.set_token(token, kept);
        Ok(Outcome::Done)
    }

    /// A node joins by it: how long that one may be gone before it is removed.
    pub(super) fn use_token(
        &mut self,
        token: TokenId,
        role: Role,
    ) -> Result<Option<u64>, Rejection> {
        let known = self.further_token(token).filter(|t| t.role == role);
        let mut row = known.ok_or(Rejection::TokenUnknown)?.clone();
        if let Some((end, _)) = row.end(self.now_ms) {
            return Err(Rejection::TokenOver { end });
        }
        row.uses = row.uses.saturating_add(1);
        row.used_ms = self.now_ms;
        let ephemeral_ms = row.ephemeral_ms;
        self.set_token(token, Some(row));
        Ok(ephemeral_ms)
    }

    /// All that still let nodes join do so no more.
    pub(super) fn void_tokens(&mut self) {
        let now_ms = self.now_ms;
        let good: Vec<_> =
            self.further_tokens().filter(|t| t.end(now_ms).is_none()).cloned().collect();
        for mut row in good {
            row.revoked_ms = Some(now_ms);
            self.set_token(row.id, Some(row));
        }
    }

    fn forget_tokens(&mut self) {
        let now_ms = self.now_ms;
        let is_old = |t: &&FurtherToken| {
            t.end(now_ms)
                .is_some_and(|(_, at_ms): (TokenEnd, u64)| at_ms.saturating_add(KEPT_MS) < now_ms)
        };
        let old: Vec<_> = self.further_tokens().filter(is_old).map(|t| t.id).collect();
        for token in old {
            self.set_token(token, None);
        }
    }
}
