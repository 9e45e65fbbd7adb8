//! What is mined for: the queries, the pools of their candidates, and what each must never be given.

use crate::examples::{Scenario, text_numbers};
use crate::labelled::Labelled;
use crate::labels::{Label, LabelPolicies};
use polygrade_data::{Collection, Graded, Index, Lang};
use polygrade_index::TieOrder;
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Which languages the negatives of a query are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NegativeLangs {
    /// The query's own.
    Same,
    /// All but the query's own.
    Other,
    /// All, ranked together.
    Any,
    /// All, each ranked by itself, as many negatives from each.
    Balanced,
}

impl NegativeLangs {
    /// All with the names they go by.
    pub const ALL: [(&'static str, NegativeLangs); 4] = [
        ("same", NegativeLangs::Same),
        ("other", NegativeLangs::Other),
        ("any", NegativeLangs::Any),
        ("balanced", NegativeLangs::Balanced),
    ];
}

/// A query that is mined for.
struct Asked {
    query: Index,
    lang: u32,
    /// Judged positives that the scenario trains it with.
    positives: Vec<Index>,
    /// Judged passages with those of their group or text, ascending; one passage a text. Of several judgments the
    /// highest label counts. Passages of the query's own text are among them, as left out.
    known: Vec<(Index, Label)>,
    /// The passages among them that are not to be mined and whose scores are wanted, ascending.
    banned: Vec<Index>,
}

/// The queries to mine for, and the passages that may come up.
pub struct Task<'a> {
    pub(super) collection: &'a Collection,
    pub(super) ties: TieOrder,
    /// The first passage of each text; ascending.
    pub(super) passages: Vec<Index>,
    /// For each passage the first with its text.
    pub(super) first: Vec<Index>,
    langs: Vec<Lang>,
    pub(super) lang_of: Vec<u32>,
    which: NegativeLangs,
    asked: Vec<Asked>,
    without_positive: BTreeMap<Lang, usize>,
}

impl<'a> Task<'a> {
    /// The queries of `graded` in the languages `langs` that have a positive under `policies`, in a scenario's terms.
    pub fn new(
        collection: &'a Collection,
        graded: &Graded,
        (scenario, policies): (Scenario, &LabelPolicies),
        langs: &[Lang],
        which: NegativeLangs,
    ) -> Self {
        let texts = text_numbers(collection);
        let mut first_of = vec![Index::MAX; collection.passages.len()];
        let mut passages = Vec::new();
        let first: Vec<Index> = texts
            .iter()
            .enumerate()
            .map(|(p, &text)| {
                let first = &mut first_of[text as usize];
                if *first == Index::MAX {
                    *first = p as Index;
                    passages.push(p as Index);
                }
                *first
            })
            .collect();
        let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
        let all_langs = collection.langs();
        let place = |lang: &Lang| all_langs.binary_search(lang).unwrap_or(0) as u32;
        let lang_of: Vec<u32> = collection.passages.iter().map(|p| place(&p.lang)).collect();
        let kin = Kin::new(graded, &first);
        let mut of_text: FxHashMap<Cow<str>, Vec<Index>> = FxHashMap::default();
        for &p in &passages {
            of_text.entry(collection.passages[p as usize].full_text()).or_default().push(p);
        }
        let mut task = Task {
            collection,
            ties: TieOrder::new(&ids),
            passages,
            first,
            lang_of,
            which,
            asked: Vec::new(),
            without_positive: BTreeMap::new(),
            langs: all_langs.clone(),
        };
        let labelled = Labelled::new(collection, graded, scenario, langs, policies, false);
        for (query, query_lang) in labelled.queries() {
            let lang = &langs[query_lang];
            let mut labels: BTreeMap<Index, Label> = BTreeMap::new();
            let mut positives = Vec::new();
            for pair in labelled.pairs(query, query_lang) {
                let passage_lang = &collection.passages[pair.passage as usize].lang;
                if pair.label == Label::Positive && scenario.pairs(lang, passage_lang) {
                    positives.push(pair.passage);
                }
                for &relative in kin.of(pair.passage) {
                    let known = labels.entry(relative).or_insert(pair.label);
                    *known = pair.label.max(*known);
                }
            }
            // What says the same as the query is no negative of it.
            let own = of_text.get(collection.queries[query as usize].text.as_str());
            for &relative in own.into_iter().flatten().flat_map(|p| kin.of(*p)) {
                let known = labels.entry(relative).or_insert(Label::Dropped);
                *known = Label::Dropped.max(*known);
            }
            if positives.is_empty() {
                *task.without_positive.entry(lang.clone()).or_default() += 1;
            } else {
                let (known, banned) = (labels.into_iter().collect(), Vec::new());
                task.ask(Asked { query, lang: place(lang), positives, known, banned });
            }
        }
        task
    }

    /// Adds a query, with what is banned of what is known.
    fn ask(&mut self, mut asked: Asked) {
        let Asked { lang, known, .. } = &asked;
        let banned = known.iter().filter(|(_, label)| *label != Label::Negative);
        let pooled = |p: &Index| self.place(*lang, *p).is_some();
        let positive_inside = known.iter().any(|(p, label)| *label == Label::Positive && pooled(p));
        // Scores of positives outside of the languages that negatives come from are of use only where there are no
        // others.
        let wanted =
            |(p, label): &&(Index, Label)| pooled(p) || (!positive_inside && *label == Label::Positive);
        asked.banned = banned.filter(wanted).map(|(p, _)| *p).collect();
        self.asked.push(asked);
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.asked.len()
    }

