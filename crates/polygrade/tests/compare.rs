//! `polygrade compare` as users meet it: runs of the shipped collection, faults in files, the formats of a paper.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(dir: &Path, args: &str) -> Output {
    let mut c = Command::new(env!("CARGO_BIN_EXE_polygrade"));
    c.current_dir(dir).args(args.split_whitespace()).output().unwrap()
}

fn ok(dir: &Path, args: &str) -> String {
    let out = run(dir, args);
    assert!(out.status.success(), "{args}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn json(dir: &Path, args: &str) -> Value {
    serde_json::from_str(&ok(dir, &format!("{args} --json"))).unwrap()
}

fn fails(dir: &Path, args: &str, code: i32, words: &[&str]) {
    let out = run(dir, args);
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args}\n{text}");
    words.iter().for_each(|w| assert!(text.contains(w), "{args} should say {w:?}:\n{text}"));
}

/// A folder with the collection as `mini`, its test judgments, and two runs.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("collections/mini"), dir.path().join("mini")).unwrap();
    ok(dir.path(), "eval bm25 mini --run own.trec");
    ok(dir.path(), "eval bm25 mini --pool all --run all.trec");
    dir
}

const QRELS: &str = "mini/qrels/test.tsv";

#[test]
fn figures_are_those_of_eval_and_of_the_formulas() {
    let dir = folder();
    let dir = dir.path();
    let c = json(
        dir,
        &format!("compare {QRELS} own.trec all.trec --collection mini -m nDCG@10 -m RR --all-pairs"),
    );
    let eval = json(dir, "eval bm25 mini -m nDCG@10 -m RR");
    assert_eq!(c["langs"].as_array().unwrap().len(), 10);
    assert_eq!(c["families"], serde_json::json!([2, 20]));
    let topics = c["by_topic"].as_array().unwrap();
    for cell in c["cells"].as_array().unwrap() {
        let measure = cell["measure"].as_str().unwrap();
        let run = &cell["runs"][0];
        let differences: Vec<f64> = match cell["lang"].as_str() {
            Some(lang) => {
                let want = eval["pools"][0]["by_lang"][lang][measure].as_f64().unwrap();
                assert!((cell["baseline_mean"].as_f64().unwrap() - want).abs() < 1e-12, "{lang} {measure}");
                let own = topics.iter().filter(|t| t["lang"] == lang).map(|t| &t["values"][measure]);
                own.map(|v| v["all"].as_f64().unwrap() - v["own"].as_f64().unwrap()).collect()
            }
            None => {
                // Queries are called LANG-TOPIC; translations are one observation.
                let mut units: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
                for t in topics {
                    let v = &t["values"][measure];
                    let unit = t["topic"].as_str().unwrap().split_once('-').unwrap().1;
                    units
                        .entry(unit)
                        .or_default()
                        .push(v["all"].as_f64().unwrap() - v["own"].as_f64().unwrap());
                }
                assert!(units.len() * 10 == topics.len());
                units.values().map(|d| d.iter().sum::<f64>() / 10.0).collect()
            }
        };
        let n = differences.len() as f64;
        assert_eq!(cell["topics"].as_f64().unwrap(), n);
        let mean = differences.iter().sum::<f64>() / n;
        let sd = (differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let close =
            |got: &Value, want: f64| assert!((got.as_f64().unwrap() - want).abs() < 1e-9, "{got} {want}");
        close(&run["difference"], mean);
        close(&cell["pairs"][0]["difference"], mean);
        if sd > 1e-9 {
            close(&run["t"]["t"], mean / (sd / n.sqrt()));
            close(&run["d"], mean / sd);
        }
        // Two systems: Tukey's permutations are the sign flips.
        let [tukey, flips] =
            [&cell["pairs"][0]["p"], &run["randomization"]["p"]].map(|p| p.as_f64().unwrap());
        assert!((tukey - flips).abs() < 0.01, "{tukey} {flips}");
    }
}

#[test]
fn threads_baseline_and_names() {
    let dir = folder();
    let dir = dir.path();
    let args = format!("compare {QRELS} own.trec all.trec --collection mini --all-pairs --json");
    let one = ok(dir, &format!("{args} --threads 1"));
    assert!(one == ok(dir, &format!("{args} --threads 2")), "threads change the result");
    let back = json(dir, &format!("compare {QRELS} own.trec all.trec --baseline all.trec --names x,y"));
    assert_eq!((back["baseline"].as_str(), back["runs"][0].as_str()), (Some("y"), Some("x")));
    fs::create_dir_all(dir.join("a/deep")).unwrap();
    fs::create_dir_all(dir.join("b/deep")).unwrap();
    fs::copy(dir.join("own.trec"), dir.join("a/deep/run.trec")).unwrap();
    fs::copy(dir.join("own.trec"), dir.join("b/deep/run.trec")).unwrap();
    let same = json(dir, &format!("compare {QRELS} a/deep/run.trec b/deep/run.trec"));
    assert_eq!((same["baseline"].as_str(), same["runs"][0].as_str()), (Some("a"), Some("b")));
    let run = &same["cells"][0]["runs"][0];
    assert_eq!((run["t"]["p"].as_f64(), run["randomization"]["p"].as_f64()), (Some(1.0), Some(1.0)));
    assert!(same["warnings"][0].as_str().unwrap().contains("same values"), "{}", same["warnings"]);
}

#[test]
fn topics_that_are_missing_count_as_nothing_and_are_told() {
    let dir = folder();
    let dir = dir.path();
    let text = fs::read_to_string(dir.join("own.trec")).unwrap();
    let cut: String = text.lines().filter(|l| !l.starts_with("en-")).map(|l| format!("{l}\n")).collect();
    fs::write(dir.join("cut.trec"), cut + "other Q0 d 1 1.0 x\n").unwrap();
    let args = format!("compare {QRELS} own.trec cut.trec -m RR --collection mini");
    let c = json(dir, &args);
    let english = c["cells"].as_array().unwrap().iter().find(|c| c["lang"] == "en").unwrap();
    assert_eq!(english["runs"][0]["mean"], 0.0);
    let said = String::from_utf8(run(dir, &args).stderr).unwrap();
    let n = english["topics"].as_u64().unwrap();
    assert!(said.contains(&format!("cut ranks nothing for {n} judged topics")), "{said}");
    assert!(said.contains("cut ranks 1 topic without judgments"), "{said}");
}

#[test]
fn equal_differences_on_two_topics_are_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("qrels"), "1 0 a 1\n2 0 a 1\n").unwrap();
    fs::write(dir.join("first"), "1 Q0 a 1 2 x\n2 Q0 a 1 2 x\n").unwrap();
    let second = "1 Q0 b 1 2 x\n1 Q0 a 2 1 x\n2 Q0 b 1 2 x\n2 Q0 a 2 1 x\n";
    fs::write(dir.join("second"), second).unwrap();
    for test in ["t", "bootstrap", "randomization"] {
        let args = format!("compare qrels first second -m RR -m rr --test {test}");
        let text = ok(dir, &args);
        assert!(text.contains("may be chance (p = 0.5000"), "{text}");
        assert!(!text.contains('‡') && !text.contains("more than chance"), "{text}");
        assert!(text.contains("over 1 comparison\n") && text.matches("RR, 2 topics").count() == 1, "{text}");
        let run = &json(dir, &args)["cells"][0]["runs"][0];
        assert_eq!((run["t"]["p"].as_f64(), run["bootstrap_p"].as_f64()), (Some(0.5), Some(0.5)));
        assert_eq!((run["difference"].as_f64(), run["t"]["low"].as_f64()), (Some(-0.5), None));
    }
    // A single topic is one in words, too.
    fs::write(dir.join("qrels"), "1 0 a 1\n").unwrap();
    let out = run(dir, "compare qrels first second -m RR");
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    assert!(said.contains("RR, 1 topic\n") && said.contains("few topics (1)"), "{said}");
    assert!(!said.contains("1 topics") && !said.contains("1 comparisons"), "{said}");
}

