//! What trec_eval prints, byte for byte: the recorded outputs of its own test folder (`quicktest` in its
//! Makefile); see fixtures/README.md. Where the whole folder is at hand (POLYGRADE_TREC_EVAL_TEST, or the
//! unpacked collection `metric_checks`) all of them are compared, else those whose inputs are small enough to
//! be kept here.
#![allow(clippy::unwrap_used)]

mod common;

use common::fixture;
use polygrade_eval::trec::{Format, Options, Request, Version, evaluate};
use std::path::{Path, PathBuf};

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
    let whole = std::env::var_os("POLYGRADE_TREC_EVAL_TEST").map(PathBuf::from);
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
