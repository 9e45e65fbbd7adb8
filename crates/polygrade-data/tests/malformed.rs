//! Each kind of fault is named with its file and line and a way to mend it, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use common::{Files, Place, faults, graded, in_english, lang, source};
use polygrade_data::import::{Format, Options};
use polygrade_data::{Collection, Error, Problem, Split, profile};
use std::fs;

/// One file of a source with `from` replaced by `to`, once.
fn edited(mut files: Files, name: &str, from: &str, to: impl AsRef<[u8]>) -> Files {
    let bytes = &mut files.iter_mut().find(|f| f.0 == name).unwrap_or_else(|| panic!("no {name}")).1;
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from} in {name}"));
    bytes.splice(at..at + from.len(), to.as_ref().iter().copied());
    files
}

/// Where the problems are, with paths relative to the source.
fn places(place: &Place, problems: &[Problem]) -> Vec<(String, Option<u64>)> {
    let relative =
        |p: &Problem| p.at.path.strip_prefix(place.src()).unwrap_or(&p.at.path).display().to_string();
    problems.iter().map(|p| (relative(p), p.at.line)).collect()
}

type Spot<'a> = (&'a str, u64);

fn assert_places(place: &Place, problems: &[Problem], want: &[Spot]) {
    let want: Vec<_> = want.iter().map(|(name, line)| (name.to_string(), Some(*line))).collect();
    assert_eq!(places(place, problems), want, "{problems:#?}");
}

const CORPUS: &str = "corpus.jsonl";
const QUERIES: &str = "queries.jsonl";
const TRAIN: &str = "qrels/train.tsv";
const TEST: &str = "qrels/test.tsv";

/// Loads, profiles and (as BEIR) imports the small native collection with one fault.
fn check(name: &str, from: &str, to: impl AsRef<[u8]>, said: &str, want: &[Spot], import_too: bool) {
    let place = Place::of(&edited(common::native(), name, from, to));
    let loaded = faults(Collection::load(&place.src()).map(|_| ()));
    assert_places(&place, &loaded, want);
    assert!(loaded[0].what.contains(said), "{said:?} is not in {:?}", loaded[0].what);
    let (profiled, problems) = profile::profile(&place.src(), 20).unwrap();
    assert_eq!((problems.kept(), profiled.problems), (loaded.as_slice(), loaded.len() as u64));
    if import_too {
        let options = Options { scale: Some((0.0, 3.0)), ..Options::default() };
        assert_places(&place, &place.faults(Format::Beir, &options), want);
    }
}

#[test]
fn judgments() {
    let row = "q1\td3\t0.5";
    for (to, said) in [
        ("q9\td3\t0.5", "\"q9\""),
        ("q1\td9\t0.5", "\"d9\""),
        ("q1\td3\t3.5", "3.5"),
        ("q1\td3\t-1", "-1"),
        ("q1\td3\tNaN", "NaN"),
        ("q1\td3\tinf", "inf"),
        ("q1\td3\thigh", "high"),
        ("q1\td1\t2", "second time"),
        ("q1\td3", "2 columns"),
        ("q1 0 d3 1 run", "5 columns"),
    ] {
        check(TRAIN, row, to, said, &[(TRAIN, 3)], true);
    }
    check(TRAIN, row, "q9\td9\t1", "\"q9\"", &[(TRAIN, 3), (TRAIN, 3)], true);
    check(TEST, "q2\td2", "q1\td2", "train and in test", &[(TEST, 2)], false);
    // Folders are read in the order of their names, test before train, so there the others are the second.
    let place = Place::of(&edited(common::native(), TEST, "q2\td2", "q1\td2"));
    assert_places(&place, &place.faults(Format::Beir, &Options::default()), &[(TRAIN, 2), (TRAIN, 3)]);
}

