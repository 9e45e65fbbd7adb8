//! What is in a collection: counts, grades, the class balance under every threshold, and what looks wrong.
//!
//! One streaming pass; memory grows with the number of texts (hashes, not the texts themselves): about
//! 100 bytes a passage. Detection of languages runs in parallel over blocks of texts.

use crate::agreement;
use crate::check::Index;
use crate::error::{Problems, Result};
use crate::lang::{self, Lang};
use crate::record::{Meta, Origin, RawText, Split};
use crate::scan::{self, Visitor};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Texts with fewer characters than this, white space aside, count as near-empty.
pub const NEAR_EMPTY_CHARS: usize = 4;

/// Texts in one block of language detection.
const BLOCK: usize = 4096;

/// Most thresholds to report.
const MAX_STEPS: usize = 100;

/// How many examples are kept of each finding.
const EXAMPLES: usize = 5;

/// The profile of a collection.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// What the collection says of itself.
    pub meta: Meta,
    /// Languages, sorted by tag.
    pub languages: Vec<LangProfile>,
    /// Judgments in each split.
    pub splits: BTreeMap<Split, u64>,
    /// Who judged and how well they agree; `None` where the files name no annotators or sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// Groups of translations among the passages.
    pub groups: u64,
    /// Invalid records, which are not counted above.
    pub problems: u64,
}

/// Agreement of the judgments that name an annotator or a source.
#[derive(Debug, Default, Serialize)]
pub struct Agreement {
    /// Judgments of each annotator.
    pub annotators: BTreeMap<String, u64>,
    /// Judgments of each source.
    pub sources: BTreeMap<String, u64>,
    /// Pairs that were judged more than once.
    pub shared_pairs: u64,
    /// Krippendorff's α over them, see [`crate::agreement`]; `None` where it is not defined.
    pub alpha: Option<f64>,
    /// The same for each language of queries.
    pub alpha_by_lang: BTreeMap<String, Option<f64>>,
}

/// The profile of one language. Judgments are counted under the language of their query.
#[derive(Debug, Default, Serialize)]
pub struct LangProfile {
    /// The tag.
    pub lang: String,
    /// Passages.
    pub passages: u64,
    /// Queries.
    pub queries: u64,
    /// Queries with a judgment.
    pub judged_queries: u64,
    /// Judgments.
    pub judgments: u64,
    /// Judgments by grade; fractional grades are counted by the half grade below.
    pub grades: BTreeMap<String, u64>,
    /// Judgments per judged query: least, mean, most.
    pub judged_per_query: (u64, f64, u64),
    /// The class balance under each threshold.
    pub thresholds: Vec<ThresholdProfile>,
    /// Passages and queries with fewer than [`NEAR_EMPTY_CHARS`] characters.
    pub near_empty: Finding,
    /// Passages whose text occurs before in the same language.
    pub duplicates: Finding,
    /// Texts whose detected language contradicts the declared one.
    pub wrong_lang: Finding,
    /// Whether the detector knows the language at all.
    pub lang_detectable: bool,
    /// Groups that have a passage in another language but none in this one.
    pub missing_translations: u64,
}

/// Positives and negatives under one threshold.
#[derive(Debug, Clone, Serialize)]
pub struct ThresholdProfile {
    /// Grades at or above it are positives.
    pub threshold: f32,
    /// Positive judgments.
    pub positives: u64,
    /// Negative judgments.
    pub negatives: u64,
    /// Judged queries left without a positive.
    pub queries_without_positive: u64,
}

/// How often something was found, with the first ids.
#[derive(Debug, Default, Serialize)]
pub struct Finding {
    /// How often.
    pub count: u64,
    /// The first few ids; a contradicted language as `id (declared, looks detected)`.
    pub examples: Vec<String>,
}

