//! Judgments with annotators and sources, and grades that are re-mapped on import.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use common::{Place, faults, graded, in_english};
use polygrade_data::export::{ExportFormat, export};
use polygrade_data::import::{Format, GradeMap, Options};
use polygrade_data::profile::profile;
use polygrade_data::{Collection, Split};
use std::fs;

const META: (&str, &str) = ("collection.toml", "name = \"out\"\n[grades]\nmax = 3\n");
const CORPUS: (&str, &str) = (
    "corpus.jsonl",
    "{\"_id\":\"d1\",\"text\":\"a fox\",\"lang\":\"en\",\"group\":\"d\"}\n\
     {\"_id\":\"d2\",\"text\":\"a dog\",\"lang\":\"en\"}\n\
     {\"_id\":\"d3\",\"text\":\"ein Fuchs\",\"lang\":\"de\",\"group\":\"d\"}\n",
);
const QUERIES: (&str, &str) = (
    "queries.jsonl",
    "{\"_id\":\"q1\",\"text\":\"fox\",\"lang\":\"en\",\"group\":\"q\"}\n\
     {\"_id\":\"q2\",\"text\":\"Fuchs\",\"lang\":\"de\",\"group\":\"q\"}\n",
);
const HEAD: &str = "query-id\tcorpus-id\tscore\tannotator\tsource\n";

fn place(qrels: &str) -> Place {
    Place::with(&[META, CORPUS, QUERIES, ("qrels/train.tsv", qrels)])
}

type Row = (String, String, f32, Option<String>, Option<String>);

fn votes(c: &Collection) -> Vec<Row> {
    let votes = c.votes(Split::Train).unwrap();
    let id = |(j, o): (polygrade_data::Judgment, polygrade_data::Origin)| {
        let (q, p) = (c.queries[j.query as usize].id.clone(), c.passages[j.passage as usize].id.clone());
        (q, p, j.grade, o.annotator.map(str::to_owned), o.source.map(str::to_owned))
    };
    votes.iter().map(id).collect()
}

const ROWS: &str =
    "q1\td1\t3\tann\tcrowd\nq1\td2\t0\tann\tcrowd\nq1\td1\t1\tbob b\t\nq1\td1\t2\t\tllm\nq1\td2\t1\n";

#[test]
fn several_judgments_of_a_pair_are_kept_and_their_mean_is_the_grade() {
    let place = place(&format!("{HEAD}{ROWS}"));
    let c = Collection::load(&place.src()).unwrap();
    let own = |q: &str, p: &str, g| (q.to_owned(), p.to_owned(), g);
    assert_eq!(graded(&c, Split::Train), [own("q1", "d1", 2.0), own("q1", "d2", 0.5)]);
    let some = |name: &str| Some(name.to_owned());
    let row = |p: &str, g, a, s| ("q1".to_owned(), p.to_owned(), g, a, s);
    let want = [
        row("d1", 3.0, some("ann"), some("crowd")),
        row("d2", 0.0, some("ann"), some("crowd")),
        row("d1", 1.0, some("bob b"), None),
        row("d1", 2.0, None, some("llm")),
        row("d2", 1.0, None, None),
    ];
    assert_eq!(votes(&c), want);
    let of: Vec<f32> = c.votes_of(0, 0).map(|(grade, _)| grade).collect();
    assert_eq!(of, [3.0, 1.0, 2.0]);

    // A translation has the mean, and knows whose judgments it is of.
    let table = c.graded(Split::Train);
    assert_eq!((table.grade(1, 2), table.given_to(1, 2)), (Some(2.0), Some((0, 0))));
    assert_eq!(table.given_to(1, 1), Some((0, 1)));

    // BEIR keeps all; TREC has no place for names.
    for (format, back) in [(ExportFormat::Beir, Format::Beir), (ExportFormat::Trec, Format::Trec)] {
        let again = Place::new();
        export(&c, format, &again.src()).unwrap();
        import_all(&again, back);
        let found = Collection::load(&again.out()).unwrap();
        match format {
            ExportFormat::Beir => {
                assert_eq!(votes(&found), want);
                assert_ne!(found.fingerprint(), bare(&found).fingerprint());
            }
            _ => assert!(found.votes(Split::Train).is_none()),
        }
        assert_eq!(graded(&found, Split::Train), graded(&c, Split::Train));
    }
}

/// The same without its names.
fn bare(c: &Collection) -> Collection {
    let judgments = Split::ALL.map(|s| c.judgments(s).to_vec());
    Collection::from_parts(c.meta.clone(), c.passages.clone(), c.queries.clone(), judgments)
}

fn import_all(place: &Place, format: Format) {
    // The scale is given, as the mean may lie below the highest grade.
    let options = Options { scale: Some((0.0, 3.0)), split: common_split(), ..Options::default() };
    place.try_import(format, &options).unwrap();
}

fn common_split() -> polygrade_data::split::SplitRule {
    polygrade_data::split::SplitRule::parse("train", 1).unwrap()
}

