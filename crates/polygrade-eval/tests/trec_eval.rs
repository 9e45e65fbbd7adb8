//! What trec_eval prints, byte for byte: the recorded outputs of its own test folder (`quicktest` in its
//! Makefile); see fixtures/README.md. Where the data set `metric_checks` is unpacked (`common::data`) all
//! of them are compared, else those whose inputs are small enough to
//! be kept here.
#![allow(clippy::unwrap_used)]

mod common;

use common::fixture;
use polygrade_eval::trec::{Format, Options, Request, Version, evaluate};
use std::path::Path;

/// (expected output, options and measures, judgments, run)
const QUICKTEST: &[(&str, &str, &str, &str)] = &[
    ("out.test", "", "qrels.test", "results.test"),
    ("out.test", "", "qrels.test.with-comments", "results.test"),
    ("out.comment.test", "", "qrels.comment.test", "results.comment.test"),
    ("out.test.a", "-m all_trec", "qrels.test", "results.test"),
    ("out.test.aq", "-m all_trec -q", "qrels.test", "results.test"),
    ("out.test.aqc", "-m all_trec -q -c", "qrels.test", "results.trunc"),
    ("out.test.aqcM", "-m all_trec -q -c -M100", "qrels.test", "results.trunc"),
    ("out.test.aql", "-m all_trec -m relstring.20 -q -l2", "qrels.rel_level", "results.test"),
    ("out.test.prefs", "-m all_prefs -q -R prefs", "prefs.test", "prefs.results.test"),
    ("out.test.prefs", "-m all_prefs -q -R prefs", "prefs.comment.test", "prefs.results.test"),
    ("out.test.qrels_prefs", "-m all_prefs -q -R qrels_prefs", "qrels.test", "results.test"),
    ("out.test.qrels_jg", "-m qrels_jg -q -R qrels_jg", "qrels.123", "results.test"),
    ("out.test.qrels_jg", "-m qrels_jg -q -R qrels_jg", "qrels.comments.123", "results.test"),
    (
        "out.test.meas_params",
        "-q -m iprec_at_recall..10,.20,.25,.75,.50 -m P.5,7,3 -m recall.20,2000 -m Rprec_mult.5.0,0.2,0.35 \
         -m utility.2,-1,0,0 -m 11pt_avg..25,.5,.75 -m ndcg.1=3,2=9,4=4.5 -m ndcg_cut.10,20,23.4 \
         -m success.2,5,20",
        "qrels.test",
        "results.test",
    ),
    ("out.test.aqZ", "-q -m all_trec -Z", "qrels.test", "results.test"),
];

/// The options that the tests use.
fn options(text: &str) -> (Options, Vec<&str>, bool) {
    let (mut options, mut measures, mut zscores) = (Options::default(), Vec::new(), false);
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "-q" => options.per_query = true,
            "-n" => options.summary = false,
            "-c" => options.complete = true,
            "-J" => options.judged_only = true,
            "-m" => measures.push(words.next().unwrap()),
            "-R" => options.format = Format::parse(words.next().unwrap()).unwrap(),
            "-Z" => zscores = true,
            "-N" => options.collection = words.next().unwrap().parse().unwrap(),
            "-9" => options.version = Version::V9,
            word if word.starts_with("-M") => options.depth = word[2..].parse().unwrap(),
            word if word.starts_with("-l") => options.level = word[2..].parse().unwrap(),
            word => panic!("{word}"),
        }
    }
    (options, measures, zscores)
}

fn compare(want: &str, text: &str, qrels: &Path, run: &Path, zscores: &Path) {
    let (options, measures, z) = options(text);
    let request = Request::parse(&measures).unwrap();
    let got = evaluate(qrels, run, z.then_some(zscores), &request, &options).unwrap().text;
    let difference = want.lines().zip(got.lines()).find(|(a, b)| a != b);
    assert_eq!(difference, None, "trec_eval {text} {} {}", qrels.display(), run.display());
    assert_eq!(want.len(), got.len(), "trec_eval {text}");
}

#[test]
fn recorded_outputs_are_reproduced_byte_for_byte() {
    let whole = common::data("metric_checks/trec_eval/test");
    let dir = whole.clone().unwrap_or_else(|| fixture("trec_eval"));
    let mut compared = 0;
    for (expected, text, qrels, run) in QUICKTEST {
        let files = [expected, qrels, run].map(|name| dir.join(name));
        if whole.is_none() && !files.iter().all(|f| f.is_file()) {
            continue;
        }
        let want = std::fs::read_to_string(&files[0]).unwrap();
        compare(&want, text, &files[1], &files[2], &dir.join("zscores_file"));
        compared += 1;
    }
    let least = if whole.is_some() { QUICKTEST.len() } else { 10 };
    assert!(compared >= least, "only {compared} outputs");
}

/// Pairs that tools/check_trec_eval.py made, with what trec_eval printed.
#[test]
fn random_pairs_are_reproduced_byte_for_byte() {
    let text = polygrade_data::io::read_to_string(&fixture("trec_eval_random.jsonl.gz")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (qrels, run) = (dir.path().join("qrels"), dir.path().join("run"));
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| case[key].as_str().unwrap();
        std::fs::write(&qrels, text("qrels")).unwrap();
        std::fs::write(&run, text("run")).unwrap();
        let words = case["options"].as_array().unwrap().iter().map(|w| w.as_str().unwrap());
        let version = if text("version") == "9" { "-9" } else { "" };
        let options = words.chain([version]).collect::<Vec<_>>().join(" ");
        compare(text("expected"), &options, &qrels, &run, Path::new(""));
    }
    assert!(text.lines().count() >= 40);
}

