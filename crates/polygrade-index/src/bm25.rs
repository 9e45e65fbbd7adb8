//! BM25, the lexical baseline (Robertson and Zaragoza 2009, with Lucene's idf, which is never negative).
//!
//! score(q, d) = Σ over query words of log(1 + (N − df + ½)/(df + ½)) · tf / (tf + k₁(1 − b + b·|d|/avg))
//!
//! Words are Unicode's (UAX 29), lower-cased, without stemming; languages written without spaces use
//! character bigrams instead. Made for baselines in memory, not for serving: that is tantivy's work.

use crate::exact::Marks;
use crate::top::{TieOrder, Top};
use polygrade_data::Lang;
use polygrade_eval::Hit;
use polygrade_eval::rankings::Placed;
use rustc_hash::FxHashMap;
use unicode_segmentation::UnicodeSegmentation;

/// Saturation of the term frequency.
pub const K1: f32 = 0.9;
/// Strength of the length normalisation.
pub const B: f32 = 0.4;

/// An inverted index of some passages.
pub struct Bm25 {
    postings: FxHashMap<String, Vec<(u32, f32)>>,
    numbers: Vec<u32>,
    norms: Vec<f32>,
}

/// The terms of a text.
pub fn terms(text: &str, lang: &Lang) -> Vec<String> {
    let text = text.to_lowercase();
    if !lang.is_unspaced() {
        return text.unicode_words().map(str::to_owned).collect();
    }
    let mut out = Vec::new();
    // Runs of letters and marks; everything else separates.
    for run in text.split(|c: char| c.is_whitespace() || c.is_ascii_punctuation() || is_wide_punctuation(c)) {
        let chars: Vec<char> = run.chars().collect();
        match chars.len() {
            0 => {}
            1 => out.push(run.to_owned()),
            _ => out.extend(chars.windows(2).map(|w| w.iter().collect::<String>())),
        }
    }
    out
}

fn is_wide_punctuation(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3000}'..='\u{3020}' | '\u{ff01}'..='\u{ff0f}'
        | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
}

