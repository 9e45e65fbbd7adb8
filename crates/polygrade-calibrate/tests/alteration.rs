//! Noise and subsets: rates come out as stated, alterations nest, and translations stay consistent.
#![allow(clippy::unwrap_used)]

use polygrade_calibrate::noise::Confusion;
use polygrade_calibrate::{Alteration, Noise, Subset, altered};
use polygrade_data::{Collection, Error, Judgment, Lang, Meta, Passage, Query, Scale};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// `units` queries, each in English and, every second one, in Swahili too; ten passages with both translations. All
/// pairs of one language are judged, and copies have the same grade, drawn from `grades` in turn.
fn parallel(units: u32, grades: &[f32]) -> (Collection, Vec<Judgment>) {
    let langs = ["en", "sw"].map(|l| Lang::parse(l).unwrap());
    let (mut passages, mut queries, mut judgments) = (Vec::new(), Vec::new(), Vec::new());
    for p in 0..10u32 {
        for lang in &langs {
            let (id, group) = (format!("{lang}-{p}"), Some(format!("p{p}")));
            passages.push(Passage { text: id.clone(), id, title: None, lang: lang.clone(), group });
        }
    }
    for q in 0..units {
        for (l, lang) in langs.iter().enumerate().take(1 + q as usize % 2) {
            let (id, group) = (format!("{lang}-q{q}"), (q % 2 == 1).then(|| format!("q{q}")));
            let query = queries.len() as u32;
            queries.push(Query { text: id.clone(), id, lang: lang.clone(), group });
            let grade = |p: u32| grades[(q * 7 + p * 3) as usize % grades.len()];
            judgments.extend((0..10).map(|p| Judgment { query, passage: 2 * p + l as u32, grade: grade(p) }));
        }
    }
    let meta = Meta { name: "t".into(), licence: "".into(), source: "".into(), grades: Scale::up_to(5.0) };
    let c = Collection::from_parts(meta, passages, queries, [judgments.clone(), vec![], vec![]]);
    (c, judgments)
}

fn units(c: &Collection, j: &Judgment) -> (String, String) {
    let (q, p) = (&c.queries[j.query as usize], &c.passages[j.passage as usize]);
    (q.unit().to_owned(), p.unit().to_owned())
}

/// True grade → corrupted grade → share, counted by unit.
fn table(c: &Collection, before: &[Judgment], after: &[Judgment]) -> BTreeMap<(u32, u32), f64> {
    let mut seen = BTreeSet::new();
    let mut counts: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    let mut rows: BTreeMap<u32, f64> = BTreeMap::new();
    for (b, a) in before.iter().zip(after).filter(|(b, _)| seen.insert(units(c, b))) {
        *counts.entry((b.grade as u32, a.grade as u32)).or_default() += 1.0;
        *rows.entry(b.grade as u32).or_default() += 1.0;
    }
    counts.iter_mut().for_each(|((g, _), n)| *n /= rows[g]);
    counts
}

fn assert_table(c: &Collection, before: &[Judgment], noise: Noise, want: &[((u32, u32), f64)]) {
    let after = altered(c, before, &Alteration::Noise(noise), 5);
    let got = table(c, before, &after);
    for (cell, share) in want {
        let found = got.get(cell).copied().unwrap_or(0.0);
        assert!((found - share).abs() < 0.04, "{cell:?}: {found} for {share}; {got:?}");
    }
    assert!(got.keys().all(|k| want.iter().any(|(w, s)| w == k && *s > 0.0)), "{got:?}");
}

#[test]
fn rates_come_out_as_stated() {
    let (c, j) = parallel(800, &[0.0, 1.0, 3.0]);
    let want = [
        ((0, 0), 0.7),
        ((0, 1), 0.3),
        ((1, 0), 0.15),
        ((1, 1), 0.7),
        ((1, 3), 0.15),
        ((3, 1), 0.3),
        ((3, 3), 0.7),
    ];
    assert_table(&c, &j, Noise::Adjacent(0.3), &want);
    let uniform: Vec<_> = [0, 1, 3]
        .iter()
        .flat_map(|a| [0, 1, 3].map(|b| ((*a, b), if *a == b { 0.6 } else { 0.2 })))
        .collect();
    assert_table(&c, &j, Noise::Uniform(0.4), &uniform);
    // (1 − r)·I + r·C, with observed grades that the judgments do not have.
    let pairs = [(0.0, 0.0), (0.0, 0.0), (0.0, 2.0), (0.0, 4.0), (1.0, 4.0), (3.0, 2.0)];
    let matrix = Confusion::count(pairs).unwrap();
    let noise = Noise::Confusion { source: "m".into(), matrix, rate: 0.6 };
    let want = [
        ((0, 0), 0.7),
        ((0, 2), 0.15),
        ((0, 4), 0.15),
        ((1, 1), 0.4),
        ((1, 4), 0.6),
        ((3, 3), 0.4),
        ((3, 2), 0.6),
    ];
    assert_table(&c, &j, noise, &want);
}

