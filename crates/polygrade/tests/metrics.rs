//! The verbs `metrics` and `trec-eval`: trec_eval's spelling of options, output to the byte, exit codes.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What trec_eval 10.0-rc3 printed.
const TREC_EVAL_HUGE_GAIN: &str = "ndcg_1=1,2=3000000000 \tall\t0.0000\n";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../polygrade-eval/tests/fixtures/trec_eval").join(name)
}

fn polygrade(args: &[&str], files: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polygrade")).args(args).args(files).output().unwrap()
}

#[test]
fn trec_eval_takes_its_options_and_prints_its_bytes() {
    let files = ["qrels.test", "results.trunc"].map(fixture);
    let want = fs::read(fixture("out.test.aqcM")).unwrap();
    for args in [
        &["trec-eval", "-m", "all_trec", "-q", "-c", "-M100"][..],
        &["trec-eval", "-qcM100", "-mall_trec"],
        &[
            "trec-eval",
            "--query_eval_wanted",
            "--complete_rel_info_wanted",
            "--Max_retrieved_per_topic=100",
            "--measure",
            "all_trec",
            "-Rqrels",
            "-Ttrec_results",
            "--threads",
            "1",
        ],
    ] {
        let out = polygrade(args, &files);
        assert!(out.status.success() && out.stdout == want, "{args:?}");
    }
    let level = ["qrels.rel_level", "results.test"].map(fixture);
    let out = polygrade(&["trec-eval", "-m", "all_trec", "-mrelstring.20", "-q", "-l2"], &level);
    assert_eq!(out.stdout, fs::read(fixture("out.test.aql")).unwrap());
    assert!(polygrade(&["trec-eval", "-n"], &files).stdout.is_empty());
    let json: Value =
        serde_json::from_slice(&polygrade(&["trec-eval", "-mmap", "--json"], &files).stdout).unwrap();
    assert_eq!((&json[0]["measure"], &json[0]["query"]), (&"map".into(), &"all".into()));
    assert!(json[0]["value"].is_number());
}

#[test]
fn metrics_shows_a_line_for_each_run() {
    let files = ["qrels.test", "results.test", "results.trunc"].map(fixture);
    let out = polygrade(&["metrics", "-m", "AP", "-mnDCG@10", "-q", "--json"], &files);
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    // `map` of out.test.
    assert_eq!(format!("{:.4}", json[0]["summary"]["AP"].as_f64().unwrap()), "0.1785");
    let queries = json[0]["by_query"].as_object().unwrap();
    assert_eq!(json[0]["topics"], queries.len());
    let text = String::from_utf8(polygrade(&["metrics", "-m", "AP"], &files).stdout).unwrap();
    assert!(text.lines().count() == 3 && text.contains("0.1785"), "{text}");
}

#[test]
fn faults_have_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let (qrels, run) = (put("q", "q1 0 a 1\n"), put("r", "q1 Q0 a 1 x t\nq1 Q0 a 1 2 t\n"));
    for verb in ["metrics", "trec-eval"] {
        let files = [qrels.clone(), run.clone()];
        let out = polygrade(&[verb], &files);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(1) && said.contains("r:1: has \"x\" for a score"), "{said}");
        let out = polygrade(&[verb, "--lenient"], &files);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && said.contains("passed over") && said.contains("r:1:"), "{said}");
        assert_eq!(polygrade(&[verb, "-m", "nonsense"], &files).status.code(), Some(2));
        assert_eq!(polygrade(&[verb, "--lenient", "--strict"], &files).status.code(), Some(2));
        assert_eq!(polygrade(&[verb], &[qrels.clone(), dir.path().join("none")]).status.code(), Some(1));
    }
}

#[test]
fn what_is_at_fault_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let said = |args: &[&str], files: &[&PathBuf], code: i32, want: &str| {
        let files: Vec<PathBuf> = files.iter().map(|f| (*f).clone()).collect();
        let out = polygrade(args, &files);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(want), "{args:?}: {text}");
    };
    let (qrels, empty) = (file("qrels", b"1 0 a 1\n"), file("empty", b""));
    let run = file("run", b"1 Q0 a 1 2.5 t\n1 Q0 b 2 1.5 t\n");
    for verb in ["metrics", "trec-eval"] {
        said(&[verb], &[&empty, &run], 1, "empty: holds no judgments");
    }
    // A compressed run that is cut off is no bad line to pass over.
    let lines: String = (0..200_000).map(|i| format!("1 Q0 {} 1 {i} t\n", i * 7919 % 1_000_003)).collect();
    let zst = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    let cut = file("cut.zst", &zst[..zst.len() / 2]);
    said(&["metrics", "--lenient"], &[&qrels, &cut], 1, "cannot be read on");
    // Each of a and b is preferred to the other.
    let prefs = file("prefs", b"1 g 0 a 2\n1 g 0 b 1\n1 g 1 b 2\n1 g 1 a 1\n");
    said(&["trec-eval", "-Rprefs", "-mall_prefs"], &[&prefs, &run], 1, "prefs");
    said(&["trec-eval", "-l-1"], &[&qrels, &run], 2, "-l must be 0 or more");
    let stdin = PathBuf::from("-");
    said(&["trec-eval"], &[&stdin, &stdin], 2, "standard input");
    // Gains that do not fit trec_eval's comparison: its own answer, from its program.
    let (two, both) = (file("two", b"1 0 a 2\n1 0 b 1\n"), file("both", b"1 Q0 b 1 2.5 t\n1 Q0 a 2 1.5 t\n"));
    let out = polygrade(&["trec-eval", "-m", "ndcg.1=1,2=3000000000"], &[two, both]);
    assert!(out.status.success());
    assert_eq!(String::from_utf8_lossy(&out.stdout), TREC_EVAL_HUGE_GAIN);
}
