//! The tuning of foca, and why.
//!
//! Budget of a death, bad luck included: a probe or the table's patrol looks at the victim within 1.0 s, three echoes are lost
//! (0.9 s) or the probe fails at the end of its period (0.5 s), nobody refutes (1.2 s), the word spreads (0.4 s), the echoes begun
//! at the suspicion are over by then: 3.5 s of the 5 s allowed. Simulated with the cluster of `engine/tests`, 100 to 200 seeds,
//! until *all* survivors see it: median 2.0–2.5 s, worst 2.2 s of 2 nodes, 3.3 s of 5, 3.0 s of 20, 4.0 s of 50. Without the
//! patrol the worst of 50 is 5.3 s, and with a period of 700 ms that of 5 nodes 4.6 s. foca's own defaults take 4 to 12 s.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

/// 1,232 bytes of UDP payload fit the smallest IPv6 MTU (1,280 = 40 + 8 + 1,232); the seal takes 62 of them.
pub(crate) const PLAINTEXT_BYTES_MAX: usize = 1_170;

/// From this size on a suspect gets more time, because its refutation travels further.
const LARGE_CLUSTER: usize = 200;

/// The configuration for a cluster of `nodes`, this one included. Differences between two calls are all allowed by
/// `Foca::set_config`.
pub(crate) fn foca_config(nodes: usize) -> Config {
    let suspicion_ms = if nodes > LARGE_CLUSTER { 2_200 } else { 1_200 };
    Config {
        probe_period: Duration::from_millis(500),
        probe_rtt: Duration::from_millis(200),
        num_indirect_probes: THREE,
        max_transmissions: transmissions(nodes),
        suspect_to_down_after: Duration::from_millis(suspicion_ms),
        // Never: memory is bound by the number of nodes, and a forgotten death could be replayed as news.
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(PLAINTEXT_BYTES_MAX).expect("not zero"),
        notify_down_members: true,
        // Repairs views that gossip left apart; the engine announces by itself to those it does not hear.
        periodic_announce: Some(PeriodicParams {
            frequency: Duration::from_secs(30),
            num_members: NonZeroUsize::MIN,
        }),
        periodic_announce_to_down_members: None,
        periodic_gossip: Some(PeriodicParams {
            frequency: Duration::from_millis(200),
            num_members: THREE,
        }),
    }
}

const THREE: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");

/// How often one piece of news is sent by each node: 6 + 4 for each decimal digit of the number of nodes. News that every one of n
/// nodes sends k times to random others misses somebody with probability n · e^-k. memberlist's 4 · log10(n + 1) leaves 1.6 % at
/// 50 nodes, and then that node finds the death by its own probes only, after 9 s (simulated); 14 leave 0.004 %.
fn transmissions(nodes: usize) -> NonZeroU8 {
    let digits = nodes.checked_ilog10().unwrap_or(0) + 1;
    let count = u8::try_from(6 + 4 * digits).unwrap_or(u8::MAX);
    NonZeroU8::new(count).expect("at least 10")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_is_repeated_more_in_larger_clusters() {
        let sent = [1, 9, 10, 100, 1_000].map(|n| transmissions(n).get());
        assert_eq!(sent, [10, 10, 14, 18, 22]);
    }

    #[test]
    fn a_probe_has_time_for_its_indirect_part() {
        let config = foca_config(5);
        assert!(config.probe_period > 2 * config.probe_rtt);
    }
}
