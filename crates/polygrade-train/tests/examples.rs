//! The invariants of examples and batches, on random small collections.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Passage, Query, Scale, Split};
use polygrade_nn::rng::CounterRng;
use polygrade_train::batches::{Draw, lang_shares};
use polygrade_train::examples::{Batch, PerQuery};
use polygrade_train::labelled::Labelled;
use polygrade_train::loss::Role;
use polygrade_train::{Batching, Composition, Examples, Label, LabelPolicies, Policy, Scenario};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn lang(i: usize) -> Lang {
    Lang::parse(["en", "sw", "zh"][i]).unwrap()
}

/// Topics in up to three parallel languages, all in the first, each second in the second and each third in the third.
/// `topics[t][p]` is the text of a passage, so that equal texts occur, and its grade.
fn collection(langs: usize, topics: &[Vec<(u8, u8)>]) -> Collection {
    let (mut passages, mut queries, mut judgments) = (Vec::new(), Vec::new(), Vec::new());
    for (t, topic) in topics.iter().enumerate() {
        for l in (0..langs).filter(|l| t % (l + 1) == 0) {
            let query = queries.len() as Index;
            queries.push(Query {
                id: format!("q{t}{l}"),
                text: format!("query {t}"),
                lang: lang(l),
                group: Some(format!("q{t}")),
            });
            for (p, (text, grade)) in topic.iter().enumerate() {
                judgments.push(Judgment {
                    query,
                    passage: passages.len() as Index,
                    grade: f32::from(*grade),
                });
                passages.push(Passage {
                    id: format!("p{t}{p}{l}"),
                    title: None,
                    text: format!("text {text}"),
                    lang: lang(l),
                    group: Some(format!("p{t}{p}")),
                });
            }
        }
    }
    let meta = Meta { name: "t".into(), licence: "x".into(), source: "x".into(), grades: Scale::up_to(3.0) };
    Collection::from_parts(meta, passages, queries, [judgments, Vec::new(), Vec::new()])
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        (1u8..=3).prop_map(|t| Policy::Threshold(f32::from(t))),
        Just(Policy::Band { lo: 0.0, hi: 2.0 }),
        Just(Policy::Band { lo: 0.0, hi: 3.0 }),
    ]
}

fn batchings() -> impl Strategy<Value = Batching> {
    let composition = prop_oneof![
        Just(Composition::Homogeneous),
        Just(Composition::Mixed),
        (0usize..=4).prop_map(|n| Composition::Hybrid(n as f32 / 4.0)),
    ];
    let t = prop_oneof![Just(1.0f32), Just(2.0), Just(f32::INFINITY)];
    (composition, t, any::<bool>()).prop_map(|(composition, lang_sampling, parallel_positives)| Batching {
        lang_sampling,
        composition,
        parallel_positives,
    })
}