#[test]
fn letters_of_many_systems_stay_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let topics = 1..=8;
    let qrels: String = topics.clone().map(|t| format!("{t} 0 a 1\n")).collect();
    fs::write(dir.join("qrels"), qrels).unwrap();
    let mut args = "compare qrels".to_owned();
    // The last of 28 finds all, the others nothing.
    for s in 0..28 {
        let found = if s == 27 { "a" } else { "b" };
        let run: String = topics.clone().map(|t| format!("{t} Q0 {found} 1 1 x\n")).collect();
        fs::write(dir.join(format!("s{s}")), run).unwrap();
        args += &format!(" s{s}");
    }
    let table = ok(dir, &format!("{args} -m RR --all-pairs --permutations 1000 --resamples 100 --markdown"));
    assert!(table.contains("<sup>a,b,c,") && table.contains(",z,a1</sup>"), "{table}");
}

#[test]
fn tables_for_people_and_papers() {
    let dir = folder();
    let dir = dir.path();
    let args = format!("compare {QRELS} own.trec all.trec -m nDCG@10");
    let text = ok(dir, &format!("{args} -q --test wilcoxon --interval bca"));
    for words in
        ["baseline own", "p Wilcoxon", "all is lower than own by", "en-health-02-qa", "all − own", "‡"]
    {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let markdown = ok(dir, &format!("{args} --markdown --collection mini"));
    let widths: Vec<usize> =
        markdown.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
    assert!(widths[..4] == [3; 4] && widths.contains(&12), "{markdown}");
    let latex = ok(dir, &format!("{args} --latex --names a_1,b_2"));
    for words in ["\\toprule", "a\\_1 & \\textbf{0.", "$^{\\ddagger}$", "\\end{table}"] {
        assert!(latex.contains(words), "{words}:\n{latex}");
    }
    let letters = ok(dir, &format!("{args} --latex --all-pairs"));
    assert!(letters.contains("a own & \\textbf{0.") && letters.contains("$^{b}$"), "{letters}");
}

#[test]
fn faults_say_where_and_whose() {
    let dir = folder();
    let dir = dir.path();
    fs::write(
        dir.join("langs.tsv"),
        "en-health-02-qa\ten\nx\nen-health-02-qb\tenglish!\nen-health-02-qa\ten\n",
    )
    .unwrap();
    let args = format!("compare {QRELS} own.trec all.trec");
    let words = ["langs.tsv:2", "2 or 3", "langs.tsv:3", "english!", "langs.tsv:4", "again", "to mend it"];
    fails(dir, &format!("{args} --langs langs.tsv"), 1, &words);
    fs::write(dir.join("few.tsv"), "en-health-02-qa\ten\n").unwrap();
    fails(dir, &format!("{args} --langs few.tsv"), 1, &["few.tsv", "has no language for judged topic"]);
    let judged = fs::read_to_string(dir.join(QRELS)).unwrap();
    fs::write(dir.join("more.tsv"), judged + "xx-1\ten-p1\t1\n").unwrap();
    let words = ["mini: has no language for judged topic \"xx-1\"", "holds all judged topics"];
    fails(dir, "compare more.tsv own.trec all.trec --collection mini", 1, &words);
    fs::write(dir.join("other.trec"), "q Q0 d 1 1.0 x\n").unwrap();
    fails(dir, &format!("compare {QRELS} own.trec other.trec"), 1, &["other.trec", "none of the judged"]);
    fs::write(dir.join("empty.tsv"), "").unwrap();
    fails(dir, "compare empty.tsv own.trec all.trec", 1, &["no judgments"]);
    fails(dir, "compare none.tsv own.trec all.trec", 1, &["none.tsv"]);
    fails(dir, &format!("compare {QRELS} own.trec"), 2, &["RUN"]);
    fails(dir, &format!("{args} --test f"), 2, &["--test", "randomization"]);
    fails(dir, &format!("{args} -m foo"), 2, &["foo"]);
    fails(dir, &format!("{args} --alpha 2"), 2, &["alpha"]);
    fails(dir, &format!("{args} --alpha 1e-17"), 2, &["alpha", "0.000001"]);
    fails(dir, &format!("{args} --resamples 10000001"), 2, &["resamples", "10^7"]);
    fails(dir, &format!("{args} --permutations 3"), 2, &["permutations"]);
    fails(dir, &format!("{args} --baseline x"), 2, &["own, all"]);
    fails(dir, &format!("{args} --names x"), 2, &["2 different names"]);
    fails(dir, &format!("compare {QRELS} own.trec own.trec"), 2, &["twice"]);
    fails(dir, &format!("{args} --latex --markdown"), 2, &["--markdown"]);
}