#[test]
fn passages_and_queries() {
    let third: &[Spot] = &[(CORPUS, 3), (TRAIN, 3)];
    check(CORPUS, "\"d2\"", "\"d1\"", "second time", &[(CORPUS, 2), (TEST, 2)], true);
    check(QUERIES, "\"q2\"", "\"q1\"", "second time", &[(QUERIES, 2), (TEST, 2)], true);
    check(CORPUS, "\"d3\"", "\"d 3\"", "\"d 3\"", third, true);
    check(CORPUS, "\"d3\"", "\"d3\\u00a0\"", "white space", third, true);
    check(CORPUS, "\"d3\"", "\"\"", "empty", third, true);
    check(CORPUS, "\"lang\":\"pt-BR\"}", "\"lang\":\"pt-BR\"", "column", third, true);
    check(CORPUS, "\"text\":\"Uma raposa corre.\",", "", "`text`", third, true);
    check(QUERIES, "\"_id\":\"q2\",", "", "`_id`", &[(QUERIES, 2), (TEST, 2)], true);
    check(CORPUS, "\"Uma raposa corre.\"", "[1]", "record", third, true);
    check(CORPUS, "Uma raposa corre.", " \\t", "empty text", third, true);
    check(QUERIES, "Wer läuft?", "", "empty text", &[(QUERIES, 2), (TEST, 2)], true);
    check(CORPUS, ",\"lang\":\"pt-BR\"", "", "no language", third, false);
    check(CORPUS, "pt-BR", "portuguese", "\"portuguese\"", third, true);
}

#[test]
fn a_title_does_not_stand_in_for_the_text_of_a_query() {
    let to = "\"title\":\"Wer\",\"text\":\"\"";
    check(QUERIES, "\"text\":\"Wer läuft?\"", to, "empty text", &[(QUERIES, 2), (TEST, 2)], true);
}

#[test]
fn judgments_of_an_id_that_looks_like_a_comment_are_not_lost() {
    let files = edited(edited(common::native(), QUERIES, "\"q2\"", "\"#2\""), TEST, "q2", "#2");
    let place = Place::of(&files);
    match Collection::load(&place.src()) {
        Ok(c) => assert_eq!(graded(&c, Split::Test), [("#2".into(), "d2".into(), 2.0)]),
        Err(e) => assert!(e.to_string().contains("#2"), "{e}"),
    }
}

#[test]
fn encodings() {
    check(CORPUS, "läuft", b"l\xe4uft", "not UTF-8", &[(CORPUS, 2), (TEST, 2)], true);
    let utf16 = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    for (format, files) in common::sources().into_iter().filter(|s| s.0 != Format::Mteb) {
        for i in 0..files.len() {
            let mut changed = files.clone();
            changed[i].1 = utf16(std::str::from_utf8(&files[i].1).unwrap());
            let place = Place::of(&changed);
            let found = places(&place, &place.faults(format, &in_english()));
            assert!(found.contains(&(files[i].0.clone(), Some(1))), "{format:?} {}: {found:?}", files[i].0);
        }
    }
}

#[test]
fn latin_1_is_named_by_line_in_every_format() {
    for (format, files) in common::sources().into_iter().filter(|s| s.0 != Format::Mteb) {
        for (i, (name, bytes)) in files.iter().enumerate() {
            let mut lines: Vec<Vec<u8>> =
                bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let last = lines.len() as u64;
            let bad = lines.iter_mut().next_back().unwrap();
            let Some(at) =
                bad.windows(2).rposition(|w| w == b". " || w == b".\"" || w == b"?\"" || w == b"?\n")
            else {
                continue;
            };
            bad.insert(at, 0xe9);
            let mut changed = files.clone();
            changed[i].1 = lines.concat();
            let place = Place::of(&changed);
            let found = places(&place, &place.faults(format, &in_english()));
            let here = found.iter().filter(|f| **f == (name.clone(), Some(last))).count();
            assert_eq!(here, 1, "{format:?} {name}:{last}: {found:?}");
        }
    }
}

#[test]
fn a_first_line_in_latin_1_counts_once() {
    let place = Place::of(&edited(common::pairs(), "sick-en-train.csv", "A fox runs.", b"A f\xe9x runs."));
    assert_places(&place, &place.faults(Format::Pairs, &Options::default()), &[("sick-en-train.csv", 1)]);
}

#[test]
fn truncated_archives_in_every_format() {
    let cut = |bytes: &[u8]| {
        let mut packed = common::gz(bytes);
        packed.truncate(packed.len() - 9);
        packed
    };
    for (format, files) in common::sources().into_iter().filter(|s| s.0 != Format::Mteb) {
        for (i, (name, bytes)) in files.iter().enumerate() {
            let mut changed = files.clone();
            changed[i] = (format!("{name}.gz"), cut(bytes));
            let place = Place::of(&changed);
            let found = places(&place, &place.faults(format, &in_english()));
            let here = found.iter().any(|f| f.0 == changed[i].0);
            assert!(here, "{format:?} {name}: {found:?}");
        }
    }
    let place = Place::of(&common::native());
    let corpus = fs::read(place.file(CORPUS)).unwrap();
    fs::remove_file(place.file(CORPUS)).unwrap();
    place.put("corpus.jsonl.gz", &cut(&corpus));
    let found = faults(Collection::load(&place.src()).map(|_| ()));
    assert!(
        found.iter().any(|p| p.at.path == place.file("corpus.jsonl.gz") && p.at.line.is_some()),
        "{found:?}"
    );
}

