//! What must not change values: the order of lines, unjudged passages below the depth, and any transform of
//! scores that keeps their order; and readers that take any bytes. `POLYGRADE_FUZZ_CASES` sets the number of
//! cases.
#![allow(clippy::unwrap_used)]

use polygrade_data::Error;
use polygrade_eval::run::{self, ReadOptions, Run};
use polygrade_eval::trec::{Format, Options, Request, Version, evaluate};
use polygrade_eval::{Faults, Measure, Qrels, ScoreOptions, Scores, qrels, score};
use proptest::prelude::*;
use proptest::sample::Index;
use std::path::Path;

/// Passages of the pool, by number.
const POOL: usize = 30;

/// (topic, passage, grade) and (topic, passage, score), each passage once for a topic.
type Pair = (Vec<(usize, usize, i8)>, Vec<(usize, usize, i32)>);

fn pair() -> impl Strategy<Value = Pair> {
    let once = |range: std::ops::Range<usize>| prop::collection::btree_set((0..4usize, 0..POOL), range);
    (once(1..60), once(1..90), any::<u64>()).prop_map(|(judged, ranked, salt)| {
        let mix = |t: usize, p: usize| (t as u64 * 31 + p as u64).wrapping_mul(salt | 1) >> 40;
        let judged = judged.into_iter().map(|(t, p)| (t, p, (mix(t, p) % 5) as i8 - 1)).collect();
        let ranked = ranked.into_iter().map(|(t, p)| (t, p, (mix(p, t) % 20) as i32 - 9)).collect();
        (judged, ranked)
    })
}

fn config() -> ProptestConfig {
    let cases = std::env::var("POLYGRADE_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(128);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The values of every metric, and what trec_eval would print, of lines of judgments and of a run.
fn values(judged: &[String], ranked: &[String]) -> Option<(Scores, String)> {
    let dir = tempfile::tempdir().unwrap();
    let (qrels_file, run_file) = (dir.path().join("qrels"), dir.path().join("run"));
    std::fs::write(&qrels_file, judged.concat()).unwrap();
    std::fs::write(&run_file, ranked.concat()).unwrap();
    let measures: Vec<Measure> =
        Measure::EXAMPLES.split(", ").filter(|n| !n.is_empty()).map(|n| Measure::parse(n).unwrap()).collect();
    let options = ScoreOptions { depth: Some(20), ..ScoreOptions::default() };
    let scores =
        score(&qrels::read(&qrels_file).unwrap(), &run::read(&run_file).unwrap(), &measures, &options);
    let options = Options { per_query: true, depth: 20, ..Options::default() };
    let request = Request::parse(&["all_trec"]).unwrap();
    let printed = evaluate(&qrels_file, &run_file, None, &request, &options).ok()?.text;
    Some((scores, printed))
}

fn judged_lines(judged: &[(usize, usize, i8)]) -> Vec<String> {
    judged.iter().map(|(t, p, g)| format!("q{t} 0 d{p} {g}\n")).collect()
}

fn ranked_lines(ranked: &[(usize, usize, i32)], score: impl Fn(i32) -> f64) -> Vec<String> {
    ranked.iter().map(|(t, p, s)| format!("q{t}\tQ0\td{p}\t0\t{:e}\ttag\n", score(*s))).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn lines_may_come_in_any_order((judged, ranked) in pair(), swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 40)) {
        let (mut qrels, mut run) = (judged_lines(&judged), ranked_lines(&ranked, f64::from));
        let before = values(&qrels, &run);
        for (i, j) in &swaps {
            let n = qrels.len();
            qrels.swap(i.index(n), j.index(n));
            let n = run.len();
            run.swap(i.index(n), j.index(n));
        }
        prop_assert_eq!(values(&qrels, &run), before);
    }

    #[test]
    fn scores_count_by_their_order_alone((judged, ranked) in pair(), scale in 1e-3f64..1e3, shift in -1e3f64..1e3) {
        let qrels = judged_lines(&judged);
        let before = values(&qrels, &ranked_lines(&ranked, f64::from));
        prop_assert_eq!(&values(&qrels, &ranked_lines(&ranked, |s| f64::from(s) * scale + shift)), &before);
        prop_assert_eq!(&values(&qrels, &ranked_lines(&ranked, |s| f64::from(s).exp())), &before);
    }

    #[test]
    fn unjudged_passages_below_the_depth_change_nothing((judged, ranked) in pair(), more in 1usize..30) {
        // Lists as long as the depth.
        let mut full = ranked;
        for t in 0..4 {
            full.extend((0..20).map(|i| (t, POOL + 1 + i, -20 - i as i32)));
        }
        let qrels = judged_lines(&judged);
        let before = values(&qrels, &ranked_lines(&full, f64::from));
        for t in 0..4 {
            full.extend((0..more).map(|i| (t, 2 * POOL + i, -99)));
        }
        prop_assert_eq!(values(&qrels, &ranked_lines(&full, f64::from)), before);
    }

    #[test]
    fn metrics_agree_with_what_trec_eval_prints((judged, ranked) in pair()) {
        let names = [("map", "AP"), ("Rprec", "Rprec"), ("bpref", "Bpref"), ("recip_rank", "RR"), ("infAP", "infAP"),
            ("ndcg", "nDCG"), ("set_P", "SetP"), ("set_recall", "SetR"), ("set_F", "SetF"), ("set_map", "SetAP"),
            ("set_relative_P", "SetRelP"), ("P_5", "P@5"), ("recall_5", "R@5"), ("ndcg_cut_10", "nDCG@10"),
            ("map_cut_10", "AP@10"), ("success_5", "Success@5"), ("iprec_at_recall_0.20", "IPrec@0.2"),
            ("num_ret", "NumRet"), ("num_rel", "NumRel"), ("num_rel_ret", "NumRelRet")];
        let dir = tempfile::tempdir().unwrap();
        let (qrels_file, run_file) = (dir.path().join("qrels"), dir.path().join("run"));
        std::fs::write(&qrels_file, judged_lines(&judged).concat()).unwrap();
        std::fs::write(&run_file, ranked_lines(&ranked, f64::from).concat()).unwrap();
        let options = Options { per_query: true, ..Options::default() };
        let Ok(report) = evaluate(&qrels_file, &run_file, None, &Request::parse(&["all_trec"]).unwrap(), &options)
        else { return Ok(()) };
        let measures: Vec<Measure> = names.iter().map(|(_, n)| Measure::parse(n).unwrap()).collect();
        let (q, r) = (qrels::read(&qrels_file).unwrap(), run::read(&run_file).unwrap());
        let scores = score(&q, &r, &measures, &ScoreOptions::default());
        for line in report.text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let Some(i) = names.iter().position(|(n, _)| *n == fields[0].trim_end()) else { continue };
            let got = match scores.topics.iter().position(|t| t == fields[1]) {
                Some(topic) => scores.values[topic][i],
                None => scores.summary[i],
            };
            let want: f64 = fields[2].parse().unwrap();
            prop_assert!((got - want).abs() <= 0.500001e-4, "{} {}: {} {}", fields[0], fields[1], got, want);
        }
    }
}