/// What trec_eval leaves open, as docs/metrics.md defines it.
#[test]
fn what_trec_eval_leaves_open() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let qrels = put("qrels", "q1 0 a 1\nq1 0 b 0\nq2 0 a 1\nq3 0 a -1\n");
    let value = |run: &Path, options: &Options| {
        let request = Request::parse(&["map", "num_q"]).unwrap();
        evaluate(&qrels, run, None, &request, options).map(|r| (r.text, r.missing, r.warnings.total()))
    };
    let summary = |q: usize, map: &str| format!("{:<22}\tall\t{q}\n{:<22}\tall\t{map}\n", "num_q", "map");
    let plain = Options::default();
    // A judged topic that the run lacks is passed over (trec_eval 10.0-rc3 stops), a topic whose grades are
    // all negative has no relevant passage (it stops or crashes).
    let run = put("run", "q1 Q0 a 1 2 t\nq3 Q0 a 1 2 t\nq9 Q0 a 1 2 t\n");
    assert_eq!(value(&run, &plain).unwrap(), (summary(2, "0.5000"), 1, 0));
    // Infinite scores have their place; 0 and -0 are one score.
    let run = put("run", "q1 Q0 a 1 -inf t\nq1 Q0 b 1 inf t\nq1 Q0 c 2 -0 t\nq1 Q0 d 2 0 t\n");
    assert_eq!(value(&run, &plain).unwrap().0, summary(1, "0.2500"));
    // Duplicates and NaN are faults with their line; lenient, the best place counts and the line goes.
    let run = put("run", "q1 Q0 b 1 3 t\nq1 Q0 a 1 1 t\nq1 Q0 a 1 5 t\nq1 Q0 b 1 NaN t\n");
    let Err(polygrade_data::Error::Input(problems)) = value(&run, &plain) else { panic!() };
    let lines: Vec<_> = problems.kept().iter().map(|p| p.at.line.unwrap()).collect();
    assert_eq!(lines, [4, 2], "NaN while reading, then what comes twice: {problems}");
    let lenient = Options { faults: polygrade_eval::Faults::Lenient, ..plain.clone() };
    assert_eq!(value(&run, &lenient).unwrap(), (summary(1, "1.0000"), 2, 2));
    // Version 9 sees scores in single precision: a tie, which the later id wins.
    let run = put("run", "q1 Q0 a 1 1.00000001 t\nq1 Q0 b 2 1 t\n");
    let old = Options { version: Version::V9, ..plain.clone() };
    assert_eq!(value(&run, &plain).unwrap().0, summary(1, "1.0000"));
    assert_eq!(value(&run, &old).unwrap().0, summary(1, "0.5000"));
    // Nothing in common is the input's fault, measures of another format the command's.
    let run = put("run", "q8 Q0 a 1 1 t\n");
    assert!(matches!(value(&run, &plain), Err(polygrade_data::Error::Input(_))));
    let groups = Request::parse(&["map_avgjg"]).unwrap();
    let wrong = evaluate(&qrels, &run, None, &groups, &plain);
    assert!(matches!(wrong, Err(polygrade_data::Error::Usage(_))));
}

/// A run of several blocks, its topics interleaved: places and faults are those of the whole file.
#[test]
fn long_runs_are_put_together_from_their_pieces() {
    use polygrade_eval::run::{self, ReadOptions, Run};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let (topics, n) = (5, 200_000);
    let line = |i: usize| format!("q{} Q0 passage-{i:020} 0 {}.5 tag{}\n", i % topics, n - i, i / (n / 2));
    let mut lines: Vec<String> = (0..n).map(line).collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let run = run::read(&path).unwrap();
    assert_eq!((run.len(), run.tag.as_str()), (topics, "tag1"));
    for (t, (query, ranking)) in run.iter().enumerate() {
        let want =
            (0..n).filter(|i| i % topics == t).map(|i| (format!("passage-{i:020}"), (n - i) as f64 + 0.5));
        assert_eq!(query, format!("q{t}"));
        assert!(want.eq(ranking.iter().map(|(id, score)| (id.to_owned(), score))));
    }
    // Lines count from 1.
    lines[120_000] = "q1 Q0 x 0 NaN t\n".into();
    lines[150_002] = lines[2].replace(".5 tag", ".25 tag");
    std::fs::write(&path, lines.concat()).unwrap();
    let Err(polygrade_data::Error::Input(problems)) = run::read(&path) else { panic!() };
    let at: Vec<_> = problems.kept().iter().map(|p| p.at.line.unwrap()).collect();
    assert_eq!(at, [120_001, 150_003]);
    let lenient = ReadOptions { faults: polygrade_eval::Faults::Lenient, ..ReadOptions::default() };
    let (run, warnings) = Run::read(&path, &lenient).unwrap();
    assert_eq!((run.iter().map(|(_, r)| r.len()).sum::<usize>(), warnings.total()), (n - 2, 2));
    assert_eq!(
        run.get("q2").unwrap().iter().next().unwrap(),
        ("passage-00000000000000000002", n as f64 - 1.5)
    );
}
