//! How what a manager says becomes the next view: a whole one replaces, a delta continues, and neither leads back.
//!
//! Pure. A manager may be behind what this node has, after its restart or when it is cut off; what exists here must not be taken
//! down because one manager does not know of it yet.

use std::sync::Arc;

use swarmnet_types::view::Gap;
use swarmnet_types::{NodeView, Revision, ViewDelta};

/// A manager's word on the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Whole(NodeView),
    Delta(ViewDelta),
}

/// The word does not fit what the node has; the view stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(transparent)]
    Gap(#[from] Gap),
    #[error("a delta before any view")]
    NoView,
    /// The manager is to be left.
    #[error("the manager's view is of revision {sent}, the node has {have}")]
    Older { have: Revision, sent: Revision },
}

impl Unfit {
    /// Something in between is missing: a whole view mends it, from the same manager. Else it is the manager that is to be left.
    pub fn is_gap(&self) -> bool {
        !matches!(self, Self::Older { .. })
    }
}

/// Makes `view` what it is after `news`; in place where nobody else holds it.
///
/// # Errors
/// [`Unfit`], and the view is as before.
pub fn fold(view: &mut Option<Arc<NodeView>>, news: News) -> Result<(), Unfit> {
    match (news, &mut *view) {
        (News::Delta(_), None) => Err(Unfit::NoView),
        (News::Delta(delta), Some(have)) => {
            // Before the copy that a shared view costs.
            have.fits(&delta)?;
            Ok(Arc::make_mut(have).apply(delta)?)
        }
        // Revisions of another cluster say nothing.
        (News::Whole(sent), Some(have))
            if sent.cluster.id == have.cluster.id && sent.revision < have.revision =>
        {
            Err(Unfit::Older { have: have.revision, sent: sent.revision })
        }
        (News::Whole(sent), _) => {
            *view = Some(Arc::new(sent));
            Ok(())
        }
    }
}
