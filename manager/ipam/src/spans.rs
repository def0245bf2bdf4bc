//! A sparse set of numbers as closed, disjoint, non-adjacent spans: a full /8 and an empty /64 both cost what is used.

use std::collections::BTreeMap;

/// First number → last number. Operations cost O(log spans).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spans(BTreeMap<u128, u128>);

impl Spans {
    fn around(&self, n: u128) -> Option<(u128, u128)> {
        self.0.range(..=n).next_back().map(|(a, b)| (*a, *b)).filter(|(_, last)| n <= *last)
    }

    pub fn contains(&self, n: u128) -> bool {
        self.around(n).is_some()
    }

    /// `false` when it was there.
    pub fn insert(&mut self, n: u128) -> bool {
        if self.contains(n) {
            return false;
        }
        self.insert_span(n, n);
        true
    }

    /// Adds all numbers of `first..=last`, merging what it touches.
    pub fn insert_span(&mut self, mut first: u128, mut last: u128) {
        if let Some((a, b)) = self.0.range(..=first).next_back().map(|(a, b)| (*a, *b))
            && b.saturating_add(1) >= first
        {
            first = a;
            last = last.max(b);
        }
        while let Some((a, b)) =
            self.0.range(first..=last.saturating_add(1)).next().map(|(a, b)| (*a, *b))
        {
            self.0.remove(&a);
            last = last.max(b);
        }
        self.0.insert(first, last);
    }

    /// `false` when it was not there.
    pub fn remove(&mut self, n: u128) -> bool {
        let Some((first, last)) = self.around(n) else { return false };
        self.0.remove(&first);
        if first < n {
            self.0.insert(first, n - 1);
        }
        if n < last {
            self.0.insert(n + 1, last);
        }
        true
    }

    /// Every number, ascending. For small sets only.
    pub fn iter(&self) -> impl Iterator<Item = u128> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The lowest number of `from..=to` that is not in the set.
    pub fn gap(&self, from: u128, to: u128) -> Option<u128> {
        let n = match self.around(from) {
            None => from,
            Some((_, last)) => last.checked_add(1)?,
        };
        (n <= to).then_some(n)
    }

    /// The first span that touches `from..=to`.
    pub fn first_in(&self, from: u128, to: u128) -> Option<(u128, u128)> {
        self.around(from).or_else(|| self.0.range(from..=to).next().map(|(a, b)| (*a, *b)))
    }

    /// How many numbers of `from..=to` are in the set.
    pub fn count(&self, from: u128, to: u128) -> u128 {
        let mut count = 0;
        let mut at = from;
        while let Some((first, last)) = self.first_in(at, to) {
            let end = last.min(to);
            count += end - first.max(at) + 1;
            if end == to {
                break;
            }
            at = end + 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(ops in prop::collection::vec((any::<bool>(), 0..40u128), 0..200)) {
            let mut spans = Spans::default();
            let mut model = BTreeSet::new();
            for (add, n) in ops {
                if add {
                    prop_assert_eq!(spans.insert(n), model.insert(n));
                } else {
                    prop_assert_eq!(spans.remove(n), model.remove(&n));
                }
                let flat: BTreeSet<u128> = spans.0.iter().flat_map(|(a, b)| *a..=*b).collect();
                prop_assert_eq!(&flat, &model);
                for (from, to) in [(0, 40), (3, 17), (20, 20)] {
                    prop_assert_eq!(spans.gap(from, to), (from..=to).find(|n| !model.contains(n)));
                    prop_assert_eq!(spans.count(from, to), model.range(from..=to).count() as u128);
                }
                let apart = spans.0.iter().zip(spans.0.iter().skip(1)).all(|((_, b), (c, _))| b + 1 < *c);
                prop_assert!(apart, "adjacent spans are one");
            }
        }

        #[test]
        fn spans_merge(list in prop::collection::vec((0..60u128, 0..9u128), 0..20)) {
            let mut spans = Spans::default();
            let mut model = BTreeSet::new();
            for (first, len) in list {
                spans.insert_span(first, first + len);
                model.extend(first..=first + len);
                let flat: BTreeSet<u128> = spans.0.iter().flat_map(|(a, b)| *a..=*b).collect();
                prop_assert_eq!(&flat, &model);
            }
        }
    }

    #[test]
    fn the_last_number_has_no_next() {
        let mut spans = Spans::default();
        spans.insert(u128::MAX);
        assert_eq!(spans.gap(u128::MAX, u128::MAX), None);
        assert_eq!(spans.count(0, u128::MAX), 1);
    }
}