#[test]
fn missing_files() {
    for name in ["collection.toml", CORPUS, QUERIES] {
        let place = Place::of(&common::native());
        fs::remove_file(place.file(name)).unwrap();
        let found = faults(Collection::load(&place.src()).map(|_| ()));
        assert_eq!(places(&place, &found), [(name.to_owned(), None)]);
        if name != "collection.toml" {
            assert_eq!(places(&place, &place.faults(Format::Beir, &in_english())), [(name.to_owned(), None)]);
        }
    }
    let place = Place::of(&common::native());
    fs::remove_dir_all(place.file("qrels")).unwrap();
    let found = faults(Collection::load(&place.src()).map(|_| ()));
    assert_eq!(places(&place, &found), [("qrels".to_owned(), None)]);
    let nowhere = place.path("nowhere");
    assert_eq!(faults(Collection::load(&nowhere).map(|_| ()))[0].at.path, nowhere);
    for (format, _) in common::sources() {
        let place = Place::with(&[("README.md", "nothing of use")]);
        let found = place.faults(format, &in_english());
        assert!(found[0].at.path.starts_with(place.src()), "{format:?}: {found:?}");
    }
}

#[test]
fn descriptions() {
    let toml = "collection.toml";
    for (from, to, said) in [
        ("max = 3.0", "max = ", "cannot be read"),
        ("max = 3.0", "max = 3.0\nfloor = 1", "floor"),
        ("max = 3.0", "max = \"three\"", "cannot be read"),
    ] {
        let place = Place::of(&edited(common::native(), toml, from, to));
        let found = faults(Collection::load(&place.src()).map(|_| ()));
        let line = if to.contains("floor") { 7 } else { 6 };
        assert_places(&place, &found, &[(toml, line)]);
        assert!(found[0].what.contains(said), "{}", found[0].what);
    }
    for max in ["0.0", "-1.0", "nan", "inf"] {
        let place = Place::of(&edited(common::native(), toml, "3.0", max));
        let found = faults(Collection::load(&place.src()).map(|_| ()));
        assert_eq!(found[0].at.path, place.file(toml));
        assert!(found[0].what.contains("grades.max"), "{}", found[0].what);
    }
}

/// A source of one file; the places its import names.
fn one(format: Format, name: &str, text: &str, want: &[u64]) {
    let place = Place::with(&[(name, text)]);
    let want: Vec<Spot> = want.iter().map(|line| (name, *line)).collect();
    assert_places(&place, &place.faults(format, &Options::default()), &want);
}

#[test]
fn lines_of_each_format() {
    let st = Format::SentenceTransformers;
    one(
        st,
        "en.jsonl",
        "{\"a\":\"q\",\"b\":\"p\",\"label\":1}\n\n{\"a\":\"q\",\"b\":\"p2\",\"label\":\"x\"}\n",
        &[3],
    );
    one(
        st,
        "en.jsonl",
        "{\"a\":\"q\",\"b\":\"p\",\"label\":1}\n{\"a\":\"q\",\"b\":[\"p2\"],\"labels\":[1,2]}\n",
        &[2],
    );
    one(st, "en.jsonl", "{\"a\":\"q\",\"b\":\"p\",\"label\":1}\n{\"a\":\"q\"}\n[]\n", &[2, 3]);
    one(
        st,
        "en.jsonl",
        "{\"a\":\"q\",\"b\":\"p\",\"label\":1}\n{\"a\":\"q\",\"b\":\"p\",\"label\":2}\n",
        &[2],
    );
    one(st, "en.csv", "a,b,score\nq,p,1\nq,p2,high\n", &[3]);
    one(
        Format::FlagEmbedding,
        "en.jsonl",
        "{\"query\":\"q\",\"pos\":[\"p\"],\"pos_scores\":[1,2]}\n{\"query\":\"q\",\"pos\":[\"p\"]}\n",
        &[1],
    );
    one(Format::Tevatron, "en.jsonl", "{\"docid\":1,\"text\":\"p\"}\n{\"query_id\":1}\n", &[2]);
    one(Format::Pairs, "x-en.csv", "a,b,1\nc,d,high\ne,f\n", &[2, 3]);
    one(Format::Pairs, "x-en.csv", "a,b,1\nc,d,NaN\ne,f,-1\na,b,2\n", &[2, 3, 4]);
    one(Format::Squad, "x.en.json", "{\"data\": [\n{\"paragraphs\": [\n{\"context\": 3}]}]}", &[3]);
    one(Format::Squad, "x.en.json", "{\"data\": [\n{\"paragraphs\": [", &[2]);
    one(Format::Topics, "en.jsonl", "\n{\"topic\":\"t\"}\n", &[2]);
}

