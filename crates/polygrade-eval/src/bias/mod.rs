//! Language bias: what a ranking in a pool of several languages does to the languages.
//!
//! D is the pool, R_q the relevant passages of query q in it (grade ≥ `rel`), all translations among them. "Own" is the
//! query's language. Shares are percentages, as the papers print them.
//!
//! | measure | definition, for one query | source |
//! |---|---|---|
//! | Max@R | rank of the worst-placed of R_q | arXiv 2604.05684 |
//! | Max@R_norm | 100 · (log₂\|D\| − log₂ Max@R) / (log₂\|D\| − log₂\|R_q\|) | arXiv 2604.05684 |
//! | Comp@k | 100 where Max@R ≤ k, else 0 | arXiv 2604.05684; the formula is our reading |
//! | LPR(own), LPR(ℓ) | 100 where the best-placed of R_q is in the language, else 0 | arXiv 2605.07249 |
//! | Top1(…) | 100 where the first passage is relevant or not, in the query's language or not | arXiv 2605.07249 |
//! | Inclination(ℓ)@k | of the passages above the first relevant one in the query's language, k at most, the percentage that is in ℓ and not relevant; 0 where nothing is above | "English inclination" of arXiv 2604.05684, made a formula |
//! | Inclination(own)@k | the same for passages in the query's own language: no preference among languages puts as many of each above | |
//! | RankGap | log₂ of the best rank of R_q in the query's language, less the mean of the same over the other languages | |
//! | RankDistance | mean over pairs of languages of \|log₂ of the ratio of their best ranks in R_q\| | |
//! | RR1(ℓ) | 1 / rank of the best of R_q in ℓ, were R_q's passages in other languages not in the pool | LAReQA's one-answer pool, arXiv 2004.05484 |
//! | Share(ℓ)@k | percentage of the top k that is in ℓ; compare with the pool's share | |
//! | PEER(g)@k | Kruskal–Wallis p-value that the ranks of the passages of grade g do not depend on their language | Yang et al., SIGIR 2024 |
//!
//! A measure is undefined for a query that cannot show it (no relevant passage in the query's language, say); it is then
//! a mean over the queries that can.

mod kruskal;
pub(crate) mod sentences;

use kruskal::kruskal_wallis;
use polygrade_data::Lang;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Grades that PEER is computed for at most; where more occur they are no classes but a scale, and only 0 is kept.
const PEER_GRADES: usize = 20;

/// Passages that PEER looks at in each ranking.
pub const PEER_DEPTH: usize = 100;

/// A ranked passage as the measures see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen<'a> {
    /// Its language.
    pub lang: &'a Lang,
    /// Its grade; 0 where it is not judged.
    pub grade: f32,
    /// Its rank in the whole pool, from 1; the pool's size where it is not ranked.
    pub rank: usize,
    /// Whether the system ranks it at all.
    pub ranked: bool,
}

/// One query's ranking in one pool.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The query's language.
    pub own: &'a Lang,
    /// Passages of each language in the pool.
    pub sizes: &'a BTreeMap<Lang, usize>,
    /// The ranking from the top, as deep as it was made.
    pub top: Vec<Seen<'a>>,
    /// All passages of the pool with a grade above 0, wherever they rank.
    pub graded: Vec<Seen<'a>>,
    /// The lowest grade that is relevant.
    pub rel: f32,
}

/// What stands first in a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct First {
    /// It is relevant.
    pub relevant: bool,
    /// It is in the query's language.
    pub own: bool,
}

