//! How many different values a frame holds: each value with how often it is there.

/// Sorted by the bits of the value: 16 bytes per different value, and no hash seed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Vec<(u64, u32)>);

impl Tally {
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn enter(&mut self, x: f64) {
        if x.is_nan() {
            return;
        }
        match self.0.binary_search_by_key(&bits(x), |(value, _)| *value) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (bits(x), 1)),
        }
    }

    pub(crate) fn leave(&mut self, x: f64) {
        if x.is_nan() {
            return;
        }
        let at = self.0.binary_search_by_key(&bits(x), |(value, _)| *value);
        let at = at.expect("what leaves a frame has entered it");
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.remove(at);
        }
    }
}

/// Adding zero makes -0 the 0 that it equals.
fn bits(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_count_once_until_the_last_has_left() {
        let mut tally = Tally::default();
        [1.0, f64::NAN, 0.0, 1.0, -0.0, -3.5].into_iter().for_each(|x| tally.enter(x));
        assert_eq!(tally.count(), 3);
        [1.0, f64::NAN, 0.0].into_iter().for_each(|x| tally.leave(x));
        assert_eq!(tally.count(), 3);
        [1.0, 0.0].into_iter().for_each(|x| tally.leave(x));
        assert_eq!(tally.count(), 1);
    }
}