#[test]
fn lines_of_tables_with_other_line_ends_and_blank_lines() {
    one(Format::Pairs, "x-en.csv", "a,b,1\r\nc,d,high\r\n\"e\r\ne\",f,1\r\ng,h\r\n", &[2, 5]);
    one(Format::Pairs, "x-en.csv", "a,b,1\n\n\nc,d,high\n\ne,f\n", &[4, 6]);
    one(Format::SentenceTransformers, "en.csv", "a,b,score\r\nq,p,1\r\n\r\nq,p2,high\r\n", &[4]);
}

#[test]
fn rows_with_columns_missing_are_not_taken_for_another_form() {
    one(Format::SentenceTransformers, "en.csv", "query,passage,score\nq,p,2\nq,p2\n", &[3]);
}

#[test]
fn topics_and_qrels_of_trec() {
    let place = Place::of(&edited(common::trec(), "topics.en.tsv", "2\tWho barks?", "2 Who barks?"));
    assert_places(
        &place,
        &place.faults(Format::Trec, &in_english()),
        &[("topics.en.tsv", 2), ("qrels.test.txt", 1)],
    );
}

#[test]
fn tevatron_reports_broken_lines_and_unknown_ids_together() {
    let files = edited(common::tevatron_new(), "train.jsonl", "[2]", "[2, 99]");
    let files = edited(files, CORPUS, "{\"docid\":\"1\"", "{}\n{\"docid\":\"1\"");
    let place = Place::of(&files);
    assert_places(&place, &place.faults(Format::Tevatron, &in_english()), &[(CORPUS, 1), ("train.jsonl", 1)]);
}

