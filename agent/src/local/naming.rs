//! Names for sandboxes whose user gave none: two words and, when those are taken, a number. Drawn from bytes that the caller drew.

use swarmnet_types::Name;

const FIRST: [&str; 32] = [
    "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp",
    "eager", "fair", "fleet", "fond", "gentle", "glad", "grand", "keen", "kind", "light", "lively",
    "merry", "neat", "noble", "proud", "quick", "quiet", "sharp", "solid", "sunny", "swift",
    "warm",
];
const SECOND: [&str; 32] = [
    "badger", "bee", "bison", "crane", "dove", "eagle", "egret", "falcon", "finch", "fox", "gull",
    "hare", "heron", "ibex", "jay", "kite", "lark", "lynx", "marten", "moose", "newt", "orca",
    "otter", "owl", "puffin", "raven", "robin", "seal", "stork", "swan", "tern", "wren",
];

/// A name that `taken` does not know. Ends because names with ever larger numbers follow.
pub fn choose(random: [u8; 16], taken: impl Fn(&str) -> bool) -> Name {
    let pick = |words: &[&'static str; 32], byte: u8| words[usize::from(byte % 32)];
    let base = format!("{}-{}", pick(&FIRST, random[0]), pick(&SECOND, random[1]));
    let mut name = base.clone();
    let mut number = 2_u64;
    while taken(&name) {
        name = format!("{base}-{number}");
        number += 1;
    }
    Name::new(name).expect("words, hyphens and digits are a DNS label")
}
