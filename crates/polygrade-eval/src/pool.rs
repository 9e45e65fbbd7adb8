//! Pools: the passages that a query is ranked against, and the topics that follow from a ranked list.

use crate::measure::Topic;
use polygrade_data::{Collection, Graded, Index, Lang};

/// Which passages a query is ranked against, by language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pool {
    /// Those in the query's own language (mono-same).
    Same,
    /// All of them (multi).
    All,
    /// Those in the named languages, whatever the query's.
    Langs(Vec<Lang>),
}

impl Pool {
    /// Parses `same`, `all`, or languages separated by commas.
    pub fn parse(text: &str) -> Option<Pool> {
        match text {
            "same" => Some(Pool::Same),
            "all" => Some(Pool::All),
            langs => langs.split(',').map(|l| Lang::parse(l.trim())).collect::<Option<_>>().map(Pool::Langs),
        }
    }

    /// Whether a passage in `passage` is in the pool of a query in `query`.
    pub fn holds(&self, query: &Lang, passage: &Lang) -> bool {
        match self {
            Pool::Same => query == passage,
            Pool::All => true,
            Pool::Langs(langs) => langs.contains(passage),
        }
    }

    /// The passages in the pool of a query in `query`.
    pub fn passages(&self, collection: &Collection, query: &Lang) -> Vec<Index> {
        let passages = collection.passages.iter().enumerate();
        passages.filter(|(_, p)| self.holds(query, &p.lang)).map(|(i, _)| i as Index).collect()
    }
}

/// The topic of a ranked list. Only judgments of passages inside the pool count for the ideal order; a
/// judgment of a passage's translation counts as its own.
pub fn topic(
    collection: &Collection,
    graded: &Graded,
    pool: &Pool,
    query: Index,
    ranked: impl Iterator<Item = Index>,
) -> Topic {
    let lang = &collection.queries[query as usize].lang;
    let inside = |p: Index| pool.holds(lang, &collection.passages[p as usize].lang);
    Topic {
        ranked: ranked.map(|p| graded.grade(query, p)).collect(),
        judged: graded.judged(query).filter(|(p, _)| inside(*p)).map(|(_, g)| g).collect(),
    }
}
