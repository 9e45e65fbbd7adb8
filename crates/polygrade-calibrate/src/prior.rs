//! A guess of the threshold before anything is trained, from what a collection looks like.
//!
//! The rule, for each language and scenario:
//!
//! 1. A threshold is *open* where at least [`MIN_SHARE`] of the judged training queries keep a positive under it, and
//!    *fed* where they have [`FEED`] positives or more on average.
//! 2. Start from the middle of the grid: "relevant" usually begins where an answer does (SyCL trains on grades ≥ 2 of
//!    0..3).
//! 3. One step down for a low-resource language (classes 0 to 2 of Joshi et al. 2020): such languages do better with a
//!    lenient threshold, by reports of arXiv 2601.04395.
//! 4. One step up where annotators agree well ([`AGREE`] or more) and all queries of a high-resource language (classes
//!    4 and 5) are still fed there: strict labels that can be trusted and that do not starve training.
//! 5. Down to the highest threshold that is open and fed, else to the highest that is open, else to that with which
//!    most queries keep a positive.
//!
//! It is a guess: nothing has been measured when it is made. Only thresholds of the grid are suggested; where it has
//! none, nothing is.

use polygrade_data::{Collection, Graded, Lang, Split};
use polygrade_train::{Label, Policy, Scenario};
use serde::Serialize;

/// Least share of queries that must keep a positive.
pub const MIN_SHARE: f64 = 0.7;

/// Positives a query, on average over all judged queries, that feed training.
pub const FEED: f64 = 1.0;

/// Agreement between annotators (Cohen's κ or alike) that makes strict labels trustworthy.
pub const AGREE: f64 = 0.6;

/// A suggested threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// The query language; `None` for all together.
    pub lang: Option<Lang>,
    /// The threshold.
    pub policy: Policy,
    /// Why, in words.
    pub reason: String,
}

/// How well resourced a language is: the class of Joshi et al. 2020, *The State and Fate of Linguistic Diversity and
/// Inclusion in the NLP World* (ACL), from 0 (hardly any data) to 5 (the most); `None` for a language that is not in
/// our short table.
pub fn resource_class(lang: &Lang) -> Option<u8> {
    let at = CLASSES.iter().position(|tags| tags.split(' ').any(|tag| tag == lang.primary()))?;
    Some(at as u8)
}

/// Primary language tags by class, for the languages that retrieval sets usually have; classes as in the list that the
/// paper came with (lang2tax.txt).
const CLASSES: [&str; 6] = [
    "si",
    "as az bo cy eo gu hy ig jv km kn ky mg mk ml mn my nb ne nn no om or rw so sq su te tg tk ug",
    "am ga ha is lo mr mt pa sa sw ti tn wo xh yo zu",
    "af be bg bn bs ceb da el et fil gl he id ka kk la lt lv ms ro sk sl ta th tl uk ur uz",
    "ca cs eu fa fi hi hr hu it ko nl pl pt ru sr sv tr vi",
    "ar de en es fr ja zh",
];

/// What training sees of a threshold.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    queries: usize,
    with_positive: usize,
    positives: usize,
}

impl Seen {
    fn share(&self) -> f64 {
        self.with_positive as f64 / self.queries.max(1) as f64
    }

    fn per_query(&self) -> f64 {
        self.positives as f64 / self.queries.max(1) as f64
    }
}

/// Suggests a threshold of `grid` for each of `langs` (by the language of the query) and, where there are several, for
/// all of them together, from the training judgments of pairs that meet in the scenario. `agreement` is that of the
/// annotators, such as Cohen's κ, where it is known. Languages without a judged query are left out.
pub fn suggest(
    collection: &Collection,
    langs: &[Lang],
    scenario: Scenario,
    grid: &[Policy],
    agreement: Option<f64>,
) -> Vec<Guess> {
    let mut steps: Vec<f32> =
        grid.iter().filter_map(|p| if let Policy::Threshold(t) = p { Some(*t) } else { None }).collect();
    steps.sort_by(f32::total_cmp);
    steps.dedup();
    if steps.is_empty() {
        return Vec::new();
    }
    let graded = collection.graded(Split::Train);
    let cells: Vec<Option<&Lang>> = match langs {
        [one] => vec![Some(one)],
        _ => [None].into_iter().chain(langs.iter().map(Some)).collect(),
    };
    let guess = |lang: Option<&Lang>| {
        let seen: Vec<Seen> =
            steps.iter().map(|t| look(collection, &graded, langs, scenario, lang, *t)).collect();
        let (at, reason) = choose(&steps, &seen, lang.map(|l| (l, resource_class(l))), agreement)?;
        Some(Guess { lang: lang.cloned(), policy: Policy::Threshold(steps[at]), reason })
    };
    cells.into_iter().filter_map(guess).collect()
}