impl Finding {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

/// Profiles the collection in `dir`. Invalid records are left out and returned, `limit` of them in full.
pub fn profile(dir: &Path, limit: usize) -> Result<(Profile, Problems)> {
    let mut p = Profiler::default();
    let (meta, problems) = scan::scan(dir, limit, &mut p)?;
    p.detect();
    Ok((p.finish(meta, problems.total()), problems))
}

#[derive(Default)]
struct Lane {
    lang: Option<Lang>,
    out: LangProfile,
    texts: FxHashSet<u128>,
    /// Judgments by grade in half steps.
    halves: BTreeMap<u32, u64>,
    /// Judged queries by their best grade in half steps.
    best: BTreeMap<u32, u64>,
}

/// Per query: its lane, judgments and best grade.
struct QueryTally {
    lane: u32,
    judgments: u32,
    best_half: u32,
}

#[derive(Default)]
struct Profiler {
    lanes: Vec<Lane>,
    lane_of: FxHashMap<Lang, u32>,
    queries: Vec<QueryTally>,
    splits: BTreeMap<Split, u64>,
    /// Group → number of its set of languages; sets are shared, as there are few different ones.
    groups: FxHashMap<u64, u32>,
    sets: Vec<Vec<u32>>,
    set_of: FxHashMap<Vec<u32>, u32>,
    pending: Vec<(u32, String, String)>,
    agreement: Agreement,
    /// Judgments with an origin.
    votes: Vec<(Index, Index, f32)>,
}

impl Profiler {
    fn lane(&mut self, lang: Lang) -> u32 {
        if let Some(&lane) = self.lane_of.get(&lang) {
            return lane;
        }
        let lane = self.lanes.len() as u32;
        self.lanes.push(Lane { lang: Some(lang.clone()), ..Lane::default() });
        self.lane_of.insert(lang, lane);
        lane
    }

    fn text(&mut self, lane: u32, id: String, text: String) {
        if text.chars().filter(|c| !c.is_whitespace()).take(NEAR_EMPTY_CHARS).count() < NEAR_EMPTY_CHARS {
            self.lanes[lane as usize].out.near_empty.add(|| id.clone());
        }
        self.pending.push((lane, id, text));
        if self.pending.len() >= BLOCK {
            self.detect();
        }
    }

    fn detect(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let lanes = &self.lanes;
        let found: Vec<Option<Lang>> = pending
            .par_iter()
            .map(|(lane, _, text)| lanes[*lane as usize].lang.as_ref().and_then(|l| lang::disagrees(l, text)))
            .collect();
        for ((lane, id, _), found) in pending.into_iter().zip(found) {
            if let Some(found) = found {
                let out = &mut self.lanes[lane as usize];
                let declared = out.lang.as_ref().map_or("und", Lang::as_str);
                out.out.wrong_lang.add(|| format!("{id} ({declared}, looks {found})"));
            }
        }
    }

    fn finish(mut self, meta: Meta, problems: u64) -> Profile {
        for q in self.queries.iter().filter(|q| q.judgments > 0) {
            let lane = &mut self.lanes[q.lane as usize];
            *lane.best.entry(q.best_half).or_default() += 1;
            let n = u64::from(q.judgments);
            let (least, sum, most) = lane.out.judged_per_query;
            let least = if lane.out.judged_queries == 0 { n } else { least.min(n) };
            lane.out.judged_per_query = (least, sum + n as f64, most.max(n));
            lane.out.judged_queries += 1;
        }
        let mut set_sizes = vec![0u64; self.sets.len()];
        self.groups.values().for_each(|&s| set_sizes[s as usize] += 1);
        let fractional = self.lanes.iter().any(|l| l.halves.keys().any(|h| h % 2 == 1));
        let grades: BTreeSet<u32> = self.lanes.iter().flat_map(|l| l.halves.keys().copied()).collect();
        let groups = self.groups.len() as u64;
        let agreement = (!self.votes.is_empty()).then(|| self.agreement());
        let (sets, mut lanes) = (self.sets, self.lanes);
        for (i, lane) in lanes.iter_mut().enumerate() {
            let has = |set: &Vec<u32>| set.contains(&(i as u32));
            // A language outside all groups takes no part in the parallel texts.
            if sets.iter().any(has) {
                let missing = sets.iter().zip(&set_sizes).filter(|(set, _)| !has(set));
                lane.out.missing_translations = missing.map(|(_, n)| n).sum();
            }
            lane.close(meta.grades.max, fractional, &grades);
        }
        let mut languages: Vec<LangProfile> = lanes.into_iter().map(|l| l.out).collect();
        languages.sort_by(|a, b| a.lang.cmp(&b.lang));
        Profile { meta, languages, splits: self.splits, agreement, groups, problems }
    }

