//! Published ports and VXLAN identifiers that the cluster chooses.

use swarmnet_ipam::Spans;
use swarmnet_types::Vni;
use swarmnet_types::publish::DYNAMIC_PORTS;

/// The next dynamic port behind the cursor for which `free` holds.
pub(crate) fn next_port(cursor: u16, free: impl Fn(u16) -> bool) -> Option<u16> {
    let start = if DYNAMIC_PORTS.contains(&cursor) { cursor + 1 } else { *DYNAMIC_PORTS.start() };
    (start..=*DYNAMIC_PORTS.end()).chain(*DYNAMIC_PORTS.start()..start).find(|p| free(*p))
}

/// The next VNI behind the cursor; never the ingress network's.
pub(crate) fn next_vni(cursor: u32, taken: &Spans) -> Option<Vni> {
    let first = u128::from(Vni::INGRESS.get()) + 1;
    let last = u128::from(Vni::MAX);
    let start = (u128::from(cursor) + 1).max(first);
    taken
        .gap(start, last)
        .or_else(|| taken.gap(first, last))
        .map(|n| Vni::new(n as u32).expect("between the first and the last"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_turn_and_end() {
        assert_eq!(next_port(0, |_| true), Some(30_000));
        assert_eq!(next_port(30_000, |_| true), Some(30_001));
        assert_eq!(next_port(32_767, |_| true), Some(30_000));
        assert_eq!(next_port(32_767, |p| p == 32_767), Some(32_767));
        assert_eq!(next_port(31_000, |_| false), None);
    }

    #[test]
    fn vnis_start_behind_the_ingress() {
        let mut taken = Spans::default();
        assert_eq!(next_vni(0, &taken).map(Vni::get), Some(4097));
        taken.insert(4098);
        assert_eq!(next_vni(4097, &taken).map(Vni::get), Some(4099));
        assert_eq!(next_vni(Vni::MAX, &taken).map(Vni::get), Some(4097));
        taken.insert_span(4097, u128::from(Vni::MAX));
        assert_eq!(next_vni(5000, &taken), None);
    }
}
