//! The invariants of examples and batches, on random small collections.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Passage, Query, Scale, Split};
use polygrade_nn::rng::CounterRng;
use polygrade_train::examples::{Batch, PerQuery};
use polygrade_train::loss::Role;
use polygrade_train::{Examples, Label, LabelPolicies, Policy, Scenario};
use proptest::prelude::*;

fn lang(i: usize) -> Lang {
    Lang::parse(["en", "sw", "zh"][i]).unwrap()
}

/// Topics in up to three parallel languages; `texts[t][p]` is the text of a passage, so that equal texts occur.
fn collection(langs: usize, topics: &[Vec<(u8, u8)>]) -> Collection {
    let (mut passages, mut queries, mut judgments) = (Vec::new(), Vec::new(), Vec::new());
    for (t, topic) in topics.iter().enumerate() {
        for l in 0..langs {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_judged_positive_is_ever_a_negative(
        langs in 1usize..=3,
        topics in prop::collection::vec(prop::collection::vec((0u8..6, 0u8..=3), 1..6), 1..7),
        policy in policies(),
        scenario in 0usize..3,
        seed in 0u64..1000,
    ) {
        let scenario = Scenario::ALL[scenario];
        let c = collection(langs, &topics);
        let graded = c.graded(Split::Train);
        let all: Vec<Lang> = (0..langs).map(lang).collect();
        let labels = LabelPolicies::uniform(policy);
        let examples = Examples::new(&c, &graded, scenario, &all, &labels);
        let rng = CounterRng::new(seed);
        let epoch = examples.epoch(4, &rng);
        prop_assert_eq!(epoch.len(), examples.steps_per_epoch(4));
        let mut seen: Vec<u32> = epoch.iter().flatten().copied().collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..examples.len() as u32).collect::<Vec<_>>(), "every example once an epoch");

        for (step, which) in epoch.iter().enumerate() {
            let mut batch = Batch::default();
            let per_query = PerQuery { positives: 2, negatives: 2 };
            examples.batch(which, per_query, &rng.fork(step as u64), &mut batch);
            let mut texts: Vec<u32> = batch.passages.iter().map(|p| examples.text_of(*p)).collect();
            texts.sort_unstable();
            prop_assert!(texts.windows(2).all(|w| w[0] != w[1]), "no text twice");
            for (i, &q) in batch.queries.iter().enumerate() {
                let query_lang = &c.queries[q as usize].lang;
                let row = &batch.roles[i * batch.passages.len()..(i + 1) * batch.passages.len()];
                prop_assert!(row.contains(&Role::Positive), "each query has a positive");
                if scenario == Scenario::Mixture {
                    prop_assert_eq!(query_lang, &c.queries[batch.queries[0] as usize].lang);
                }
                for (&p, role) in batch.passages.iter().zip(row) {
                    let same_text = |x: Index| examples.text_of(x) == examples.text_of(p);
                    let kept = graded.judged(q).filter(|(x, _)| same_text(*x)).map(|(_, g)| policy.label(g)).max();
                    match role {
                        Role::Negative => prop_assert!(kept.is_none_or(|l| l == Label::Negative)),
                        Role::Positive => {
                            prop_assert_eq!(kept, Some(Label::Positive));
                            prop_assert!(scenario.pairs(query_lang, &c.passages[p as usize].lang));
                        }
                        Role::Ignored => prop_assert!(kept.is_some_and(|l| l != Label::Negative)),
                    }
                }
            }
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