/// The batch of a draw, two passages of each kind a query.
fn batch_of(examples: &Examples, draw: &Draw, rng: &CounterRng) -> Batch {
    let mut batch = Batch::default();
    examples.batch(draw, PerQuery { positives: 2, negatives: 2 }, rng, &mut batch);
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_judged_positive_is_ever_a_negative(
        langs in 1usize..=3,
        topics in prop::collection::vec(prop::collection::vec((0u8..6, 0u8..=3), 1..6), 1..9),
        policy in policies(),
        scenario in 0usize..3,
        batching in batchings(),
        seed in 0u64..1000,
    ) {
        let scenario = Scenario::ALL[scenario];
        let c = collection(langs, &topics);
        let graded = c.graded(Split::Train);
        let all: Vec<Lang> = (0..langs).map(lang).collect();
        let labels = LabelPolicies::uniform(policy);
        let examples = Examples::for_batches(&c, &graded, scenario, &all, &labels, &batching);
        prop_assert!(examples.are_for(&batching));
        let hybrid = scenario == Scenario::Mixture && matches!(batching.composition, Composition::Hybrid(_));
        let mixed = batching.composition == Composition::Mixed;
        let rng = CounterRng::new(seed);
        let epoch = examples.epoch(4, &rng);
        prop_assert_eq!(&epoch, &examples.epoch(4, &rng));
        prop_assert_eq!(epoch.len(), examples.steps_per_epoch(4));
        let mut seen: Vec<u32> = epoch.iter().flat_map(|d| &d.examples).copied().collect();
        seen.sort_unstable();
        prop_assert!(seen.iter().all(|e| (*e as usize) < examples.len()));
        if batching.lang_sampling == 1.0 && !hybrid {
            prop_assert_eq!(seen, (0..examples.len() as u32).collect::<Vec<_>>(), "every example once an epoch");
        } else if !examples.is_empty() {
            prop_assert!(!seen.is_empty());
        }

        for (step, draw) in epoch.iter().enumerate() {
            let distinct: BTreeSet<u32> = draw.examples.iter().copied().collect();
            prop_assert_eq!(distinct.len(), draw.examples.len(), "no query twice");
            prop_assert!(hybrid || !draw.across);
            let batch = batch_of(&examples, draw, &rng.fork(step as u64));
            prop_assert_eq!(batch.queries.len(), draw.examples.len());
            let mut texts: Vec<u32> = batch.passages.iter().map(|p| examples.text_of(*p)).collect();
            texts.sort_unstable();
            prop_assert!(texts.windows(2).all(|w| w[0] != w[1]), "no text twice");
            for (i, &q) in batch.queries.iter().enumerate() {
                let query_lang = &c.queries[q as usize].lang;
                let row = &batch.roles[i * batch.passages.len()..(i + 1) * batch.passages.len()];
                let lang_of = |p: Index| &c.passages[p as usize].lang;
                let group_of = |p: Index| c.passages[p as usize].group.clone();
                let own: Vec<Index> =
                    batch.passages.iter().zip(row).filter(|(_, r)| **r == Role::Positive).map(|(p, _)| *p).collect();
                prop_assert!(!own.is_empty(), "each query has a positive");
                if scenario == Scenario::Mixture && !mixed && !draw.across {
                    prop_assert_eq!(query_lang, &c.queries[batch.queries[0] as usize].lang);
                }
                // The positives of the batch's kind; of a text that two passages share, either may stand for both.
                let across = draw.across || scenario == Scenario::CrossLingual;
                prop_assert!(own.iter().any(|p| (lang_of(*p) != query_lang) == across));
                if !batching.parallel_positives {
                    prop_assert!(own.iter().all(|p| (lang_of(*p) != query_lang) == across));
                }
                let positives: Vec<Index> = graded
                    .judged(q)
                    .filter(|(_, g)| policy.label(*g) == Label::Positive)
                    .map(|(p, _)| p)
                    .collect();
                if batching.parallel_positives && scenario == Scenario::Mixture {
                    // With as many positives as fit, one at least has its translation beside it, where it has one.
                    let parallel = |p: &Index| {
                        positives.iter().any(|x| group_of(*x) == group_of(*p) && lang_of(*x) != lang_of(*p))
                    };
                    if own.iter().all(parallel) {
                        let languages: BTreeSet<&Lang> = own.iter().map(|p| lang_of(*p)).collect();
                        prop_assert!(languages.len() > 1, "{:?}", own);
                    }
                }
                for (j, (&p, role)) in batch.passages.iter().zip(row).enumerate() {
                    let same_text = |x: Index| examples.text_of(x) == examples.text_of(p);
                    let judged = || graded.judged(q).filter(|(x, _)| same_text(*x));
                    let kept = judged().map(|(_, g)| policy.label(g)).max();
                    let grade = judged().map(|(_, g)| g).reduce(f32::max);
                    let said = batch.grades[i * batch.passages.len() + j];
                    prop_assert_eq!(Some(said).filter(|g| !g.is_nan()), grade);
                    match role {
                        Role::Negative => {
                            prop_assert!(kept.is_none_or(|l| l == Label::Negative));
                            prop_assert!(positives.iter().all(|x| group_of(*x) != group_of(p)), "a translation");
                        }
                        Role::Positive => {
                            prop_assert_eq!(kept, Some(Label::Positive));
                            let meets = scenario.pairs(query_lang, lang_of(p));
                            prop_assert!(
                                meets || hybrid || batching.parallel_positives && scenario != Scenario::CrossLingual
                            );
                        }
                        Role::Ignored => prop_assert!(kept.is_some_and(|l| l != Label::Negative)),
                    }
                }
            }
        }
    }

    #[test]
    fn counts_are_what_is_trained_on(
        langs in 1usize..=3,
        topics in prop::collection::vec(prop::collection::vec((0u8..200, 0u8..=3), 1..6), 1..9),
        policy in policies(),
        scenario in 0usize..3,
    ) {
        let scenario = Scenario::ALL[scenario];
        let c = collection(langs, &topics);
        let graded = c.graded(Split::Train);
        let all: Vec<Lang> = (0..langs).map(lang).collect();
        let labels = LabelPolicies::uniform(policy);
        let examples = Examples::new(&c, &graded, scenario, &all, &labels);
        let labelled = Labelled::new(&c, &graded, scenario, &all, &labels, false);
        let counts = labelled.counts();
        // One example a batch, all of its passages, in enough epochs to meet each language.
        let per_query = PerQuery { positives: 1000, negatives: 1000 };
        let (mut positives, mut negatives) = (BTreeSet::new(), BTreeSet::new());
        for e in 0..examples.len() as u32 {
            for round in 0..40 {
                let mut batch = Batch::default();
                let draw = Draw { examples: vec![e], across: false };
                examples.batch(&draw, per_query, &CounterRng::new(round), &mut batch);
                for (p, role) in batch.passages.iter().zip(&batch.roles) {
                    match role {
                        Role::Positive => positives.insert((batch.queries[0], *p)),
                        _ => negatives.insert((batch.queries[0], *p)),
                    };
                }
            }
        }
        // Passages of one text are one candidate.
        let (mut want_positives, mut want_negatives) = (BTreeSet::new(), BTreeSet::new());
        for (q, l) in labelled.queries() {
            for lang in 0..langs {
                let pairs = || labelled.pairs(q, l).filter(move |p| p.lang == Some(lang));
                if !pairs().any(|p| p.label == Label::Positive) {
                    continue;
                }
                let text = |p: &Index| (q, examples.text_of(*p));
                pairs().for_each(|p| match p.label {
                    Label::Positive => drop(want_positives.insert(text(&p.passage))),
                    Label::Negative => drop(want_negatives.insert(text(&p.passage))),
                    Label::Dropped => {}
                });
            }
        }
        want_negatives.retain(|n| !want_positives.contains(n));
        let texts = |set: BTreeSet<(Index, Index)>| -> BTreeSet<(Index, u32)> {
            set.into_iter().map(|(q, p)| (q, examples.text_of(p))).collect()
        };
        prop_assert_eq!(texts(positives), want_positives);
        prop_assert_eq!(texts(negatives), want_negatives);
        // The counts are those of the pairs, and the queries those of the examples.
        let pairs: u64 = counts.values().flat_map(|c| c.pairs).sum();
        let all_pairs = labelled.queries().flat_map(|(q, l)| labelled.pairs(q, l)).filter(|p| p.lang.is_some());
        prop_assert_eq!(pairs as usize, all_pairs.count());
        if scenario != Scenario::CrossLingual {
            let without: u64 = counts.values().map(|c| c.without_positive).sum();
            let queries: u64 = counts.values().map(|c| c.queries).sum();
            prop_assert_eq!(without as usize, examples.without_positive());
            prop_assert_eq!((queries - without) as usize, examples.len());
        }
        let samples = labelled.samples(3, 1);
        for (label, kept) in samples.iter().enumerate() {
            let n: u64 = counts.values().map(|c| c.pairs[label]).sum();
            prop_assert_eq!(kept.len() as u64, n.min(3));
            prop_assert!(kept.iter().all(|(_, p)| p.label as usize == label && p.lang.is_some()));
        }
    }

    #[test]
    fn steps_do_not_depend_on_the_policy(
        topics in prop::collection::vec(prop::collection::vec((0u8..6, 0u8..=3), 1..6), 1..9),
    ) {
        let c = collection(2, &topics);
        let graded = c.graded(Split::Train);
        let langs = [lang(0), lang(1)];
        for scenario in Scenario::ALL {
            let steps: Vec<usize> = [1.0, 2.0, 3.0]
                .map(|t| Examples::new(&c, &graded, scenario, &langs, &LabelPolicies::uniform(Policy::Threshold(t))))
                .iter()
                .map(|e| e.steps_per_epoch(2))
                .collect();
            prop_assert!(steps.windows(2).all(|w| w[0] == w[1]), "{:?}", steps);
        }
    }
}

