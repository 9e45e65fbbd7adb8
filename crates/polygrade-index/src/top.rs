//! The best k of a stream of scores.

use polygrade_eval::Hit;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Where equal scores leave passages: by id, descending, as in trec_eval.
#[derive(Debug, Clone)]
pub struct TieOrder {
    /// For each passage the place of its id in descending order of bytes.
    place: Arc<[u32]>,
}

impl TieOrder {
    /// From the ids of all passages, by number.
    pub fn new<S: AsRef<str>>(ids: &[S]) -> Self {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by(|a, b| ids[*b as usize].as_ref().cmp(ids[*a as usize].as_ref()));
        let mut place = vec![0; ids.len()];
        order.into_iter().enumerate().for_each(|(i, p)| place[p as usize] = i as u32);
        TieOrder { place: place.into() }
    }

    /// The order of two hits; `Less` comes first. Scores that are no numbers come last.
    pub fn compare(&self, a: &Hit, b: &Hit) -> Ordering {
        let by_score = match (a.score.is_nan(), b.score.is_nan()) {
            // Not total_cmp: 0.0 and -0.0 are a tie.
            (false, false) => b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal),
            (a, b) => a.cmp(&b),
        };
        by_score.then_with(|| self.place[a.passage as usize].cmp(&self.place[b.passage as usize]))
    }
}

struct Entry<'a>(Hit, &'a TieOrder);

impl Ord for Entry<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.1.compare(&self.0, &other.0)
    }
}
impl PartialOrd for Entry<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Entry<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry<'_> {}

/// Keeps the best k hits pushed.
pub struct Top<'a> {
    k: usize,
    ties: &'a TieOrder,
    /// The worst is on top.
    heap: BinaryHeap<Entry<'a>>,
}

impl<'a> Top<'a> {
    /// An empty one, for the best `k`.
    pub fn new(k: usize, ties: &'a TieOrder) -> Self {
        Top { k, ties, heap: BinaryHeap::new() }
    }

    /// Whether a hit would be kept.
    pub fn takes(&self, hit: &Hit) -> bool {
        self.heap.len() < self.k
            || self.heap.peek().is_some_and(|worst| self.ties.compare(hit, &worst.0).is_lt())
    }

    /// Adds a hit, which drives out the worst where there are k.
    pub fn push(&mut self, hit: Hit) {
        if self.heap.len() < self.k {
            self.heap.push(Entry(hit, self.ties));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && self.ties.compare(&hit, &worst.0).is_lt()
        {
            worst.0 = hit;
        }
    }

    /// The hits kept, best first.
    pub fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|e| e.0).collect()
    }
}
