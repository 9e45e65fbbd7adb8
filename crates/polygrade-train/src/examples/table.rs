//! Queries with their passages, in a few flat arrays: a batch touches many queries at random, and what stands together is
//! fetched together.

use super::{Judged, Scenario, Translation};
use crate::labelled::{Labelled, Pair};
use crate::labels::{Label, Policy};
use polygrade_data::Index;
use rayon::prelude::*;

/// A part of one of the arrays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Span {
    from: u32,
    to: u32,
}

impl Span {
    fn new(from: usize, to: usize) -> Span {
        Span { from: from as u32, to: to as u32 }
    }

    /// The items of the part.
    pub(super) fn of<T>(self, all: &[T]) -> &[T] {
        &all[self.from as usize..self.to as usize]
    }

    fn moved(self, by: usize) -> Span {
        Span::new(self.from as usize + by, self.to as usize + by)
    }
}

/// A query's passages in one language.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Variant {
    /// The language's place among those of the examples.
    pub(super) lang: usize,
    pub(super) policy: Policy,
    /// Parts of [`Table::passages`].
    pub(super) positives: Span,
    pub(super) negatives: Span,
    /// Hard negatives from a file, a part of [`Table::mined`].
    pub(super) mined: Span,
}

/// A query with its passages, by language where it meets several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Example {
    pub(super) query: Index,
    /// The language of the query.
    pub(super) lang: usize,
    /// A part of [`Table::variants`].
    pub(super) variants: Span,
    /// Judged texts, sorted: a part of [`Table::judged`].
    pub(super) judged: Span,
    /// Positives in all languages, sorted: a part of [`Table::parallel`]; empty unless parallel positives are asked for.
    pub(super) parallel: Span,
}

/// All examples.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) examples: Vec<Example>,
    pub(super) variants: Vec<Variant>,
    pub(super) passages: Vec<Index>,
    pub(super) mined: Vec<Index>,
    pub(super) judged: Vec<Judged>,
    pub(super) parallel: Vec<Translation>,
    /// Queries of the scenario without a positive.
    pub(super) without_positive: usize,
    /// Queries of each language, those without a positive included.
    pub(super) queries_by_lang: Vec<usize>,
}

/// What examples are gathered by.
pub(super) struct Gather<'a> {
    pub(super) labelled: &'a Labelled<'a>,
    pub(super) scenario: Scenario,
    pub(super) langs: usize,
    pub(super) text_of: &'a [u32],
    pub(super) unit_of: &'a [u32],
}

/// Queries that a thread gathers at once.
const CHUNK: usize = 4096;