#[test]
fn languages_have_their_shares() {
    let c = collection(3, &vec![vec![(0, 3), (1, 0)]; 120]);
    let graded = c.graded(Split::Train);
    let all: Vec<Lang> = (0..3).map(lang).collect();
    let labels = LabelPolicies::uniform(Policy::Threshold(2.0));
    let (queries, epochs, size) = ([120, 60, 40], 300u64, 8);
    for lang_sampling in [1.0, 2.0, 5.0, f32::INFINITY] {
        let want = lang_shares(&queries, lang_sampling);
        for composition in [Composition::Homogeneous, Composition::Mixed, Composition::Hybrid(0.4)] {
            let batching = Batching { lang_sampling, composition, parallel_positives: false };
            let e = Examples::for_batches(&c, &graded, Scenario::Mixture, &all, &labels, &batching);
            // Of batches within a language, of queries across.
            let (mut batches, mut drawn, mut across) = ([0.0; 3], [0.0; 3], 0.0);
            for epoch in 0..epochs {
                for draw in e.epoch(size, &CounterRng::new(epoch)) {
                    let mut batch = Batch::default();
                    e.batch(&draw, PerQuery { positives: 1, negatives: 0 }, &CounterRng::new(0), &mut batch);
                    let of = |q: &Index| all.iter().position(|l| *l == c.queries[*q as usize].lang).unwrap();
                    if draw.across || composition == Composition::Mixed {
                        batch.queries.iter().for_each(|q| drawn[of(q)] += 1.0);
                        across += 1.0;
                    } else {
                        batches[of(&batch.queries[0])] += 1.0;
                    }
                }
            }
            let steps = (e.steps_per_epoch(size) as u64 * epochs) as f64;
            let share = match composition {
                Composition::Homogeneous => 0.0,
                Composition::Mixed => 1.0,
                Composition::Hybrid(share) => f64::from(share),
            };
            let said = format!("{batching:?}: {batches:?} {drawn:?} {across}");
            assert!((across / steps - share).abs() < 0.005, "{said}");
            for counts in [batches, drawn] {
                let sum: f64 = counts.iter().sum();
                for (l, n) in counts.iter().enumerate().filter(|_| sum > 0.0) {
                    let tolerance = if lang_sampling == 1.0 { 0.02 } else { 0.005 };
                    assert!((n / sum - want[l]).abs() < tolerance, "{l} {want:?} {said}");
                }
            }
        }
    }
}