#[test]
fn scales_of_one_grade_and_of_fractions() {
    let (c, j) = parallel(40, &[2.0]);
    for noise in [Noise::Adjacent(1.0), Noise::Uniform(1.0)] {
        assert_eq!(noise.corrupt(&c, &j, 1), j, "one grade has no other");
    }
    assert!(Noise::Adjacent(0.5).corrupt(&c, &[], 1).is_empty());
    // A step of fractional grades is the nearest grade at least 1 away; of a scale narrower than that, the next.
    let moved = |grades: &[f32]| {
        let (c, j) = parallel(60, grades);
        let after = Noise::Adjacent(1.0).corrupt(&c, &j, 1);
        let pairs: BTreeSet<(u32, u32)> =
            j.iter().zip(&after).map(|(b, a)| ((b.grade * 100.0) as u32, (a.grade * 100.0) as u32)).collect();
        pairs.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(moved(&[0.0, 0.25, 1.25, 2.0]), [(0, 125), (25, 125), (125, 25), (200, 25)]);
    assert_eq!(moved(&[0.0, 0.5, 0.75]), [(0, 50), (50, 0), (50, 75), (75, 50)]);
}

fn any_noise() -> impl Strategy<Value = fn(f64) -> Noise> {
    fn confusion(rate: f64) -> Noise {
        let pairs = [(0.0, 1.0), (0.0, 0.0), (1.0, 2.0), (2.0, 2.0), (2.0, 0.0), (3.0, 1.0)];
        Noise::Confusion { source: "m".into(), matrix: Confusion::count(pairs).unwrap(), rate }
    }
    prop_oneof![
        Just(Noise::Adjacent as fn(f64) -> Noise),
        Just(Noise::Uniform as fn(f64) -> Noise),
        Just(confusion as fn(f64) -> Noise)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn noise_nests_and_copies_agree(
        make in any_noise(), low in 0.0f64..=1.0, more in 0.0f64..=1.0, seed in 0u64..1000, fractional: bool,
    ) {
        let grades: &[f32] = if fractional { &[0.0, 0.5, 1.5, 3.0] } else { &[0.0, 1.0, 2.0, 3.0] };
        let (c, j) = parallel(9, grades);
        let high = low + (1.0 - low) * more;
        let (a, b) = (make(low).corrupt(&c, &j, seed), make(high).corrupt(&c, &j, seed));
        let mut of_unit = BTreeMap::new();
        for ((j, a), b) in j.iter().zip(&a).zip(&b) {
            prop_assert!((a.query, a.passage) == (j.query, j.passage));
            prop_assert!(a.grade == j.grade || a.grade == b.grade, "corrupted at the lower rate, so at the higher");
            prop_assert!((0.0..=3.0).contains(&b.grade));
            prop_assert_eq!(*of_unit.entry(units(&c, j)).or_insert(b.grade), b.grade, "copies agree");
        }
        // The order of the file decides nothing.
        let mut backwards: Vec<Judgment> = j.iter().rev().copied().collect();
        backwards = make(high).corrupt(&c, &backwards, seed);
        backwards.reverse();
        prop_assert_eq!(backwards, b);
    }

    #[test]
    fn subsets_nest_by_unit(of_queries: bool, low in 0.0f64..=1.0, more in 0.0f64..=1.0, seed in 0u64..1000) {
        let (c, j) = parallel(24, &[0.0, 1.0, 2.0, 3.0]);
        let make = if of_queries { Subset::Queries } else { Subset::Judgments };
        let high = low + (1.0 - low) * more;
        let (a, b) = (make(low).select(&c, &j, seed), make(high).select(&c, &j, seed));
        prop_assert!(a.iter().all(|x| b.contains(x)) && b.iter().all(|x| j.contains(x)));
        let kept: BTreeSet<_> = a.iter().map(|x| units(&c, x)).collect();
        let copies = j.iter().filter(|x| kept.contains(&units(&c, x))).count();
        prop_assert_eq!(copies, a.len(), "translations stay or go together");
        let queries = |own: bool| {
            let of = a.iter().filter(|x| c.queries[x.query as usize].group.is_some() == own);
            of.map(|x| units(&c, x).0).collect::<BTreeSet<_>>().len()
        };
        if of_queries {
            // Twelve units in English alone, twelve in both languages: each keeps its share.
            let want = ((low * 12.0).round() as usize).max(usize::from(low > 0.0));
            prop_assert_eq!((queries(false), queries(true)), (want, want));
        } else if low > 0.0 {
            prop_assert_eq!(queries(false) + queries(true), 24);
            let each = ((low * 10.0).round() as usize).max(1);
            prop_assert_eq!(kept.len(), 24 * each);
        }
        prop_assert_eq!(make(1.0).select(&c, &j, seed), j);
        prop_assert!(make(0.0).select(&c, c.judgments(polygrade_data::Split::Train), seed).is_empty());
    }
}

#[test]
fn seeds_differ() {
    let (c, j) = parallel(60, &[0.0, 1.0, 2.0, 3.0]);
    for alteration in ["adjacent:0.5", "uniform:0.5", "queries:0.5", "judgments:0.5"] {
        let alteration = Alteration::parse(alteration).unwrap();
        assert_ne!(altered(&c, &j, &alteration, 1), altered(&c, &j, &alteration, 2), "{alteration}");
    }
}

#[test]
fn texts_read_back_and_faults_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (matrix, truth, observed) =
        (dir.path().join("m.tsv"), dir.path().join("a.qrels"), dir.path().join("b.qrels"));
    std::fs::write(&matrix, "# a judge\ntrue\t0\t1\n3\t1\t3\n\n0\t4\t0\n").unwrap();
    std::fs::write(&truth, "q1 0 d1 3\nq1 0 d2 0\nq2 0 d1 3\nq3 0 d1 3\n").unwrap();
    std::fs::write(&observed, "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 3\nq9 0 d1 1\n").unwrap();
    let (m, t, o) = (matrix.display(), truth.display(), observed.display());
    for text in [
        "adjacent:0.2".to_owned(),
        "uniform:1".into(),
        "queries:0.25".into(),
        "judgments:0.5".into(),
        format!("confusion:{m}:0.5"),
        format!("confusion:{t}={o}:1"),
    ] {
        let read = Alteration::parse(&text).unwrap();
        assert_eq!(read.to_string(), text);
    }
    let loaded = Confusion::load(&matrix).unwrap();
    assert_eq!((loaded.truth(), loaded.observed()), (&[0.0, 3.0][..], &[0.0, 1.0][..]));
    assert_eq!((loaded.row(0), loaded.row(1)), (&[1.0, 0.0][..], &[0.25, 0.75][..]));
    let counted = Confusion::between_files(&truth, &observed).unwrap();
    assert_eq!((counted.truth(), counted.observed()), (&[0.0, 3.0][..], &[0.0, 2.0, 3.0][..]));
    assert_eq!(counted.row(1), [0.0, 0.5, 0.5]);
    for bad in ["", "adjacent", "adjacent:2", "uniform:-0.1", "queries:x", "confusion:0.5", "other:0.5"] {
        assert!(matches!(Alteration::parse(bad), Err(Error::Usage(_))), "{bad}");
    }
    for (text, line) in [
        ("true\t1\t0\n", ":1"),
        ("true\t0\t1\n0\t1\t1\n0\t1\t1\n", ":3"),
        ("true\t0\t1\n0\t1\n", ":2"),
        ("true\t0\t1\nx\t1\t1\n", ":2"),
        ("true\t0\t1\n1\t0\t0\n", ":2"),
        ("true\t0\t1\n", "holds no row"),
        ("", "holds no row"),
    ] {
        std::fs::write(&matrix, text).unwrap();
        let error = Confusion::load(&matrix).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains(line), "{text:?}: {error}");
    }
    std::fs::write(&observed, "q9 0 d1 1\n").unwrap();
    assert!(matches!(Confusion::between_files(&truth, &observed), Err(Error::Input(_))));
}

#[test]
fn confusion_between_judgments_is_over_what_both_judge() {
    let j = |query, passage, grade| Judgment { query, passage, grade };
    let truth = [j(0, 0, 1.0), j(0, 1, 0.0), j(1, 0, 1.0), j(2, 0, 3.0)];
    let observed = [j(1, 0, 2.0), j(0, 0, 1.0), j(0, 1, 0.0)];
    let c = Confusion::between(&truth, &observed).unwrap();
    assert_eq!((c.truth(), c.observed()), (&[0.0, 1.0][..], &[0.0, 1.0, 2.0][..]));
    assert_eq!((c.row(0), c.row(1)), (&[1.0, 0.0, 0.0][..], &[0.0, 0.5, 0.5][..]));
    assert!(Confusion::between(&truth, &[j(5, 5, 1.0)]).is_none());
}