/// What readers stumble over.
const TOKENS: &[&[u8]] = &[
    b"NaN",
    b"-1",
    b"1e39",
    b"inf",
    b"-inf",
    b"-0",
    b"1e400",
    b"99999999999999999999",
    b"\t",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"#",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\x0b",
    b"q1",
    b"d1",
    b"Q0",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
];

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let sources: Vec<Vec<u8>> = vec![
        b"q1 0 d1 1\nq1 0 d2 0\nq2 0 d1 3\n".to_vec(),
        b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td3\t0\n".to_vec(),
        b"q1 Q0 d1 1 2.5 t\nq1 Q0 d2 2 1.5 t\nq2 Q0 d1 1 0 t\n".to_vec(),
        b"q1 g1 s1 d1 2.0\nq1 g1 s2 d2 1.0\nq1 g2 s1 d1 0\nq1 g2 s1 d2 1\n".to_vec(),
        b"q1 map 0.2 0.1\nq2 map 0.1 0\n".to_vec(),
        Vec::new(),
    ];
    let change = (any::<Index>(), any::<Index>(), 0usize..6);
    (prop::sample::select(sources), prop::collection::vec(change, 0..6)).prop_map(|(mut bytes, changes)| {
        for (at, token, cut) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, TOKENS[token.index(TOKENS.len())].iter().copied());
        }
        bytes
    })
}

fn named_fault<T>(result: Result<T, Error>) {
    if let Err(e) = result {
        assert!(!matches!(e, Error::Internal(_)) && !e.to_string().is_empty(), "{e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * config().cases, ..config() })]

    /// Every reader on any bytes: a value or a named fault, never a panic.
    #[test]
    fn readers_take_any_bytes(a in damaged(), b in damaged(), c in damaged(), lenient in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let (qrels_file, run_file, z) = (put("a", &a), put("b", &b), put("c", &c));
        let faults = if lenient { Faults::Lenient } else { Faults::Strict };
        named_fault(Qrels::read(&qrels_file, &qrels::ReadOptions { faults, no_remarks: false }));
        named_fault(Run::read(&run_file, &ReadOptions { faults, ..ReadOptions::default() }));
        for (format, measure) in [(Format::Qrels, "all_trec"), (Format::QrelsGroups, "qrels_jg"),
            (Format::Prefs, "all_prefs"), (Format::QrelsPrefs, "prefs")] {
            for version in [Version::V9, Version::V10] {
                let request = Request::parse(&[measure]).unwrap();
                let options = Options { faults, format, version, per_query: true, complete: true, ..Options::default() };
                named_fault(evaluate(&qrels_file, &run_file, None, &request, &options));
                let z: Option<&Path> = lenient.then_some(&z);
                named_fault(evaluate(&qrels_file, &run_file, z, &request, &options));
            }
        }
    }
}
