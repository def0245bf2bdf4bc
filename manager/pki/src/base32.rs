//! Base 32 in Crockford's alphabet, lower case: no `i l o u`, so that no two characters look alike. Big endian, without
//! padding. Only the canonical form decodes: any other text is an error, so no two texts mean the same bytes.

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `ceil(8 n / 5)` characters for `n` bytes.
#[cfg(test)]
pub(crate) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

pub(crate) fn encode(bytes: &[u8], out: &mut String) {
    let (mut pending, mut bits) = (0u32, 0);
    for byte in bytes {
        pending = pending << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(pending >> bits & 31) as usize]));
        }
        pending &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(pending << (5 - bits) & 31) as usize]));
    }
}

/// The whole bytes that `text` begins with, and whether it ends as an encoding ends: fewer than five bits left over, all
/// of them zero. `None` when a character is not of the alphabet.
pub(crate) fn decode(text: &str) -> Option<(Vec<u8>, bool)> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut pending, mut bits) = (0u32, 0);
    for c in text.bytes() {
        let digit = ALPHABET.iter().position(|a| *a == c)?;
        pending = pending << 5 | digit as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
            pending &= (1 << bits) - 1;
        }
    }
    Some((bytes, bits < 5 && pending == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_round_trips() {
        for len in 0..40u8 {
            let bytes: Vec<u8> = (0..len).map(|i| i.wrapping_mul(37) ^ 0xa5).collect();
            let mut text = String::new();
            encode(&bytes, &mut text);
            assert_eq!(text.len(), encoded_len(bytes.len()));
            assert_eq!(decode(&text), Some((bytes, true)), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        assert_eq!(decode("o"), None);
        assert_eq!(decode("A"), None);
        assert_eq!(decode("zz"), Some((vec![0xff], false)), "two bits left over, not zero");
        assert_eq!(decode("zw0"), Some((vec![0xff], false)), "seven bits left over");
    }
}