    fn agreement(&mut self) -> Agreement {
        self.votes.sort_by_key(|(q, p, _)| (*q, *p));
        let units: Vec<(u32, Vec<f32>)> = self
            .votes
            .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
            .filter(|votes| votes.len() > 1)
            .map(|votes| (self.queries[votes[0].0 as usize].lane, votes.iter().map(|v| v.2).collect()))
            .collect();
        let of = |lane: Option<u32>| {
            let inside = units.iter().filter(|(l, _)| lane.is_none_or(|lane| lane == *l));
            agreement::alpha(inside.map(|(_, grades)| grades.as_slice()))
        };
        let lanes: BTreeSet<u32> = units.iter().map(|(lane, _)| *lane).collect();
        let name = |lane: u32| self.lanes[lane as usize].lang.as_ref().map_or("und", Lang::as_str).to_owned();
        Agreement {
            shared_pairs: units.len() as u64,
            alpha: of(None),
            alpha_by_lang: lanes.into_iter().map(|lane| (name(lane), of(Some(lane)))).collect(),
            ..std::mem::take(&mut self.agreement)
        }
    }
}

/// The thresholds to report, in half grades: all up to the highest grade of a usual scale, on a wider one those
/// that occur, and never more than [`MAX_STEPS`].
fn steps(max: f32, fractional: bool, grades: &BTreeSet<u32>) -> Vec<u32> {
    let every = if fractional { 1 } else { 2 };
    let all: Vec<u32> = match max {
        m if m <= 10.0 => (every..=2 * m as u32).step_by(every as usize).collect(),
        _ => grades.iter().copied().filter(|h| *h > 0).collect(),
    };
    let thin = all.len().div_ceil(MAX_STEPS).max(1);
    all.into_iter().step_by(thin).collect()
}

impl Lane {
    fn close(&mut self, max: f32, fractional: bool, grades: &BTreeSet<u32>) {
        let lang = self.lang.clone().unwrap_or_else(Lang::unknown);
        self.out.lang = lang.to_string();
        self.out.lang_detectable = lang::detectable(&lang);
        if self.out.judged_queries > 0 {
            self.out.judged_per_query.1 /= self.out.judged_queries as f64;
        }
        self.out.grades = self.halves.iter().map(|(h, n)| ((f64::from(*h) / 2.0).to_string(), *n)).collect();
        for half in steps(max, fractional, grades) {
            let above = |map: &BTreeMap<u32, u64>| map.range(half..).map(|(_, n)| n).sum::<u64>();
            let positives = above(&self.halves);
            self.out.thresholds.push(ThresholdProfile {
                threshold: half as f32 / 2.0,
                positives,
                negatives: self.out.judgments - positives,
                queries_without_positive: self.out.judged_queries - above(&self.best),
            });
        }
    }
}

impl Visitor for Profiler {
    fn passage(&mut self, _: Index, lang: Lang, raw: RawText) {
        let lane = self.lane(lang);
        let out = &mut self.lanes[lane as usize];
        out.out.passages += 1;
        if !out.texts.insert(xxh3_128(raw.text.trim().as_bytes())) {
            out.out.duplicates.add(|| raw.id.clone());
        }
        if let Some(group) = &raw.group {
            let key = xxh3_64(group.as_bytes());
            let mut set = self.groups.get(&key).map_or_else(Vec::new, |&s| self.sets[s as usize].clone());
            if let Err(at) = set.binary_search(&lane) {
                set.insert(at, lane);
                let next = self.sets.len() as u32;
                let number = *self.set_of.entry(set.clone()).or_insert(next);
                if number == next {
                    self.sets.push(set);
                }
                self.groups.insert(key, number);
            }
        }
        self.text(lane, raw.id, raw.text);
    }

    fn query(&mut self, _: Index, lang: Lang, raw: RawText) {
        let lane = self.lane(lang);
        self.lanes[lane as usize].out.queries += 1;
        self.queries.push(QueryTally { lane, judgments: 0, best_half: 0 });
        self.text(lane, raw.id, raw.text);
    }

    fn judgment(&mut self, split: Split, query: Index, passage: Index, grade: f32, origin: Origin) {
        if !origin.is_none() {
            self.votes.push((query, passage, grade));
            let counted = [
                (&mut self.agreement.annotators, origin.annotator),
                (&mut self.agreement.sources, origin.source),
            ];
            for (counts, name) in counted {
                if let Some(name) = name {
                    *counts.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
        *self.splits.entry(split).or_default() += 1;
        let half = (grade * 2.0).floor() as u32;
        let tally = &mut self.queries[query as usize];
        tally.judgments += 1;
        tally.best_half = tally.best_half.max(half);
        let lane = &mut self.lanes[tally.lane as usize];
        lane.out.judgments += 1;
        *lane.halves.entry(half).or_default() += 1;
    }
}
