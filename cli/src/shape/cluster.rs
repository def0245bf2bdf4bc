//! The cluster as one of its managers tells it.

use swarmnet_proto::v1;

/// How many more managers may be lost before writes stop.
pub(crate) fn quorum_margin(cluster: &v1::ClusterStatus) -> u32 {
    let quorum = cluster.managers / 2 + 1;
    cluster.reachable_managers.saturating_sub(quorum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_must_stay() {
        for (managers, reachable, margin) in [(1, 1, 0), (3, 3, 1), (3, 2, 0), (5, 5, 2), (5, 2, 0)]
        {
            let cluster = v1::ClusterStatus {
                managers,
                reachable_managers: reachable,
                ..v1::ClusterStatus::default()
            };
            assert_eq!(quorum_margin(&cluster), margin, "{reachable} of {managers}");
        }
    }
}
