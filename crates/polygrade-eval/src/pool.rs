//! Pools: the passages that a query is ranked against, named by language, and the topics that follow from a
//! ranked list.
//!
//! A pool follows from the languages of query and passage alone. Its name and the collection are all it takes to
//! make it again: [`Pool`]'s `Display` gives the name, [`Pool::parse`] takes it back.
//!
//! | name | passages of a query in language ℓ | also read as |
//! |---|---|---|
//! | `mono-same` | those in ℓ | `same` |
//! | `mono-cross:zh` | those in zh; queries in zh have no place in this pool | |
//! | `mono:zh` | those in zh, whatever ℓ | `zh` |
//! | `multi:en+zh` | those in en and zh, whatever ℓ | `en,zh` |
//! | `multi:own+en` | those in ℓ and in en | `own+en` |
//! | `multi` | all | `all` |

use crate::measure::Topic;
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Which passages a query is ranked against, by language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pool {
    /// Those in the query's own language (mono-same).
    Same,
    /// Those in this language, for queries in other languages (mono-cross).
    Cross(Lang),
    /// Those in the named languages, whatever the query's.
    Langs(Vec<Lang>),
    /// Those in the query's own language and in the named ones.
    OwnAnd(Vec<Lang>),
    /// All of them (multi).
    All,
}

impl Pool {
    /// Parses a pool's name or one of its other spellings; languages are sorted and each is taken once. `None`
    /// where it is no pool.
    pub fn parse(text: &str) -> Option<Pool> {
        match text {
            "mono-same" | "same" => return Some(Pool::Same),
            "multi" | "all" => return Some(Pool::All),
            _ => {}
        }
        if let Some(lang) = text.strip_prefix("mono-cross:") {
            return Lang::parse(lang).map(Pool::Cross);
        }
        if let Some(lang) = text.strip_prefix("mono:") {
            return Lang::parse(lang).map(|l| Pool::Langs(vec![l]));
        }
        let (mut langs, mut own) = (Vec::new(), false);
        for part in text.strip_prefix("multi:").unwrap_or(text).split(['+', ',']) {
            match part.trim() {
                "own" => own = true,
                tag => langs.push(Lang::parse(tag)?),
            }
        }
        langs.sort();
        langs.dedup();
        match (own, langs.is_empty()) {
            (true, true) => Some(Pool::Same),
            (true, false) => Some(Pool::OwnAnd(langs)),
            (false, _) => Some(Pool::Langs(langs)),
        }
    }

    /// The pools that a text asks for: one by its name, or `mono-cross` for one of each language of the
    /// collection's passages, or `matrix` for those and `mono-same`.
    pub fn parse_many(text: &str, passage_langs: &[Lang]) -> Option<Vec<Pool>> {
        let cross = || passage_langs.iter().cloned().map(Pool::Cross);
        match text {
            "mono-cross" => Some(cross().collect()),
            "matrix" => Some([Pool::Same].into_iter().chain(cross()).collect()),
            _ => Pool::parse(text).map(|p| vec![p]),
        }
    }

    /// Whether queries in this language have a place in the pool.
    pub fn serves(&self, query: &Lang) -> bool {
        !matches!(self, Pool::Cross(lang) if lang == query)
    }

    /// Whether a passage in `passage` is in the pool of a query in `query`.
    pub fn holds(&self, query: &Lang, passage: &Lang) -> bool {
        match self {
            Pool::Same => query == passage,
            Pool::Cross(lang) => lang == passage && lang != query,
            Pool::Langs(langs) => langs.contains(passage),
            Pool::OwnAnd(langs) => query == passage || langs.contains(passage),
            Pool::All => true,
        }
    }

    /// Whether the pool differs between query languages.
    pub fn depends_on_query(&self) -> bool {
        matches!(self, Pool::Same | Pool::OwnAnd(_))
    }

    /// Whether passages in several languages may meet in the pool.
    pub fn mixes(&self) -> bool {
        match self {
            Pool::Same | Pool::Cross(_) => false,
            Pool::Langs(langs) => langs.len() > 1,
            Pool::OwnAnd(_) | Pool::All => true,
        }
    }

    /// The languages that the pool's name names.
    pub fn named(&self) -> &[Lang] {
        match self {
            Pool::Same | Pool::All => &[],
            Pool::Cross(lang) => std::slice::from_ref(lang),
            Pool::Langs(langs) | Pool::OwnAnd(langs) => langs,
        }
    }