impl Gather<'_> {
    /// The examples of all queries, in their order at any number of threads.
    pub(super) fn table(&self) -> Table {
        let queries: Vec<(Index, usize)> = self.labelled.queries().collect();
        let parts: Vec<Table> = queries.par_chunks(CHUNK).map(|chunk| self.part(chunk)).collect();
        let mut out = Table { queries_by_lang: vec![0; self.langs], ..Table::default() };
        parts.into_iter().for_each(|part| out.append(part));
        out
    }

    fn part(&self, queries: &[(Index, usize)]) -> Table {
        let mut out = Table { queries_by_lang: vec![0; self.langs], ..Table::default() };
        let (mut pairs, mut met) = (Vec::new(), Vec::new());
        for &(query, lang) in queries {
            pairs.clear();
            pairs.extend(self.labelled.pairs(query, lang));
            self.add(&mut out, (query, lang), &pairs, &mut met);
        }
        out
    }

    /// Adds a query with its judged passages; `met` is room for the languages that it meets.
    fn add(
        &self,
        out: &mut Table,
        (query, lang): (Index, usize),
        pairs: &[Pair],
        met: &mut Vec<(usize, Policy, bool)>,
    ) {
        met.clear();
        for pair in pairs {
            let Some(lang) = pair.lang else { continue };
            let positive = pair.label == Label::Positive;
            match met.iter_mut().find(|m| m.0 == lang) {
                Some(m) => m.2 |= positive,
                None => met.push((lang, pair.policy, positive)),
            }
        }
        if met.is_empty() {
            return;
        }
        out.queries_by_lang[lang] += 1;
        met.retain(|m| m.2);
        if met.is_empty() {
            out.without_positive += 1;
            return;
        }
        let variants = out.variants.len();
        for &(lang, policy, _) in &*met {
            let mut of = |label| {
                let from = out.passages.len();
                let here = pairs.iter().filter(|p| p.lang == Some(lang) && p.label == label);
                out.passages.extend(here.map(|p| p.passage));
                Span::new(from, out.passages.len())
            };
            let (positives, negatives) = (of(Label::Positive), of(Label::Negative));
            out.variants.push(Variant { lang, policy, positives, negatives, mined: Span::default() });
        }
        let judged = self.judged(out, pairs);
        let parallel = self.parallel(out, pairs);
        let variants = Span::new(variants, out.variants.len());
        out.examples.push(Example { query, lang, variants, judged, parallel });
    }

    /// The judged texts, each once with its highest grade and label.
    fn judged(&self, out: &mut Table, pairs: &[Pair]) -> Span {
        let from = out.judged.len();
        out.judged.extend(pairs.iter().map(|pair| Judged {
            text: self.text_of[pair.passage as usize],
            grade: pair.grade,
            label: pair.label,
            policy: pair.policy,
        }));
        out.judged[from..].sort_by_key(|j| j.text);
        let mut kept = from;
        for at in from + 1..out.judged.len() {
            let next = out.judged[at];
            let last = &mut out.judged[kept];
            if next.text == last.text {
                last.grade = last.grade.max(next.grade);
                last.label = last.label.max(next.label);
            } else {
                kept += 1;
                out.judged[kept] = next;
            }
        }
        out.judged.truncate(if pairs.is_empty() { from } else { kept + 1 });
        Span::new(from, out.judged.len())
    }

    fn parallel(&self, out: &mut Table, pairs: &[Pair]) -> Span {
        let from = out.parallel.len();
        if !self.unit_of.is_empty() {
            for pair in pairs.iter().filter(|p| p.label == Label::Positive) {
                let place = self.labelled.place_of(pair.passage);
                // Across languages, the query's own stays out.
                let stays = self.scenario != Scenario::CrossLingual || pair.lang.is_some();
                if let Some(place) = place.filter(|_| stays) {
                    out.parallel.push((self.unit_of[pair.passage as usize], place, pair.passage));
                }
            }
            out.parallel[from..].sort_unstable();
        }
        Span::new(from, out.parallel.len())
    }
}

impl Table {
    /// Adds the examples of another table behind these.
    fn append(&mut self, other: Table) {
        let (passages, variants) = (self.passages.len(), self.variants.len());
        let (judged, parallel) = (self.judged.len(), self.parallel.len());
        self.variants.extend(other.variants.into_iter().map(|v| Variant {
            positives: v.positives.moved(passages),
            negatives: v.negatives.moved(passages),
            ..v
        }));
        self.examples.extend(other.examples.into_iter().map(|e| Example {
            variants: e.variants.moved(variants),
            judged: e.judged.moved(judged),
            parallel: e.parallel.moved(parallel),
            ..e
        }));
        self.passages.extend(other.passages);
        self.judged.extend(other.judged);
        self.parallel.extend(other.parallel);
        self.without_positive += other.without_positive;
        self.queries_by_lang.iter_mut().zip(other.queries_by_lang).for_each(|(n, more)| *n += more);
    }

    /// The variants of an example.
    pub(super) fn variants(&self, example: &Example) -> &[Variant] {
        example.variants.of(&self.variants)
    }

    /// Puts hard negatives in place of those there are: for each variant, what `of` adds to the list.
    pub(super) fn set_mined(&mut self, mut of: impl FnMut(&Example, &Table, &Variant, &mut Vec<Index>)) {
        let mut mined = Vec::new();
        let mut spans = Vec::with_capacity(self.variants.len());
        for example in &self.examples {
            for variant in self.variants(example) {
                let from = mined.len();
                of(example, self, variant, &mut mined);
                spans.push(Span::new(from, mined.len()));
            }
        }
        // Variants stand in the order of their examples.
        self.variants.iter_mut().zip(spans).for_each(|(v, span)| v.mined = span);
        self.mined = mined;
    }
}
