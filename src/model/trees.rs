//! `extra_trees`: trees that were fitted elsewhere (`learn/refit`), walked here. They learn nothing online.

use serde::{Deserialize, Serialize};

use super::encode::Encoded;

/// What the trees read of an event, in the order of their inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeInput {
    /// The number at this place; `missing` stands in where it is missing.
    Number { place: usize, missing: f64 },
    /// 1 where the category at this place fell into this bucket, else 0.
    Bucket { place: usize, bucket: u32 },
}

/// A node: to `left` where the input is at most `threshold`, else to `left + 1`. A leaf leads to itself, so that all trees take the same number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Node {
    threshold: f64,
    left: u32,
    input: u32,
}

/// A tree before it is laid out: a leaf, which is a share of anomalies, or a split at an input's threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    Leaf(f64),
    Split { input: usize, threshold: f64, below: Box<Branch>, above: Box<Branch> },
}

impl Branch {
    pub(crate) fn reads_only(&self, inputs: usize) -> bool {
        match self {
            Branch::Leaf(share) => (0.0..=1.0).contains(share),
            Branch::Split { input, threshold, below, above } => {
                *input < inputs && threshold.is_finite() && below.reads_only(inputs) && above.reads_only(inputs)
            }
        }
    }
}

/// A forest whose mean leaf is the share of anomalies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    inputs: Vec<TreeInput>,
    roots: Vec<u32>,
    nodes: Vec<Node>,
    /// By node; only those of leaves are read.
    shares: Vec<f64>,
    depth: usize,
}

/// Trees walked side by side: their loads do not wait for each other. 100 trees of 4,096 labels take 2.1 us with 20, 2.5 with 8 (`cargo bench --bench models`).
const SIDE_BY_SIDE: usize = 20;
/// So much of a share is added to both sides before their odds are taken, so that no leaf is certain.
const SHARE_UNSURE: f64 = 0.01;

impl Trees {
    /// # Panics
    /// When a split reads an input that is not there.
    #[must_use]
    pub fn new(inputs: Vec<TreeInput>, trees: &[Branch]) -> Self {
        let mut forest = Self { inputs, roots: Vec::new(), nodes: Vec::new(), shares: Vec::new(), depth: 0 };
        for tree in trees {
            let root = forest.room(1);
            forest.roots.push(root);
            forest.lay_out(root, tree, 0);
        }
        forest
    }

    fn room(&mut self, nodes: usize) -> u32 {
        let at = u32::try_from(self.nodes.len()).expect("a forest has fewer nodes than u32 counts");
        self.nodes.resize(self.nodes.len() + nodes, Node { threshold: f64::INFINITY, left: 0, input: 0 });
        self.shares.resize(self.nodes.len(), 0.0);
        at
    }

    fn lay_out(&mut self, at: u32, branch: &Branch, depth: usize) {
        self.depth = self.depth.max(depth);
        match branch {
            Branch::Leaf(share) => {
                self.nodes[at as usize].left = at;
                self.shares[at as usize] = *share;
            }
            Branch::Split { input, threshold, below, above } => {
                assert!(*input < self.inputs.len(), "a split reads an input of the forest");
                let left = self.room(2);
                self.nodes[at as usize] = Node { threshold: *threshold, left, input: *input as u32 };
                self.lay_out(left, below, depth + 1);
                self.lay_out(left + 1, above, depth + 1);
            }
        }
    }

    /// What the trees read, and each tree.
    pub(crate) fn parts(&self) -> (&[TreeInput], Vec<Branch>) {
        (&self.inputs, self.roots.iter().map(|root| self.branch(*root)).collect())
    }

    fn branch(&self, at: u32) -> Branch {
        let node = self.nodes[at as usize];
        if node.left == at {
            return Branch::Leaf(self.shares[at as usize]);
        }
        Branch::Split {
            input: node.input as usize,
            threshold: node.threshold,
            below: Box::new(self.branch(node.left)),
            above: Box::new(self.branch(node.left + 1)),
        }
    }

    /// The mean share of anomalies over the trees, from 0 to 1.
    pub(crate) fn share(&self, values: &[f64], buckets: &[u32]) -> f64 {
        let read = |input: &TreeInput| match *input {
            TreeInput::Number { place, missing } => {
                let x = values[place];
                if x.is_nan() { missing } else { x }
            }
            TreeInput::Bucket { place, bucket } => f64::from(u8::from(buckets[place] == bucket)),
        };
        let x: Vec<f64> = self.inputs.iter().map(read).collect();
        let mut sum = 0.0;
        for roots in self.roots.chunks(SIDE_BY_SIDE) {
            let mut at = [roots[0]; SIDE_BY_SIDE];
            at[..roots.len()].copy_from_slice(roots);
            for _ in 0..self.depth {
                for at in &mut at {
                    let node = &self.nodes[*at as usize];
                    // A leaf's threshold is infinite: it goes to itself.
                    *at = node.left + u32::from(x[node.input as usize] > node.threshold);
                }
            }
            for at in &at[..roots.len()] {
                sum += self.shares[*at as usize];
            }
        }
        sum / self.roots.len().max(1) as f64
    }

    /// The log odds of [`share`](Self::share).
    pub(crate) fn margin(&self, encoded: &Encoded) -> f64 {
        self.margin_of(&encoded.values, &encoded.buckets)
    }

    pub(crate) fn margin_of(&self, values: &[f64], buckets: &[u32]) -> f64 {
        let share = self.share(values, buckets);
        libm::log((share + SHARE_UNSURE) / (1.0 - share + SHARE_UNSURE))
    }

    pub(crate) fn reads(&self, numbers: usize, categories: usize) -> bool {
        self.inputs.iter().all(|input| match *input {
            TreeInput::Number { place, missing } => place < numbers && missing.is_finite(),
            TreeInput::Bucket { place, .. } => place < categories,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.roots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(threshold: f64) -> Branch {
        let leaf = |share| Box::new(Branch::Leaf(share));
        let south = Branch::Split { input: 1, threshold: 0.5, below: leaf(0.25), above: leaf(1.0) };
        Branch::Split { input: 0, threshold, below: leaf(0.0), above: Box::new(south) }
    }

    #[test]
    fn trees_are_walked_as_they_were_grown() {
        let inputs = vec![TreeInput::Number { place: 0, missing: 9.0 }, TreeInput::Bucket { place: 0, bucket: 7 }];
        let grown: Vec<Branch> = (0..11).map(|i| tree(f64::from(i))).chain([Branch::Leaf(0.5)]).collect();
        let trees = Trees::new(inputs, &grown);
        for (x, bucket) in [(-1.0, 7), (3.0, 7), (3.0, 8), (1e300, 7), (f64::NAN, 8)] {
            let read = if x.is_nan() { 9.0 } else { x };
            let share = |i: f64| {
                if read <= i {
                    0.0
                } else if bucket == 7 {
                    1.0
                } else {
                    0.25
                }
            };
            let expected = ((0..11).map(|i| share(f64::from(i))).sum::<f64>() + 0.5) / 12.0;
            assert_eq!(trees.share(&[x], &[bucket]), expected, "{x} {bucket}");
        }
        assert_eq!(trees.parts().1, grown);
    }
}
