//! Policies by annotator and source, and what becomes of judgments that differ.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Judgment, Lang, Meta, Origin, Passage, Query, Scale, Split, Votes};
use polygrade_train::labelled::Labelled;
use polygrade_train::labels::Rule;
use polygrade_train::{Examples, Label, LabelPolicies, Policy, Scenario};

fn en() -> Lang {
    Lang::parse("en").unwrap()
}

/// A query with five passages, and the same in German; grades are of the English ones.
fn collection(votes: &[(u32, f32, &str)]) -> Collection {
    let (mut passages, mut queries) = (Vec::new(), Vec::new());
    for tag in ["en", "de"] {
        let lang = Lang::parse(tag).unwrap();
        let query =
            Query { id: format!("q-{tag}"), text: tag.into(), lang: lang.clone(), group: Some("q".into()) };
        queries.push(query);
        passages.extend((0..5).map(|p| Passage {
            id: format!("{p}-{tag}"),
            title: None,
            text: format!("text {p} {tag}"),
            lang: lang.clone(),
            group: Some(format!("p{p}")),
        }));
    }
    let meta = Meta { name: "t".into(), licence: "x".into(), source: "x".into(), grades: Scale::up_to(3.0) };
    let mut all = Votes::default();
    for &(passage, grade, annotator) in votes {
        let origin = Origin { annotator: Some(annotator), source: Some("s") };
        all.push(Judgment { query: 0, passage, grade }, origin);
    }
    Collection::from_parts(meta, passages, queries, Default::default()).with_votes(Split::Train, all)
}

fn labels(c: &Collection, policies: &LabelPolicies) -> Vec<Vec<Label>> {
    let graded = c.graded(Split::Train);
    let langs = c.langs();
    let labelled = Labelled::new(c, &graded, Scenario::Mixture, &langs, policies, false);
    let of = |(q, l)| labelled.pairs(q, l).filter(|p| p.lang.is_some()).map(|p| p.label).collect();
    labelled.queries().map(of).collect()
}

#[test]
fn each_judgment_has_its_policy_and_the_majority_decides() {
    use Label::{Dropped as D, Negative as N, Positive as P};
    let c = collection(&[
        (0, 3.0, "strict"),
        (0, 1.0, "mild"),
        (1, 2.0, "strict"),
        (1, 3.0, "mild"),
        (2, 2.0, "mild"),
        (2, 0.0, "third"),
        (2, 0.0, "fourth"),
        (3, 2.0, "strict"),
        (4, 1.0, "mild"),
        (4, 1.0, "third"),
        (4, 1.0, "fourth"),
    ]);
    // Translations are labelled by the judgments that they have their grade from.
    let both = |labels: [Label; 5]| vec![labels.to_vec(); 2];
    let mut policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    assert_eq!(labels(&c, &policies), both([D, P, N, P, N]));
    let rule = |annotator: &str, policy| Rule { annotator: Some(annotator.into()), ..Rule::new(policy) };
    policies.rules.push(rule("mild", Policy::Threshold(1.0)));
    assert_eq!(labels(&c, &policies), both([P, P, N, P, N]));
    policies.rules.push(rule("strict", Policy::Threshold(3.0)));
    assert_eq!(labels(&c, &policies), both([P, D, N, N, N]));
    policies.rules.insert(
        0,
        Rule {
            source: Some("s".into()),
            query_lang: Some(en()),
            ..Rule::new(Policy::Band { lo: 0.0, hi: 3.0 })
        },
    );
    assert_eq!(labels(&c, &policies), [vec![D, D, N, D, D], vec![P, D, N, N, N]]);
}

#[test]
fn a_grade_that_was_put_in_place_of_theirs_is_labelled_itself() {
    let c = collection(&[(0, 3.0, "a"), (0, 0.0, "b"), (1, 3.0, "a")]);
    let policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    assert_eq!(c.judgments(Split::Train)[0].grade, 1.5);
    assert_eq!(labels(&c, &policies)[0], [Label::Dropped, Label::Positive]);
    let changed: Vec<Judgment> =
        c.judgments(Split::Train).iter().map(|j| Judgment { grade: 3.0 - j.grade / 1.5, ..*j }).collect();
    let graded = polygrade_data::Graded::of(&c, &changed);
    let langs = c.langs();
    let labelled = Labelled::new(&c, &graded, Scenario::Mixture, &langs, &policies, false);
    let (q, l) = labelled.queries().next().unwrap();
    let found: Vec<Label> = labelled.pairs(q, l).filter(|p| p.lang.is_some()).map(|p| p.label).collect();
    assert_eq!(found, [Label::Positive, Label::Negative]);
    assert_eq!(Examples::new(&c, &graded, Scenario::Mixture, &langs, &policies).len(), 2);
}

#[test]
fn rules_that_fit_nothing_are_named() {
    let c = collection(&[(0, 3.0, "a")]);
    let mut policies = LabelPolicies::uniform(Policy::Threshold(2.0));
    policies.rules = vec![
        Rule { annotator: Some("a".into()), query_lang: Some(en()), ..Rule::new(Policy::Threshold(1.0)) },
        Rule { annotator: Some("b".into()), source: Some("s".into()), ..Rule::new(Policy::Threshold(1.0)) },
        Rule {
            passage_lang: Lang::parse("sw"),
            source: Some("x".into()),
            ..Rule::new(Policy::Threshold(1.0))
        },
    ];
    assert_eq!(
        policies.unmatched(&c),
        ["rule 2: no annotator b", "rule 3: no passage in sw", "rule 3: no source x"]
    );
    policies.rules.truncate(1);
    assert!(policies.unmatched(&c).is_empty());
}