fn look(
    collection: &Collection,
    graded: &Graded,
    langs: &[Lang],
    scenario: Scenario,
    lang: Option<&Lang>,
    threshold: f32,
) -> Seen {
    let mut seen = Seen::default();
    for &q in graded.queries() {
        let query = &collection.queries[q as usize].lang;
        if !langs.contains(query) || lang.is_some_and(|l| l != query) {
            continue;
        }
        let meets = |p: u32| {
            let passage = &collection.passages[p as usize].lang;
            langs.contains(passage) && scenario.pairs(query, passage)
        };
        let (mut judged, mut positives) = (0, 0);
        for (_, grade) in graded.judged(q).filter(|(p, _)| meets(*p)) {
            judged += 1;
            positives += usize::from(Policy::Threshold(threshold).label(grade) == Label::Positive);
        }
        seen.queries += usize::from(judged > 0);
        seen.with_positive += usize::from(positives > 0);
        seen.positives += positives;
    }
    seen
}

/// The place of the suggestion among the steps, with its reason; `None` where no query is judged.
fn choose(
    steps: &[f32],
    seen: &[Seen],
    lang: Option<(&Lang, Option<u8>)>,
    agreement: Option<f64>,
) -> Option<(usize, String)> {
    if seen.first()?.queries == 0 {
        return None;
    }
    let open = |i: usize| seen[i].share() >= MIN_SHARE;
    let fed = |i: usize| open(i) && seen[i].per_query() >= FEED;
    let mut at = (steps.len() - 1) / 2;
    let mut reason = format!("the middle of the grid is τ = {}", steps[at]);
    if let Some((lang, Some(class))) = lang {
        let all_fed = |i: usize| fed(i) && seen[i].with_positive == seen[i].queries;
        if class <= 2 && at > 0 {
            at -= 1;
            reason += &format!("; {lang} has few resources (class {class} of 0 to 5), so one step lower");
        } else if class >= 4
            && at + 1 < steps.len()
            && all_fed(at + 1)
            && let Some(agreement) = agreement.filter(|a| *a >= AGREE)
        {
            at += 1;
            reason += &format!(
                "; annotators agree ({agreement:.2}), {lang} has resources (class {class} of 0 to 5) and every query \
                 keeps a positive, so one step higher"
            );
        }
    }
    let wanted = at;
    let down = |fits: &dyn Fn(usize) -> bool| (0..=wanted).rev().find(|i| fits(*i));
    at = down(&fed).or_else(|| down(&open)).unwrap_or(0);
    let (share, per_query) = (100.0 * seen[at].share(), seen[at].per_query());
    if at < wanted {
        let strict = 100.0 * seen[wanted].share();
        let left = seen[wanted].per_query();
        reason += &format!(
            "; under τ = {} only {strict:.0} % of the queries keep a positive, {left:.1} a query, so down to τ = {}",
            steps[wanted], steps[at]
        );
    }
    reason += &format!("; {share:.0} % of the queries keep a positive, {per_query:.1} a query");
    Some((at, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_data::{Judgment, Meta, Passage, Query, Scale};
    use proptest::prelude::*;

    fn lang(tag: &str) -> Lang {
        Lang::parse(tag).unwrap_or_else(Lang::unknown)
    }

    /// Queries with the grades of their passages, all of a language.
    fn collection(queries: &[(&str, &[f32])]) -> Collection {
        let meta =
            Meta { name: "t".into(), licence: "".into(), source: "".into(), grades: Scale::up_to(3.0) };
        let (mut passages, mut texts, mut judgments) = (Vec::new(), Vec::new(), Vec::new());
        for (q, (tag, grades)) in queries.iter().enumerate() {
            let id = format!("q{q}");
            texts.push(Query { text: id.clone(), id, lang: lang(tag), group: None });
            for grade in *grades {
                let (id, passage) = (format!("p{}", passages.len()), passages.len() as u32);
                passages.push(Passage { text: id.clone(), id, title: None, lang: lang(tag), group: None });
                judgments.push(Judgment { query: q as u32, passage, grade: *grade });
            }
        }
        Collection::from_parts(meta, passages, texts, [judgments, vec![], vec![]])
    }

    fn of(queries: &[(&str, &[f32])], tag: &str, agreement: Option<f64>) -> Option<(f32, String)> {
        let grid = [3.0, 1.0, 2.0].map(Policy::Threshold);
        let c = collection(queries);
        let found = suggest(&c, &[lang(tag)], Scenario::Monolingual, &grid, agreement);
        match found.as_slice() {
            [Guess { policy: Policy::Threshold(t), reason, .. }] => Some((*t, reason.clone())),
            _ => None,
        }
    }

    #[test]
    fn the_rule_goes_the_way_that_it_says() {
        let rich: &[f32] = &[3.0, 3.0, 2.0, 1.0, 0.0];
        let tau = |tag: &str, grades: &[f32], agreement| of(&[(tag, grades)], tag, agreement).map(|g| g.0);
        assert_eq!(tau("de", rich, None), Some(2.0), "the middle");
        assert_eq!(tau("sw", rich, None), Some(1.0), "a low-resource language");
        assert_eq!(tau("sw", rich, Some(0.9)), Some(1.0));
        assert_eq!(tau("de", rich, Some(0.8)), Some(3.0), "annotators agree");
        assert_eq!(tau("de", rich, Some(0.3)), Some(2.0));
        assert_eq!(tau("bn", rich, Some(0.8)), Some(2.0), "class 3");
        assert_eq!(tau("xx", rich, Some(0.8)), Some(2.0), "unknown resources");
        assert_eq!(tau("de", &[1.0, 1.0, 0.0], Some(0.8)), Some(1.0), "strict thresholds starve");
        assert_eq!(tau("de", &[2.0], None), Some(2.0), "one grade only");
        assert_eq!(tau("de", &[2.5, 1.5, 0.5], None), Some(2.0), "fractional grades");
        assert_eq!(tau("de", &[0.5, 0.0], None), Some(1.0), "nothing keeps a positive");
        assert_eq!(of(&[("de", rich)], "en", None), None, "an empty language");
        let (_, reason) = of(&[("de", &[1.0, 0.0]), ("de", rich)], "de", None).unwrap_or_default();
        assert!(reason.contains("only 50 % of the queries keep a positive"), "{reason}");
    }

    #[test]
    fn all_languages_together_come_first_and_bands_are_no_suggestion() {
        let c = collection(&[("de", &[3.0, 2.0]), ("sw", &[1.0, 2.0])]);
        let langs = [lang("de"), lang("sw"), lang("fi")];
        let grid = [Policy::Threshold(1.0), Policy::Threshold(2.0), Policy::Band { lo: 0.0, hi: 3.0 }];
        let found = suggest(&c, &langs, Scenario::Mixture, &grid, None);
        let cells: Vec<_> = found.iter().map(|g| g.lang.as_ref().map(Lang::as_str)).collect();
        assert_eq!(cells, [None, Some("de"), Some("sw")]);
        assert!(suggest(&c, &langs, Scenario::Mixture, &grid[2..], None).is_empty());
        assert!(suggest(&c, &langs, Scenario::CrossLingual, &grid, None).is_empty(), "nothing crosses");
    }

    #[test]
    fn classes_are_those_of_the_paper() {
        let class = |tag| resource_class(&lang(tag));
        let want = [("si", 0), ("te", 1), ("sw", 2), ("th", 3), ("ko", 4), ("zh-Hant", 5), ("en", 5)];
        want.into_iter().for_each(|(tag, c)| assert_eq!(class(tag), Some(c), "{tag}"));
        assert_eq!(class("xx"), None);
        let mut all: Vec<&str> = CLASSES.iter().flat_map(|c| c.split(' ')).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert!(all.len() == count && all.iter().all(|t| lang(t).as_str() == *t));
    }

    proptest! {
        #[test]
        fn never_a_threshold_that_starves_where_another_does_not(
            grades in proptest::collection::vec(proptest::collection::vec(0u8..=3, 1..5), 1..12),
            tag in proptest::sample::select(vec!["de", "sw", "bn", "xx"]),
            agreement in proptest::option::of(0.0f64..1.0),
        ) {
            let grades: Vec<Vec<f32>> =
                grades.iter().map(|q| q.iter().map(|g| f32::from(*g)).collect()).collect();
            let queries: Vec<(&str, &[f32])> = grades.iter().map(|g| (tag, g.as_slice())).collect();
            let share = |t: f32| {
                let kept = grades.iter().filter(|q| q.iter().any(|g| *g >= t)).count();
                kept as f64 / grades.len() as f64
            };
            let (tau, _) = of(&queries, tag, agreement).unwrap_or_default();
            prop_assert!(share(tau) >= MIN_SHARE || (share(1.0) < MIN_SHARE && tau == 1.0), "{tau}");
        }
    }
}