    /// Refuses a pool that names a language in which the collection has no passages, or in which none of the queries
    /// has a place.
    ///
    /// # Errors
    /// [`Error::Usage`], which names the pool.
    pub fn check(&self, collection: &Collection, query_langs: &[Lang]) -> Result<()> {
        let lacks = |l: &&Lang| !collection.passages.iter().any(|p| p.lang == **l);
        if let Some(missing) = self.named().iter().find(lacks) {
            return Err(Error::Usage(format!(
                "pool {self}: {} has no passages in {missing}",
                collection.meta.name
            )));
        }
        if !query_langs.iter().any(|l| self.serves(l)) {
            return Err(Error::Usage(format!("pool {self}: all queries are in that language")));
        }
        Ok(())
    }

    /// The passages in the pool of a query in `query`, ascending.
    pub fn passages(&self, collection: &Collection, query: &Lang) -> Vec<Index> {
        let passages = collection.passages.iter().enumerate();
        passages.filter(|(_, p)| self.holds(query, &p.lang)).map(|(i, _)| i as Index).collect()
    }

    /// How many passages of each language are in the pool of a query in `query`.
    pub fn sizes(&self, collection: &Collection, query: &Lang) -> BTreeMap<Lang, usize> {
        let mut sizes = BTreeMap::new();
        for passage in collection.passages.iter().filter(|p| self.holds(query, &p.lang)) {
            *sizes.entry(passage.lang.clone()).or_default() += 1;
        }
        sizes
    }

    /// What is in the pool, in words.
    pub fn describe(&self) -> String {
        let list = |langs: &[Lang]| langs.iter().map(Lang::as_str).collect::<Vec<_>>().join(" and ");
        match self {
            Pool::Same => "passages in the query's own language".into(),
            Pool::Cross(lang) => format!("passages in {lang}, for queries in other languages"),
            Pool::Langs(langs) => format!("passages in {}, for all queries", list(langs)),
            Pool::OwnAnd(langs) => format!("passages in the query's own language and in {}", list(langs)),
            Pool::All => "passages in all languages".into(),
        }
    }

    /// The name as part of a file's name: `multi.en+zh`.
    pub fn file_name(&self) -> String {
        self.to_string().replace(':', ".")
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |langs: &[Lang]| langs.iter().map(Lang::as_str).collect::<Vec<_>>().join("+");
        match self {
            Pool::Same => f.write_str("mono-same"),
            Pool::Cross(lang) => write!(f, "mono-cross:{lang}"),
            Pool::Langs(langs) if langs.len() == 1 => write!(f, "mono:{}", langs[0]),
            Pool::Langs(langs) => write!(f, "multi:{}", list(langs)),
            Pool::OwnAnd(langs) => write!(f, "multi:own+{}", list(langs)),
            Pool::All => f.write_str("multi"),
        }
    }
}

impl Serialize for Pool {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lang(tag: &str) -> Lang {
        Lang::parse(tag).unwrap()
    }

    #[test]
    fn names_round_trip_and_old_spellings_are_read() {
        for name in ["mono-same", "mono-cross:zh", "mono:zh", "multi:en+zh", "multi:own+en", "multi"] {
            assert_eq!(Pool::parse(name).unwrap().to_string(), name);
        }
        for (old, name) in [
            ("same", "mono-same"),
            ("own", "mono-same"),
            ("all", "multi"),
            ("zh", "mono:zh"),
            ("zh, en,zh", "multi:en+zh"),
            ("own+en", "multi:own+en"),
            ("multi:zh", "mono:zh"),
            ("multi:pt_br+en", "multi:en+pt-BR"),
        ] {
            assert_eq!(Pool::parse(old).unwrap().to_string(), name, "{old}");
        }
        for bad in ["", "everything", "multi:", "mono:", "mono-cross:", "mono:en+zh", "en+", "mono-cross"] {
            assert_eq!(Pool::parse(bad), None, "{bad}");
        }
        let langs = [lang("en"), lang("zh")];
        assert_eq!(Pool::parse_many("mono-cross", &langs).unwrap().len(), 2);
        assert_eq!(Pool::parse_many("matrix", &langs).unwrap()[0], Pool::Same);
    }

    #[test]
    fn pools_hold_what_they_say() {
        let (en, zh, ar) = (lang("en"), lang("zh"), lang("ar"));
        let holds = |name: &str, q: &Lang| {
            let pool = Pool::parse(name).unwrap();
            [&en, &zh, &ar].map(|p| pool.holds(q, p))
        };
        assert_eq!(holds("mono-same", &zh), [false, true, false]);
        assert_eq!(holds("mono-cross:zh", &ar), [false, true, false]);
        assert_eq!(holds("mono-cross:zh", &zh), [false; 3]);
        assert_eq!(holds("zh", &zh), [false, true, false]);
        assert_eq!(holds("en+zh", &ar), [true, true, false]);
        assert_eq!(holds("own+en", &ar), [true, false, true]);
        assert_eq!(holds("own+en", &en), [true, false, false]);
        assert_eq!(holds("multi", &en), [true; 3]);
        assert!(!Pool::parse("mono-cross:zh").unwrap().serves(&zh));
    }
}
