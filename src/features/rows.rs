//! The exact rows of one entity in the order of time, then of arrival: a ring that grows and shrinks by a quarter.

use serde::{Deserialize, Serialize};

/// Rows that are never worth a smaller ring.
const CAPACITY_MIN: usize = 4;

/// Rows are numbered; the number of a row changes only when another one is placed before it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub(crate) struct Rows {
    /// The number of the oldest row.
    first: u64,
    head: usize,
    len: usize,
    /// As long as the ring has places.
    times: Box<[i64]>,
    /// Place by place, `stride` numbers each.
    values: Box<[f64]>,
    stride: usize,
}

/// What is saved of [`Rows`]: nothing of how they lie in memory.
#[derive(Serialize, Deserialize)]
struct Saved {
    first: u64,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl From<Saved> for Rows {
    fn from(Saved { first, times, values }: Saved) -> Self {
        let stride = if times.is_empty() { 0 } else { values.len() / times.len() };
        Self { first, head: 0, len: times.len(), times: times.into(), values: values.into(), stride }
    }
}

impl From<Rows> for Saved {
    fn from(rows: Rows) -> Self {
        let times = (0..rows.len).map(|index| rows.time(index)).collect();
        let values = (0..rows.len).flat_map(|index| rows.row(index)).copied().collect();
        Self { first: rows.first, times, values }
    }
}

impl PartialEq for Rows {
    /// Bit for bit, so that a NULL (NaN) equals itself.
    fn eq(&self, other: &Self) -> bool {
        let bits = |rows: &Self, index: usize| rows.row(index).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        (self.first, self.len) == (other.first, other.len)
            && (0..self.len).all(|i| self.time(i) == other.time(i) && bits(self, i) == bits(other, i))
    }
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of the oldest row.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next row gets.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.len as u64
    }

    /// The place from the oldest on of the row with this number.
    pub(crate) fn index(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    pub(crate) fn time(&self, index: usize) -> i64 {
        self.times[self.slot(index)]
    }

    pub(crate) fn newest_ms(&self) -> Option<i64> {
        self.len.checked_sub(1).map(|index| self.time(index))
    }

    /// The numbers kept of a row.
    pub(crate) fn row(&self, index: usize) -> &[f64] {
        let from = self.slot(index) * self.stride;
        &self.values[from..from + self.stride]
    }

    /// The rows before the first one of at least this time.
    pub(crate) fn before(&self, time_ms: i64) -> usize {
        self.partition(|t| t < time_ms)
    }

    /// Whether these can be rows of so many numbers each.
    pub(crate) fn have(&self, arguments: usize) -> bool {
        self.len == 0 || (self.stride == arguments && self.values.len() == self.times.len() * arguments)
    }

    /// Puts a row after all of its time or before, and answers its number. `fill` writes its `arguments` numbers.
    pub(crate) fn insert(&mut self, arguments: usize, time_ms: i64, fill: impl FnOnce(&mut [f64])) -> u64 {
        if self.len == self.times.len() {
            self.stride = arguments;
            self.resize(self.len + (self.len / 4).max(CAPACITY_MIN));
        }
        let index = match self.newest_ms() {
            Some(newest_ms) if time_ms < newest_ms => self.partition(|t| t <= time_ms),
            _ => self.len,
        };
        self.len += 1;
        for later in (index + 1..self.len).rev() {
            let (to, from) = (self.slot(later), self.slot(later - 1));
            self.times[to] = self.times[from];
            self.values.copy_within(from * self.stride..(from + 1) * self.stride, to * self.stride);
        }
        let slot = self.slot(index);
        self.times[slot] = time_ms;
        fill(&mut self.values[slot * self.stride..(slot + 1) * self.stride]);
        self.first + index as u64
    }

    pub(crate) fn pop_oldest(&mut self) {
        assert!(self.len > 0, "there is an oldest row");
        self.head = self.slot(1);
        self.len -= 1;
        self.first += 1;
        if self.len * 2 < self.times.len() && self.times.len() > 4 * CAPACITY_MIN {
            self.resize(self.len + (self.len / 4).max(CAPACITY_MIN));
        }
    }

    /// The rows before the first for which `earlier` is false.
    fn partition(&self, earlier: impl Fn(i64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if earlier(self.time(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn slot(&self, index: usize) -> usize {
        let slot = self.head + index;
        if slot < self.times.len() { slot } else { slot - self.times.len() }
    }

    fn resize(&mut self, capacity: usize) {
        let mut times = Vec::with_capacity(capacity);
        let mut values = Vec::with_capacity(capacity * self.stride);
        for index in 0..self.len {
            times.push(self.time(index));
            values.extend_from_slice(self.row(index));
        }
        times.resize(capacity, 0);
        values.resize(capacity * self.stride, 0.0);
        (self.times, self.values, self.head) = (times.into(), values.into(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_a_sorted_list() {
        let (mut rows, mut list) = (Rows::default(), Vec::new());
        for step in 0..2_000_u64 {
            let noise = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let growing = step / 500 % 2 == 0;
            if list.is_empty() || noise % 8 < if growing { 6 } else { 2 } {
                let time_ms = (step + noise % 16) as i64;
                let number = rows.insert(2, time_ms, |row| row.copy_from_slice(&[step as f64, -1.0]));
                let index = list.partition_point(|(t, _)| *t <= time_ms);
                list.insert(index, (time_ms, step as f64));
                assert_eq!(rows.index(number), index);
            } else {
                rows.pop_oldest();
                list.remove(0);
            }
            let found: Vec<_> = (0..rows.len()).map(|i| (rows.time(i), rows.row(i)[0])).collect();
            assert_eq!(found, list);
            assert_eq!(rows.before(step as i64), list.partition_point(|(t, _)| *t < step as i64));
            assert!(rows.times.len() <= (2 * rows.len() + 8).max(4 * CAPACITY_MIN), "the ring follows the rows");
            let again: Rows = postcard::from_bytes(&postcard::to_stdvec(&rows).unwrap()).unwrap();
            assert!(again == rows && again.have(2) && (rows.len() == 0 || !again.have(1)));
        }
        assert!(rows.first() > 500);
    }
}