    /// Whether there is no query to mine for.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// The number in the collection of the query at a place.
    pub fn query(&self, at: usize) -> Index {
        self.asked[at].query
    }

    /// The judged positives that the scenario trains a query with.
    pub fn positives(&self, at: usize) -> &[Index] {
        &self.asked[at].positives
    }

    /// The language of the query at a place.
    pub fn lang(&self, at: usize) -> &Lang {
        &self.langs[self.asked[at].lang as usize]
    }

    /// The passages that may come up, the first of each text; ascending.
    pub fn passages(&self) -> &[Index] {
        &self.passages
    }

    /// Queries of each language that have no positive under the policy.
    pub fn without_positive(&self) -> &BTreeMap<Lang, usize> {
        &self.without_positive
    }

    /// Number of pools: rankings of which each query has one.
    pub fn pools(&self) -> usize {
        if self.which == NegativeLangs::Balanced { self.langs.len() } else { 1 }
    }

    /// Whether each pool is in one language.
    pub(super) fn by_lang(&self) -> bool {
        matches!(self.which, NegativeLangs::Balanced | NegativeLangs::Same)
    }

    /// The pool of a query that a passage is in.
    pub fn pool_of(&self, at: usize, passage: Index) -> Option<usize> {
        self.place(self.asked[at].lang, passage)
    }

    fn place(&self, lang: u32, passage: Index) -> Option<usize> {
        let passage = self.lang_of[passage as usize];
        match self.which {
            NegativeLangs::Same => (lang == passage).then_some(0),
            NegativeLangs::Other => (lang != passage).then_some(0),
            NegativeLangs::Any => Some(0),
            NegativeLangs::Balanced => Some(passage as usize),
        }
    }

    /// The passages that must not be mined for a query and whose scores are wanted; ascending.
    pub fn banned(&self, at: usize) -> &[Index] {
        &self.asked[at].banned
    }

    fn known(&self, at: usize, passage: Index) -> Option<Label> {
        let known = &self.asked[at].known;
        known.binary_search_by_key(&passage, |(p, _)| *p).ok().map(|i| known[i].1)
    }

    /// Whether a passage, the first of its text, must not be mined for a query.
    pub fn is_banned(&self, at: usize, passage: Index) -> bool {
        self.known(at, passage).is_some_and(|label| label != Label::Negative)
    }

    /// Whether a passage, the first of its text, is a positive of a query, or of a positive's group or text.
    pub fn is_positive(&self, at: usize, passage: Index) -> bool {
        self.known(at, passage) == Some(Label::Positive)
    }

    /// Whether a passage, the first of its text, is judged for a query, or of the group or text of one that is.
    pub fn is_judged(&self, at: usize, passage: Index) -> bool {
        self.known(at, passage).is_some()
    }

    /// The passages that a dense source needs vectors of: those in a pool of any query, and the [banned](Task::banned);
    /// ascending.
    pub(super) fn needed(&self) -> Vec<Index> {
        let mut asking: Vec<u32> = self.asked.iter().map(|a| a.lang).collect();
        asking.sort_unstable();
        asking.dedup();
        let banned: FxHashSet<Index> = self.asked.iter().flat_map(|a| &a.banned).copied().collect();
        let needed =
            |p: &Index| asking.iter().any(|lang| self.place(*lang, *p).is_some()) || banned.contains(p);
        self.passages.iter().copied().filter(needed).collect()
    }

    /// Passages by language.
    pub(super) fn by_language(&self, passages: &[Index]) -> BTreeMap<u32, Vec<Index>> {
        let mut out: BTreeMap<u32, Vec<Index>> = BTreeMap::new();
        for &p in passages {
            out.entry(self.lang_of[p as usize]).or_default().push(p);
        }
        out
    }
}

/// Passages that are the same for judgments: joined by groups of translations and by equal texts, in any number of
/// steps.
struct Kin {
    /// The number of each passage's kin.
    of: Vec<u32>,
    /// The first passages of each text in it, ascending.
    members: Vec<Vec<Index>>,
}

impl Kin {
    fn new(graded: &Graded, first: &[Index]) -> Kin {
        // The root of a tree of passages is its lowest.
        let mut parent: Vec<u32> = (0..first.len() as u32).collect();
        fn root(parent: &mut [u32], mut p: u32) -> u32 {
            while parent[p as usize] != p {
                parent[p as usize] = parent[parent[p as usize] as usize];
                p = parent[p as usize];
            }
            p
        }
        let mut of_unit: FxHashMap<u32, u32> = FxHashMap::default();
        for p in 0..first.len() as u32 {
            let unit = *of_unit.entry(graded.passage_unit(p)).or_insert(p);
            for other in [unit, first[p as usize]] {
                let (a, b) = (root(&mut parent, p), root(&mut parent, other));
                parent[a.max(b) as usize] = a.min(b);
            }
        }
        let (mut numbers, mut members) = (FxHashMap::default(), Vec::new());
        let of = (0..first.len() as u32).map(|p| {
            let number = *numbers.entry(root(&mut parent, p)).or_insert_with(|| {
                members.push(Vec::new());
                members.len() as u32 - 1
            });
            if first[p as usize] == p {
                members[number as usize].push(p);
            }
            number
        });
        Kin { of: of.collect(), members }
    }

    fn of(&self, passage: Index) -> &[Index] {
        &self.members[self.of[passage as usize] as usize]
    }
}