/// A measure of language bias; its `Display` is its name.
#[derive(Debug, Clone, PartialEq)]
pub enum Bias {
    /// Rank of the worst-placed relevant passage.
    MaxR,
    /// The same on a scale from 0, the worst, to 100, the best.
    MaxRNorm,
    /// All relevant passages are in the top k.
    Complete(usize),
    /// The best-placed relevant passage is in the query's language.
    PreferenceOwn,
    /// The best-placed relevant passage is in this language.
    Preference(Lang),
    /// What the first passage is.
    Top1(First),
    /// Irrelevant passages in this language above the right one in the query's.
    Inclination(Lang, usize),
    /// The same in the query's own language.
    InclinationOwn(usize),
    /// How much deeper the query's own language is placed than the others.
    RankGap,
    /// How far apart the languages are placed.
    RankDistance,
    /// Reciprocal rank in this language without the other translations.
    OneTarget(Lang),
    /// Share of the top k in this language.
    Share(Lang, usize),
    /// Whether ranks of passages of this grade are independent of language.
    Peer(u32, usize),
}

impl View<'_> {
    fn relevant(&self) -> impl Iterator<Item = &Seen<'_>> {
        self.graded.iter().filter(|s| s.grade >= self.rel)
    }

    /// The pool's size.
    pub fn pool_size(&self) -> usize {
        self.sizes.values().sum()
    }

    /// The best rank of a relevant passage in each language that has one.
    pub fn best_ranks(&self) -> BTreeMap<&Lang, usize> {
        let mut best = BTreeMap::new();
        for seen in self.relevant() {
            let rank = best.entry(seen.lang).or_insert(seen.rank);
            *rank = seen.rank.min(*rank);
        }
        best
    }

    /// Whether a relevant passage is ranked.
    fn finds_any(&self) -> bool {
        self.relevant().any(|s| s.ranked)
    }

    /// Whether each language of the pool has as many relevant passages as the others.
    pub fn is_even(&self) -> bool {
        let count = |lang: &Lang| self.relevant().filter(|s| s.lang == lang).count();
        let mut counts = self.sizes.keys().map(count);
        let first = counts.next();
        counts.all(|c| Some(c) == first)
    }

    /// The rank of the worst-placed relevant passage.
    pub fn max_at_r(&self) -> Option<usize> {
        self.relevant().map(|s| s.rank).max()
    }

    /// Of the top k, those above the first relevant passage in the query's language; `None` where there is none.
    fn above_own(&self, k: usize) -> Option<&[Seen<'_>]> {
        let first = self.relevant().filter(|s| s.lang == self.own).map(|s| s.rank).min()?;
        Some(&self.top[..k.min(first - 1).min(self.top.len())])
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole as f64
}

impl Bias {
    /// All measures of pools with these languages, looking at the top `k`; PEER for 0 and for `grades`, the whole parts
    /// of those that occur, or for 0 alone where more than 20 do.
    pub fn all(langs: &BTreeSet<Lang>, grades: &BTreeSet<u32>, k: usize) -> Vec<Bias> {
        let each = |f: &dyn Fn(Lang) -> Bias| langs.iter().cloned().map(f).collect::<Vec<_>>();
        let mut all = vec![Bias::MaxR, Bias::MaxRNorm, Bias::Complete(k), Bias::RankGap, Bias::RankDistance];
        all.push(Bias::PreferenceOwn);
        all.extend(each(&Bias::Preference));
        all.push(Bias::InclinationOwn(k));
        all.extend(each(&|l| Bias::Inclination(l, k)));
        all.extend(each(&|l| Bias::Share(l, k)));
        all.extend(each(&Bias::OneTarget));
        for relevant in [true, false] {
            all.extend([true, false].map(|own| Bias::Top1(First { relevant, own })));
        }
        let mut peer = BTreeSet::from([0]);
        if grades.len() <= PEER_GRADES {
            peer.extend(grades);
        }
        all.extend(peer.into_iter().map(|g| Bias::Peer(g, PEER_DEPTH)));
        all
    }

    /// Whether small values are good, where that can be said.
    pub fn lower_is_better(&self) -> Option<bool> {
        match self {
            Bias::MaxR | Bias::Inclination(..) | Bias::InclinationOwn(_) | Bias::RankDistance => Some(true),
            Bias::MaxRNorm | Bias::Complete(_) | Bias::OneTarget(_) | Bias::Peer(..) => Some(false),
            Bias::Top1(first) if first.own => Some(!first.relevant),
            _ => None,
        }
    }

