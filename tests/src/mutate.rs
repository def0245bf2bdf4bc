//! Bytes that a program has not written itself: good ones, spoiled by chance, and no good ones at all.

use crate::rng::Rng;

/// More than any of our formats holds in one field: what grows by doubling stays below.
const LEN_MAX: usize = 64 << 10;
/// Where counts, lengths and signs break.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// A number at which something may break.
pub fn extreme(rng: &mut Rng) -> u64 {
    let at = rng.index(EXTREMES.len());
    EXTREMES[at].wrapping_add(rng.below(3)).wrapping_sub(1)
}

/// So many bytes of no meaning.
pub fn noise(rng: &mut Rng, len: usize) -> Vec<u8> {
    std::iter::repeat_with(|| rng.next().to_le_bytes()[0]).take(len).collect()
}

/// Spoils bytes in one to four places.
pub fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        spoil(rng, bytes);
    }
}

fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.index(bytes.len());
    let to = at + rng.index(bytes.len().saturating_sub(at)).min(256);
    match rng.below(8) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        2 if !bytes.is_empty() => bytes[at] = extreme(rng).to_le_bytes()[0],
        3 => bytes.truncate(at),
        4 => {
            bytes.drain(at..to);
        }
        5 if bytes.len() < LEN_MAX => {
            let again = bytes[at..to].to_vec();
            bytes.splice(at..at, again);
        }
        6 => {
            let len = rng.index(9);
            let number = extreme(rng);
            let number = if rng.chance(500) { number.to_le_bytes() } else { number.to_be_bytes() };
            let end = (at + len.min(8)).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        _ => {
            let len = rng.index(16);
            let noise = noise(rng, len);
            bytes.splice(at..at, noise);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_spoils_always_the_same_and_never_without_end() {
        let run = |seed| {
            let (mut rng, mut bytes) = (Rng::new(seed), b"a message of some length".to_vec());
            for _ in 0..10_000 {
                mutate(&mut rng, &mut bytes);
            }
            bytes
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        assert!((1..10).all(|seed| run(seed).len() < LEN_MAX + 1024));
    }

    #[test]
    fn empty_bytes_are_spoiled_too() {
        let spoiled = (0..100).any(|seed| {
            let mut bytes = Vec::new();
            mutate(&mut Rng::new(seed), &mut bytes);
            !bytes.is_empty()
        });
        assert!(spoiled);
    }
}
