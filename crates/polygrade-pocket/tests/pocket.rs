//! The shipped encoder loads, is small, and finds translations: queries of `collections/mini`, on none of which it was
//! trained.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use polygrade_data::{Collection, Index, Lang, Split};
use polygrade_encoder::TextKind;
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn it_is_small() {
    // What crates.io takes, with room for the rest of the crate.
    assert!(polygrade_pocket::FILE.len() <= 9_500_000, "{} bytes", polygrade_pocket::FILE.len());
}

#[test]
fn queries_find_their_english_translations() {
    let encoder = polygrade_pocket::encoder().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../collections/mini");
    let collection = Collection::load(&root).unwrap();
    let mut groups: BTreeMap<&str, BTreeMap<&Lang, Index>> = BTreeMap::new();
    for split in [Split::Dev, Split::Test] {
        for &q in collection.graded(split).queries() {
            let query = &collection.queries[q as usize];
            groups.entry(query.unit()).or_default().insert(&query.lang, q);
        }
    }
    let text = |q: Index| collection.queries[q as usize].text.as_str();
    let english = Lang::parse("en").unwrap();
    let targets: Vec<&str> = groups.values().map(|g| text(g[&english])).collect();
    let targets = encoder.encode(&targets, TextKind::Query).unwrap();
    for lang in collection.langs().iter().filter(|l| **l != english) {
        let queries: Vec<&str> = groups.values().map(|g| text(g[lang])).collect();
        let queries = encoder.encode(&queries, TextKind::Query).unwrap();
        let dot = |i: usize, j: usize| -> f32 {
            queries.row(i).iter().zip(targets.row(j)).map(|(a, b)| a * b).sum()
        };
        let best = |i: usize| (0..targets.rows()).max_by(|a, b| dot(i, *a).total_cmp(&dot(i, *b)));
        let found = (0..queries.rows()).filter(|i| best(*i) == Some(*i)).count() as f64;
        let share = found / queries.rows() as f64;
        // By chance it would be one in a hundred. There is next to no Thai in what it was trained on.
        let floor = if lang.as_str() == "th" { 0.05 } else { 0.4 };
        assert!(share > floor, "{lang}: {share:.2}");
    }
}