    /// The value for a query; `None` where it is not defined.
    pub fn of(&self, view: &View) -> Option<f64> {
        let share = |yes: bool| if yes { 100.0 } else { 0.0 };
        match self {
            Bias::MaxR => view.max_at_r().map(|m| m as f64),
            Bias::MaxRNorm => {
                let max = view.max_at_r()? as f64;
                let (d, r) = (view.pool_size() as f64, view.relevant().count() as f64);
                // Where all passages are relevant, every ranking is perfect.
                Some(if d > r { 100.0 * (d / max).log2() / (d / r).log2() } else { 100.0 })
            }
            Bias::Complete(k) => {
                let max = view.max_at_r()?;
                Some(share(max <= *k && view.relevant().all(|s| s.ranked)))
            }
            Bias::PreferenceOwn => preferred(view, view.own),
            Bias::Preference(lang) => preferred(view, lang),
            Bias::Top1(first) => {
                view.top.first().filter(|_| view.relevant().next().is_some()).map(|s| {
                    share(*first == First { relevant: s.grade >= view.rel, own: s.lang == view.own })
                })
            }
            Bias::Inclination(lang, k) => {
                let other = lang != view.own && view.sizes.contains_key(lang);
                other.then(|| inclined(view, lang, *k)).flatten()
            }
            Bias::InclinationOwn(k) => inclined(view, view.own, *k),
            Bias::RankGap | Bias::RankDistance if !view.finds_any() => None,
            Bias::RankGap => {
                let mut best = view.best_ranks();
                let own = (best.remove(view.own)? as f64).log2();
                let others: f64 = best.values().map(|r| (*r as f64).log2()).sum();
                (!best.is_empty()).then(|| own - others / best.len() as f64)
            }
            Bias::RankDistance => {
                let logs: Vec<f64> = view.best_ranks().values().map(|r| (*r as f64).log2()).collect();
                let pairs =
                    logs.iter().enumerate().flat_map(|(i, a)| logs[..i].iter().map(move |b| (a - b).abs()));
                let count = logs.len() * logs.len().saturating_sub(1) / 2;
                (count > 0).then(|| pairs.sum::<f64>() / count as f64)
            }
            Bias::OneTarget(lang) => {
                let best = view.relevant().filter(|s| s.lang == lang).min_by_key(|s| s.rank)?;
                if !best.ranked {
                    return Some(0.0);
                }
                let rank = best.rank;
                let removed = view.relevant().filter(|s| s.lang != lang && s.rank < rank).count();
                Some(1.0 / (rank - removed) as f64)
            }
            Bias::Share(lang, k) => {
                let top = &view.top[..(*k).min(view.top.len())];
                let inside = top.iter().filter(|s| s.lang == lang).count();
                (!top.is_empty() && view.sizes.contains_key(lang)).then(|| percent(inside, top.len()))
            }
            Bias::Peer(grade, k) => peer(view, *grade, *k),
        }
    }
}

/// Of what stands above the first relevant passage in the query's language, the percentage that is in `lang` and not
/// relevant.
fn inclined(view: &View, lang: &Lang, k: usize) -> Option<f64> {
    let above = view.above_own(k)?;
    let inclined = above.iter().filter(|s| s.lang == lang && s.grade < view.rel).count();
    Some(if above.is_empty() { 0.0 } else { percent(inclined, above.len()) })
}

/// Whether the best-placed relevant passage is in `lang`; asked only where there is a choice, `lang` among it, and where
/// a relevant passage is ranked.
fn preferred(view: &View, lang: &Lang) -> Option<f64> {
    let langs: BTreeSet<&Lang> = view.relevant().map(|s| s.lang).collect();
    let first = view.relevant().filter(|s| s.ranked).min_by_key(|s| s.rank)?;
    (langs.len() > 1 && langs.contains(lang)).then(|| if first.lang == lang { 100.0 } else { 0.0 })
}