#[test]
fn the_same_origin_judges_a_pair_once() {
    for (rows, line) in [
        ("q1\td1\t3\tann\tcrowd\nq1\td1\t1\tann\tcrowd\n", 3),
        ("q1\td1\t3\tann\nq1\td1\t1\tann\t\n", 3),
        ("q1\td1\t3\nq1\td2\t3\nq1\td1\t1\t\t\n", 4),
        ("q1\td1\t3\tann\tcrowd\tmore\n", 2),
        ("q1 d1 3 ann crowd\n", 2),
        ("q1\td1\tann\tcrowd\n", 2),
    ] {
        let place = place(&format!("{HEAD}{rows}"));
        let found = faults(Collection::load(&place.src()).map(|_| ()));
        assert_eq!(found.iter().map(|p| p.at.line.unwrap()).collect::<Vec<_>>(), [line], "{rows}");
    }
    // Without the columns a fourth one is TREC's, and a pair is judged once.
    let place = place("query-id\tcorpus-id\tscore\nq1\td1\t3\nq1\td1\t1\n");
    assert!(faults(Collection::load(&place.src()).map(|_| ()))[0].what.contains("second time"));
}

#[test]
fn one_column_alone_and_in_any_order() {
    let place = place(
        "query-id\tcorpus-id\tscore\tsource\tnote\tannotator\nq1\td1\t3\tcrowd\tx\tann\nq1\td1\t2\tcrowd\n",
    );
    let c = Collection::load(&place.src()).unwrap();
    let some = |name: &str| Some(name.to_owned());
    let rows: Vec<_> = votes(&c).into_iter().map(|(_, _, g, a, s)| (g, a, s)).collect();
    assert_eq!(rows, [(3.0, some("ann"), some("crowd")), (2.0, None, some("crowd"))]);
}

#[test]
fn a_file_begun_without_names_gets_their_columns() {
    // Two files of one split: the second alone names annotators.
    let qrels = format!("{HEAD}q1\td2\t1\tann\t\n");
    let place = Place::with(&[
        CORPUS,
        QUERIES,
        ("qrels/train.a.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t3\n"),
        ("qrels/train.b.tsv", &qrels),
    ]);
    import_all(&place, Format::Beir);
    let text = fs::read_to_string(place.out().join("qrels/train.tsv")).unwrap();
    assert_eq!(text, format!("{HEAD}q1\td1\t3\t\t\nq1\td2\t1\tann\t\n"));
    assert_eq!(fs::read_dir(place.out().join("qrels")).unwrap().count(), 1);
}

#[test]
fn the_profile_has_their_agreement() {
    let rows = "q1\td1\t3\ta\ts\nq1\td1\t3\tb\ts\nq1\td2\t0\ta\ts\nq1\td2\t0\tb\ts\nq1\td3\t1\ta\ts\n";
    let place = place(&format!("{HEAD}{rows}"));
    let (found, _) = profile(&place.src(), 20).unwrap();
    let a = found.agreement.unwrap();
    assert_eq!((a.annotators["a"], a.annotators["b"], a.sources["s"]), (3, 2, 5));
    assert_eq!((a.shared_pairs, a.alpha, a.alpha_by_lang["en"]), (2, Some(1.0), Some(1.0)));
    let without = Place::with(&[META, CORPUS, QUERIES, ("qrels/train.tsv", "q1\td1\t3\n")]);
    assert!(profile(&without.src(), 20).unwrap().0.agreement.is_none());
}

#[test]
fn grades_are_mapped_on_import() {
    let trec = |rows: &str| {
        Place::with(&[
            ("topics.tsv", "q1\tfox\n"),
            ("qrels.tsv", rows),
            (
                "corpus.jsonl",
                "{\"docid\":\"d1\",\"text\":\"a fox\"}\n{\"docid\":\"d2\",\"text\":\"a dog\"}\n",
            ),
        ])
    };
    let options = |maps: &[&str], scale| {
        let mut map = GradeMap::default();
        maps.iter().for_each(|m| map.add(m).unwrap());
        Options { map, scale, split: common_split(), ..in_english() }
    };
    let two = "q1 0 d1 3\nq1 0 d2 1.5\n";
    let own = |a, b| [("q1".to_owned(), "d1".to_owned(), a), ("q1".to_owned(), "d2".to_owned(), b)];

    let c = trec(two).import(Format::Trec, &options(&["0..1.5=0,2=1,3=3"], None));
    assert_eq!(graded(&c, Split::Train), own(3.0, 0.0));
    assert_eq!(c.meta.grades.map, ["0..1.5=0,2=1,3=3"]);
    // Mapped first, then moved to begin at 0.
    let c = trec(two).import(Format::Trec, &options(&["1..2=1,3=5"], Some((1.0, 5.0))));
    assert_eq!((graded(&c, Split::Train), c.meta.grades.max), (own(4.0, 0.0).to_vec(), 4.0));
    // A file's own map goes first; that of a file that is not there is refused.
    let c = trec(two).import(Format::Trec, &options(&["*", "qrels.tsv:3=2,*"], None));
    assert_eq!(graded(&c, Split::Train), own(2.0, 1.5));
    let place = trec(two);
    let e = place.try_import(Format::Trec, &options(&["*", "other.tsv:3=1"], None)).err().unwrap();
    assert!(e.exit_code() == 2 && e.to_string().contains("other.tsv"), "{e}");
    assert!(!place.out().exists());

    let place = trec(two);
    let problems = place.faults(Format::Trec, &options(&["3=3"], None));
    assert_eq!((problems.len(), problems[0].at.line), (1, Some(2)));
    assert!(problems[0].at.path.ends_with("qrels.tsv") && problems[0].what.contains("1.5"), "{problems:?}");
}