impl Bm25 {
    /// Indexes passages given by number, text and language.
    pub fn new<'a>(passages: impl Iterator<Item = (u32, &'a str, &'a Lang)>) -> Self {
        let (mut postings, mut numbers, mut lengths) = (FxHashMap::default(), Vec::new(), Vec::new());
        for (number, text, lang) in passages {
            let at = numbers.len() as u32;
            let terms = terms(text, lang);
            lengths.push(terms.len() as f32);
            numbers.push(number);
            for term in terms {
                let list: &mut Vec<(u32, f32)> = postings.entry(term).or_default();
                match list.last_mut() {
                    Some((last, tf)) if *last == at => *tf += 1.0,
                    _ => list.push((at, 1.0)),
                }
            }
        }
        let average = (lengths.iter().sum::<f32>() / lengths.len().max(1) as f32).max(1.0);
        let norms = lengths.iter().map(|l| K1 * (1.0 - B + B * l / average)).collect();
        Bm25 { postings, numbers, norms }
    }

    /// The best `k` passages that share a term with the query.
    pub fn search(&self, query: &str, lang: &Lang, k: usize, ties: &TieOrder) -> Vec<Hit> {
        self.search_placed(query, lang, k, ties, &[]).0
    }

    /// As [`Bm25::search`]; and the ranks in the whole pool of the passages `wanted`, in their order, those that share no
    /// term with the query last.
    pub fn search_placed(
        &self,
        query: &str,
        lang: &Lang,
        k: usize,
        ties: &TieOrder,
        wanted: &[u32],
    ) -> (Vec<Hit>, Vec<Placed>) {
        let hits = self.hits(query, lang);
        let marked = hits.iter().filter(|h| wanted.contains(&h.passage)).copied().collect();
        let (mut top, mut marks) = (Top::new(k, ties), Marks::new(marked, ties));
        for hit in hits {
            top.push(hit);
            marks.count(&hit, ties);
        }
        let mut placed = marks.ranks();
        let mut lost: Vec<u32> =
            wanted.iter().filter(|w| !placed.iter().any(|p| p.passage == **w)).copied().collect();
        lost.sort_unstable();
        let last = self.numbers.len();
        placed.extend(lost.into_iter().map(|passage| Placed { passage, rank: last, ranked: false }));
        (top.into_sorted(), placed)
    }

    /// All passages that share a term with the query, in no order.
    pub fn hits(&self, query: &str, lang: &Lang) -> Vec<Hit> {
        let n = self.numbers.len() as f32;
        let mut scores: FxHashMap<u32, f32> = FxHashMap::default();
        for term in terms(query, lang) {
            let Some(list) = self.postings.get(&term) else { continue };
            let df = list.len() as f32;
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            for &(at, tf) in list {
                *scores.entry(at).or_default() += idf * tf / (tf + self.norms[at as usize]);
            }
        }
        scores.into_iter().map(|(at, score)| Hit { passage: self.numbers[at as usize], score }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_equal_the_formula() {
        let en = Lang::parse("en").unwrap();
        let texts = ["a cat sat on the mat", "the dog", "cat cat dog"];
        let index = Bm25::new(texts.iter().enumerate().map(|(i, t)| (i as u32, *t, &en)));
        let ties = TieOrder::new(&["a", "b", "c"]);
        let hits = index.search("Cat!", &en, 10, &ties);
        let idf = (1.0f32 + (3.0 - 2.0 + 0.5) / (2.0 + 0.5)).ln();
        let avg = 11.0 / 3.0;
        let want = |tf: f32, len: f32| idf * tf / (tf + K1 * (1.0 - B + B * len / avg));
        assert_eq!(hits.iter().map(|h| h.passage).collect::<Vec<_>>(), [2, 0]);
        assert!((hits[0].score - want(2.0, 3.0)).abs() < 1e-6);
        assert!((hits[1].score - want(1.0, 6.0)).abs() < 1e-6);
        assert!(index.search("zebra", &en, 10, &ties).is_empty());
    }

    /// Against places in the whole ranking, ties and passages without a common term included.
    #[test]
    fn ranks_by_counting_are_places_in_the_whole_ranking() {
        let en = Lang::parse("en").unwrap();
        let texts: Vec<String> = (0..300).map(|i| ["cat ", "dog "][i % 2].repeat(1 + i % 7)).collect();
        let index = Bm25::new(texts.iter().enumerate().map(|(i, t)| (i as u32, t.as_str(), &en)));
        let ids: Vec<String> = (0..300).map(|i| format!("d{i}")).collect();
        let ties = TieOrder::new(&ids);
        let whole = index.search("cat", &en, 300, &ties);
        assert_eq!(whole.len(), 150);
        let (hits, placed) = index.search_placed("cat", &en, 7, &ties, &[299, 4, 200, 8, 1]);
        assert_eq!(hits[..], whole[..7]);
        let rank = |p: u32| whole.iter().position(|h| h.passage == p).map(|at| at + 1);
        for p in &placed {
            assert_eq!((p.ranked, p.rank), (rank(p.passage).is_some(), rank(p.passage).unwrap_or(300)));
        }
        assert_eq!(placed[3..].iter().map(|p| p.passage).collect::<Vec<_>>(), [1, 299]);
        assert!(placed[0].rank < placed[1].rank && placed[1].rank < placed[2].rank);
    }

    #[test]
    fn languages_without_spaces_use_bigrams() {
        let zh = Lang::parse("zh").unwrap();
        assert_eq!(terms("桌子高，好", &zh), ["桌子", "子高", "好"]);
        assert_eq!(terms("Don't stop", &Lang::parse("en").unwrap()), ["don't", "stop"]);
    }
}