#[test]
fn faults_before_a_file_that_cannot_be_read_on_are_reported_too() {
    let files = edited(common::squad(), "xquad.en.json", "A fox runs.", "");
    let place = Place::of(&edited(files, "xquad.en.json", "\n]}\n", "\n"));
    let found = place.faults(Format::Squad, &in_english());
    assert!(found.iter().any(|p| p.what.contains("empty text")), "{found:?}");
    assert!(found.iter().any(|p| p.at.line == Some(6)), "{found:?}");
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_files() {
    use common::Column::Text;
    let place = Place::of(&common::mteb());
    place.put("corpus/test-00001-of-00002.parquet", b"PAR1 is not all of it");
    let found = place.faults(Format::Mteb, &in_english());
    assert_eq!(places(&place, &found), [("corpus/test-00001-of-00002.parquet".to_owned(), None)]);
    let corpus = common::parquet(&[("_id", Text(&["d1", "d2"])), ("text", Text(&["A fox.", ""]))]);
    place.put("corpus/test-00000-of-00001.parquet", &corpus);
    fs::remove_file(place.file("corpus/test-00001-of-00002.parquet")).unwrap();
    let found = place.faults(Format::Mteb, &in_english());
    let want = [("corpus/test-00000-of-00001.parquet", 2), ("data/test-00000-of-00001.parquet", 2)];
    assert_places(&place, &found, &want);
}

#[test]
fn all_faults_up_to_the_limit_and_the_count_of_all() {
    let mut files = common::beir();
    (0..30).for_each(|i| files[2].1.extend(format!("q1\tlost{i}\t1\n").bytes()));
    for limit in [3, 20, 100] {
        let place = Place::of(&files);
        let options = Options { problem_limit: limit, ..in_english() };
        let Err(Error::Input(problems)) = place.try_import(Format::Beir, &options) else {
            panic!("no fault")
        };
        assert_eq!((problems.total(), problems.kept().len()), (30, limit.min(30)));
        assert_eq!(problems.kept()[2].at.line, Some(6));
        assert_eq!(problems.to_string().contains("(30 in all)"), limit < 30);
        place.assert_nothing_left();
    }
}

#[test]
fn skip_invalid_imports_the_rest() {
    let files = edited(common::beir(), CORPUS, "A dog.", "");
    let files = edited(files, TRAIN, "q1\t2\t0", "q1\td1\tbad\nq9\td1\t7");
    let place = Place::of(&files);
    let options = Options { skip_invalid: true, ..in_english() };
    let summary = place.try_import(Format::Beir, &options).unwrap();
    assert_eq!((summary.passages, summary.queries, summary.judgments), (1, 2, 1));
    let want = [(CORPUS, 2), ("qrels/dev.tsv", 2), (TRAIN, 3), (TRAIN, 4)];
    assert_places(&place, summary.skipped.kept(), &want);
    let c = Collection::load(&place.out()).unwrap();
    assert_eq!(graded(&c, Split::Train), [("q1".into(), "d1".into(), 3.0)]);
    assert_eq!(c.meta.grades.max, 3.0, "a judgment that is left out does not widen the scale");
}

#[test]
fn nothing_but_faults_is_no_collection() {
    let nothing = [(CORPUS, ""), (QUERIES, "{\"_id\":\"q1\",\"text\":\"x\"}\n"), (TRAIN, "q1\td1\t1\n")];
    for skip_invalid in [false, true] {
        let place = Place::with(&nothing);
        place.faults(Format::Beir, &Options { skip_invalid, ..in_english() });
    }
    let place = Place::with(&[(CORPUS, ""), (QUERIES, ""), (TRAIN, "query-id\tcorpus-id\tscore\n")]);
    let found = place.faults(Format::Beir, &in_english());
    assert_eq!(found[0].at.path, place.src(), "the whole path, not the last part of it");
    assert!(found[0].what.contains("0 passages"), "{}", found[0].what);
}

#[test]
fn what_exists_is_neither_overwritten_nor_touched() {
    for (format, files) in common::sources() {
        let place = Place::of(&files);
        fs::create_dir(place.out()).unwrap();
        fs::write(place.out().join("thesis.txt"), "years of work").unwrap();
        let before = common::tree(&place.out());
        let error = place.try_import(format, &in_english()).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error:?}");
        assert_eq!(error.exit_code(), 2);
        assert_eq!(common::tree(&place.out()), before);
        place.assert_no_litter();
    }
    let place = Place::of(&common::beir());
    fs::write(place.out(), "a file").unwrap();
    assert!(matches!(place.try_import(Format::Beir, &in_english()), Err(Error::Usage(_))));
    assert_eq!(fs::read(place.out()).unwrap(), b"a file");
    place.assert_no_litter();
    fs::remove_file(place.out()).unwrap();
    fs::create_dir(place.out()).unwrap();
    place.import(Format::Beir, &in_english());
}

#[cfg(unix)]
#[test]
fn a_target_that_cannot_be_made_leaves_no_litter() {
    let place = Place::of(&common::beir());
    std::os::unix::fs::symlink(place.path("nowhere"), place.out()).unwrap();
    let result = place.try_import(Format::Beir, &in_english());
    assert!(matches!(result, Err(Error::Io { .. } | Error::Usage(_))), "{result:?}");
    place.assert_no_litter();
}

#[test]
fn sources_that_name_no_language_or_nothing() {
    let text = String::from_utf8(common::squad()[0].1.clone()).unwrap();
    let place = Place::with(&[("plain.json", &text)]);
    assert_eq!(
        places(&place, &place.faults(Format::Squad, &Options::default())),
        [("plain.json".to_owned(), None)]
    );
    let none = place.try_import_from(Format::Squad, &[], &Options::default());
    assert!(matches!(none, Err(Error::Usage(_))));
    let named =
        polygrade_data::import::Source { lang: Some(lang("en")), ..source(&place.file("plain.json")) };
    place.import_from(Format::Squad, &[named], &Options::default());
}

#[test]
fn the_profile_of_a_wide_scale_stays_small() {
    let place = Place::of(&edited(common::native(), "collection.toml", "3.0", "1000000.0"));
    let (profiled, _) = profile::profile(&place.src(), 20).unwrap();
    assert!(profiled.languages.iter().all(|l| l.thresholds.len() <= 1000));
}

#[test]
fn translations_judged_in_two_splits_are_a_leak() {
    let place = Place::of(&edited(common::native(), QUERIES, "\"h2\"", "\"h1\""));
    let found = faults(Collection::load(&place.src()).map(|_| ()));
    assert_places(&place, &found, &[(TEST, 2)]);
    assert!(found[0].what.contains("same group"), "{found:?}");
}