/// Passages of a grade above 0 that are not in the top k tie behind it; those of grade 0 count in the top k only.
fn peer(view: &View, grade: u32, k: usize) -> Option<f64> {
    let langs: Vec<&Lang> = view.sizes.keys().collect();
    let group = |lang: &Lang| langs.iter().position(|l| *l == lang);
    let seen: Vec<&Seen> = match grade {
        0 => view.top.iter().take(k).filter(|s| s.grade < 1.0).collect(),
        g => view.graded.iter().filter(|s| s.grade as u32 == g).collect(),
    };
    let values: Vec<(usize, f64)> =
        seen.iter().filter_map(|s| Some((group(s.lang)?, s.rank.min(k + 1) as f64))).collect();
    kruskal_wallis(&values, langs.len())
}

impl fmt::Display for Bias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bias::MaxR => f.write_str("Max@R"),
            Bias::MaxRNorm => f.write_str("Max@R_norm"),
            Bias::Complete(k) => write!(f, "Comp@{k}"),
            Bias::PreferenceOwn => f.write_str("LPR(own)"),
            Bias::Preference(lang) => write!(f, "LPR({lang})"),
            Bias::Top1(First { relevant, own }) => {
                let (what, whose) =
                    (if *relevant { "relevant" } else { "irrelevant" }, if *own { "own" } else { "other" });
                write!(f, "Top1({what},{whose})")
            }
            Bias::Inclination(lang, k) => write!(f, "Inclination({lang})@{k}"),
            Bias::InclinationOwn(k) => write!(f, "Inclination(own)@{k}"),
            Bias::RankGap => f.write_str("RankGap"),
            Bias::RankDistance => f.write_str("RankDistance"),
            Bias::OneTarget(lang) => write!(f, "RR1({lang})"),
            Bias::Share(lang, k) => write!(f, "Share({lang})@{k}"),
            Bias::Peer(grade, k) => write!(f, "PEER({grade})@{k}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// en en zh✓ en✓ zh(1) en, asked in zh, by hand.
    #[test]
    fn values_of_a_small_ranking() {
        let [en, zh, ar] = ["en", "zh", "ar"].map(|l| Lang::parse(l).unwrap());
        let sizes = BTreeMap::from([(en.clone(), 4), (zh.clone(), 2)]);
        let order = [(&en, 0.0), (&en, 0.0), (&zh, 3.0), (&en, 3.0), (&zh, 1.0), (&en, 0.0)];
        let top: Vec<Seen> = order
            .iter()
            .enumerate()
            .map(|(i, (lang, grade))| Seen { lang, grade: *grade, rank: i + 1, ranked: true })
            .collect();
        let graded = top.iter().filter(|s| s.grade > 0.0).copied().collect();
        let view = View { own: &zh, sizes: &sizes, top, graded, rel: 3.0 };
        let of = |b: Bias| b.of(&view);
        let close = |b: Bias, want: f64| {
            let got = b.of(&view).unwrap();
            assert!((got - want).abs() < 1e-12, "{b}: {got}, not {want}");
        };
        close(Bias::MaxR, 4.0);
        close(Bias::MaxRNorm, 100.0 * 1.5f64.ln() / 3f64.ln());
        assert_eq!([3, 4].map(|k| of(Bias::Complete(k))), [Some(0.0), Some(100.0)]);
        assert_eq!([of(Bias::PreferenceOwn), of(Bias::Preference(en.clone()))], [Some(100.0), Some(0.0)]);
        close(Bias::Inclination(en.clone(), 10), 100.0);
        close(Bias::InclinationOwn(10), 0.0);
        close(Bias::RankGap, (3.0f64 / 4.0).log2());
        close(Bias::RankDistance, (4.0f64 / 3.0).log2());
        close(Bias::OneTarget(en.clone()), 1.0 / 3.0);
        close(Bias::OneTarget(zh.clone()), 1.0 / 3.0);
        close(Bias::Share(en.clone(), 5), 60.0);
        close(Bias::Top1(First { relevant: false, own: false }), 100.0);
        // Passages of grade 0 are in one language; of grade 3 scipy.stats.kruskal([3], [4]).
        assert_eq!(of(Bias::Peer(0, 100)), None);
        close(Bias::Peer(3, 100), 0.31731050786291115);
        close(Bias::Peer(3, 2), 1.0);
        // Not asked: its own language, a language that is not there.
        assert_eq!(
            [Bias::Inclination(zh.clone(), 10), Bias::Share(ar.clone(), 5), Bias::Preference(ar)].map(of),
            [None; 3]
        );
        assert!(view.is_even());
        // Nothing stands above: no inclination, which is not the same as no answer.
        let first = View {
            top: Vec::new(),
            graded: vec![Seen { lang: &zh, grade: 3.0, rank: 1, ranked: true }],
            ..view.clone()
        };
        assert_eq!(Bias::Inclination(en.clone(), 10).of(&first), Some(0.0));
        // Were the fifth the right one: of four above it two are English and wrong, one is Chinese and not relevant enough.
        let fifth = View {
            graded: vec![Seen { lang: &zh, grade: 4.0, rank: 5, ranked: true }],
            rel: 4.0,
            ..view.clone()
        };
        assert_eq!(Bias::InclinationOwn(10).of(&fifth), Some(25.0));
        assert_eq!(Bias::InclinationOwn(2).of(&fifth), Some(0.0));
        let none = View { graded: Vec::new(), ..view };
        let all = Bias::all(&BTreeSet::from([en.clone(), zh.clone()]), &BTreeSet::from([1, 3]), 10);
        let defined: Vec<String> =
            all.iter().filter(|b| b.of(&none).is_some()).map(Bias::to_string).collect();
        assert_eq!(defined, ["Share(en)@10", "Share(zh)@10"]);
    }

    /// Passages that are not ranked stand nowhere: not first, not in the top k of a small pool.
    #[test]
    fn what_is_not_ranked_is_in_no_place() {
        let [en, zh] = ["en", "zh"].map(|l| Lang::parse(l).unwrap());
        let sizes = BTreeMap::from([(en.clone(), 4), (zh.clone(), 4)]);
        let seen = |lang, rank, ranked| Seen { lang, grade: 1.0, rank, ranked };
        let view = |graded| View { own: &zh, sizes: &sizes, top: Vec::new(), graded, rel: 1.0 };
        let lost = view(vec![seen(&en, 8, false), seen(&zh, 8, false)]);
        let all = [
            Bias::PreferenceOwn,
            Bias::Preference(en.clone()),
            Bias::RankGap,
            Bias::RankDistance,
            Bias::OneTarget(zh.clone()),
            Bias::Complete(10),
            Bias::MaxR,
        ];
        let of = |view: &View| all.iter().map(|b| b.of(view)).collect::<Vec<_>>();
        assert_eq!(of(&lost), [None, None, None, None, Some(0.0), Some(0.0), Some(8.0)]);
        let half = view(vec![seen(&en, 2, true), seen(&zh, 8, false)]);
        let want = [0.0, 100.0, 2.0, 2.0, 0.0, 0.0, 8.0];
        assert_eq!(of(&half), want.map(Some));
        assert_eq!(Bias::OneTarget(en.clone()).of(&half), Some(0.5));
    }

    #[test]
    fn peer_is_asked_of_grades_that_occur() {
        let peer = |grades: &BTreeSet<u32>| {
            let all = Bias::all(&BTreeSet::new(), grades, 10);
            all.iter().filter(|b| matches!(b, Bias::Peer(..))).map(Bias::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            peer(&BTreeSet::from([2, 3_000_000])),
            ["PEER(0)@100", "PEER(2)@100", "PEER(3000000)@100"]
        );
        assert_eq!(peer(&(0..1000).collect()), ["PEER(0)@100"]);
    }
}
