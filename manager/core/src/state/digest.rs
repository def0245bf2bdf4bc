//! A fingerprint of the tables, to compare managers with.
//!
//! FNV-1a over 128 bits (Fowler, Noll, Vo) of the postcard form. It finds divergence, not forgery: managers trust each other.

use super::tables::Tables;

/// The digest of a state.
pub type Digest = [u8; 16];

const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = (1 << 88) + (1 << 8) + 0x3b;

struct Fnv(u128);

impl Extend<u8> for Fnv {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        self.0 = bytes.into_iter().fold(self.0, |h, b| (h ^ u128::from(b)).wrapping_mul(PRIME));
    }
}

pub(crate) fn of(tables: &Tables) -> Digest {
    let hash = postcard::to_extend(tables, Fnv(OFFSET_BASIS))
        .expect("tables hold maps and sequences of known length only, which postcard can write");
    hash.0.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_the_published_vectors() {
        let hash = |text: &str| {
            let mut fnv = Fnv(OFFSET_BASIS);
            fnv.extend(text.bytes());
            fnv.0
        };
        assert_eq!(hash(""), OFFSET_BASIS);
        assert_eq!(hash("a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(hash("foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
