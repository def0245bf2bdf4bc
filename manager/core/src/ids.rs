//! Identifiers of new objects, drawn from the seed of the proposal.
//!
//! The seed is 32 random bytes of the leader, so that each manager that applies the proposal draws the same identifiers.

/// A stream of identifiers from one seed. The first is the seed's first half as it is; later ones are mixed from both halves.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    seed: [u64; 4],
    drawn: u64,
}

impl Ids {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(seed.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self { seed: words, drawn: 0 }
    }

    pub(crate) fn draw(&mut self) -> [u8; 16] {
        let drawn = self.drawn;
        self.drawn += 1;
        let [mut high, mut low, more_high, more_low] = self.seed;
        if drawn > 0 {
            high ^= split_mix(more_high.wrapping_add(drawn));
            low ^= split_mix(more_low.wrapping_add(drawn));
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        id
    }
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014): a bijection that spreads near inputs far apart.
fn split_mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn one_seed_gives_distinct_and_repeatable_ids() {
        let seed = [7; 32];
        let mut ids = Ids::new(&seed);
        let drawn: BTreeSet<_> = (0..1000).map(|_| ids.draw()).collect();
        assert_eq!(drawn.len(), 1000);
        assert_eq!(Ids::new(&seed).draw(), [7; 16]);
    }
}
