//! Each format in, exactly; each export in again; the same bytes however the source is packed.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

mod common;

use common::{Files, Place, graded, graded_texts, in_english, lang, pairs_of, source};
use polygrade_data::export::{ExportFormat, export};
use polygrade_data::import::{Format, Options, Source};
use polygrade_data::split::SplitRule;
use polygrade_data::{Collection, Judgment, Meta, Passage, Query, Scale, Split};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Id, title, text, language, group.
type Row<'a> = (&'a str, Option<&'a str>, &'a str, &'a str, Option<&'a str>);

fn passages(c: &Collection) -> Vec<Row<'_>> {
    let all = c.passages.iter();
    all.map(|p| (p.id.as_str(), p.title.as_deref(), p.text.as_str(), p.lang.as_str(), p.group.as_deref()))
        .collect()
}

fn queries(c: &Collection) -> Vec<(&str, &str, &str, Option<&str>)> {
    c.queries.iter().map(|q| (q.id.as_str(), q.text.as_str(), q.lang.as_str(), q.group.as_deref())).collect()
}

fn triples(rows: &[(&str, &str, f32)]) -> Vec<(String, String, f32)> {
    rows.iter().map(|(q, p, g)| (q.to_string(), p.to_string(), *g)).collect()
}

/// (language, text) of all passages.
fn passage_texts(c: &Collection) -> Vec<(&str, &str)> {
    c.passages.iter().map(|p| (p.lang.as_str(), p.text.as_str())).collect()
}

#[test]
fn beir() {
    let c = Place::of(&common::beir()).import(Format::Beir, &in_english());
    assert_eq!(
        passages(&c),
        [("d1", Some("Foxes"), "A fox runs.", "en", None), ("2", None, "A dog.", "en", None)]
    );
    assert_eq!(queries(&c), [("q1", "Who runs?", "en", None), ("q2", "A dog?", "en", None)]);
    assert_eq!(graded(&c, Split::Train), triples(&[("q1", "2", 0.0), ("q1", "d1", 3.0)]));
    assert_eq!(graded(&c, Split::Dev), triples(&[("q2", "2", 2.0)]));
    assert_eq!(graded(&c, Split::Test), []);
    assert_eq!((c.meta.grades.max, c.meta.name.as_str(), c.meta.source.as_str()), (3.0, "out", "src"));
}

#[test]
fn trec() {
    let c = Place::of(&common::trec()).import(Format::Trec, &in_english());
    assert_eq!(passages(&c), [("d1", Some("T"), "A fox.", "en", None), ("d2", None, "A dog.", "en", None)]);
    assert_eq!(queries(&c), [("1", "Who runs?", "en", None), ("2", "Who barks?", "en", None)]);
    assert_eq!(graded(&c, Split::Train), triples(&[("1", "d1", 3.0), ("1", "d2", 1.0)]));
    assert_eq!(graded(&c, Split::Test), triples(&[("2", "d2", 2.0)]));
}

#[test]
fn trec_takes_other_qrels_with_their_split() {
    let place = Place::of(&common::trec());
    place.put("elsewhere/graded.txt", b"2 0 d1 1\n");
    let qrels = vec![(Some(Split::Dev), place.file("elsewhere/graded.txt"))];
    let c = place.import(Format::Trec, &Options { qrels, ..in_english() });
    assert_eq!(graded(&c, Split::Dev), triples(&[("2", "d1", 1.0)]));
    assert_eq!((graded(&c, Split::Train), graded(&c, Split::Test)), (vec![], vec![]));
}

#[test]
fn miracl_tells_languages_by_name_and_ids_by_language() {
    let c = Place::of(&common::miracl()).import(Format::Miracl, &Options::default());
    let want = [
        ("en:1#0", Some("T"), "A fox runs.", "en", None),
        ("sw:1#0", Some("M"), "Mbweha anakimbia.", "sw", None),
    ];
    assert_eq!(passages(&c), want);
    assert_eq!(queries(&c), [("en:1", "Who runs?", "en", None), ("sw:1", "Nani anakimbia?", "sw", None)]);
    assert_eq!(graded(&c, Split::Dev), triples(&[("en:1", "en:1#0", 1.0), ("sw:1", "sw:1#0", 0.0)]));
}

#[test]
fn tevatron_new_and_old() {
    let c = Place::of(&common::tevatron_new()).import(Format::Tevatron, &in_english());
    assert_eq!(passages(&c), [("1", None, "A fox.", "en", None), ("2", None, "A dog.", "en", None)]);
    assert_eq!(queries(&c), [("7", "Who runs?", "en", None)]);
    assert_eq!(graded(&c, Split::Train), triples(&[("7", "1", 1.0), ("7", "2", 0.0)]));

    let c = Place::of(&common::tevatron_old()).import(Format::Tevatron, &in_english());
    assert_eq!(passages(&c), [("1", Some("T"), "A fox.", "en", None), ("2", None, "A dog.", "en", None)]);
    assert_eq!(queries(&c), [("7", "Who runs?", "en", None), ("8", "Who barks?", "en", None)]);
    assert_eq!(graded(&c, Split::Train), triples(&[("7", "1", 1.0), ("7", "2", 0.0), ("8", "2", 1.0)]));
}

#[test]
fn flagembedding_with_and_without_scores() {
    let c = Place::of(&common::flagembedding()).import(Format::FlagEmbedding, &in_english());
    assert_eq!(passage_texts(&c), [("en", "A fox."), ("en", "A dog."), ("en", "A cat.")]);
    let want = [
        ("Who runs?", "A fox.", 1.0),
        ("Who runs?", "A dog.", 0.0),
        ("Who runs?", "A cat.", 0.0),
        ("Who barks?", "A dog.", 3.0),
        ("Who barks?", "A cat.", 0.5),
    ];
    assert_eq!(graded_texts(&c, Split::Train), pairs_of(&want));
    assert_eq!(c.meta.grades.max, 3.0);
}

#[test]
fn flagembedding_evaluation_folder() {
    let c = Place::of(&common::flagembedding_evaluation()).import(Format::FlagEmbedding, &in_english());
    assert_eq!(passages(&c), [("d1", Some("T"), "A fox.", "en", None), ("d2", None, "A dog.", "en", None)]);
    assert_eq!(queries(&c), [("q1", "Who runs?", "en", None), ("q2", "Who barks?", "en", None)]);
    assert_eq!(graded(&c, Split::Dev), triples(&[("q1", "d1", 2.0)]));
    assert_eq!(graded(&c, Split::Test), triples(&[("q2", "d2", 1.5)]));
}

#[test]
fn sentence_transformers_in_all_its_forms() {
    let c = Place::of(&common::sentence_transformers()).import(Format::SentenceTransformers, &in_english());
    let train = [
        ("Who runs?", "A fox.", 3.0),
        ("Who runs?", "A dog.", 0.5),
        ("Who barks?", "A dog.", 1.0),
        ("Who barks?", "A cat.", 0.0),
    ];
    assert_eq!(graded_texts(&c, Split::Train), pairs_of(&train));
    let dev = [("Who, then?", "A fox.", 2.0), ("What mews?", "A cat.", 1.5)];
    assert_eq!(graded_texts(&c, Split::Dev), pairs_of(&dev));
    assert_eq!(graded_texts(&c, Split::Test), pairs_of(&[("What flies?", "A crow.", 1.0)]));
}

#[test]
fn sentence_transformers_orders_columns_not_names() {
    let lines = "{\"z\":\"Who runs?\",\"a\":\"A fox.\",\"score\":2}\n\
                 {\"label\":true,\"z\":\"Who runs?\",\"a\":\"A dog.\"}\n\
                 {\"z\":\"Who barks?\",\"m\":\"A dog.\",\"b\":[\"A cat.\",\"A fox.\"]}\n\
                 {\"z\":\"Who mews?\",\"m\":\"A cat.\",\"b\":\"A dog.\",\"a\":\"A fox.\"}\n";
    let place = Place::with(&[("train.jsonl", lines)]);
    let c = place.import(Format::SentenceTransformers, &in_english());
    let want = [
        ("Who runs?", "A fox.", 2.0),
        ("Who runs?", "A dog.", 1.0),
        ("Who barks?", "A dog.", 1.0),
        ("Who barks?", "A cat.", 0.0),
        ("Who barks?", "A fox.", 0.0),
        ("Who mews?", "A cat.", 1.0),
        ("Who mews?", "A dog.", 0.0),
        ("Who mews?", "A fox.", 0.0),
    ];
    assert_eq!(graded_texts(&c, Split::Train), pairs_of(&want));
}

#[cfg(feature = "parquet")]
#[test]
fn mteb_in_one_language() {
    let c = Place::of(&common::mteb()).import(Format::Mteb, &in_english());
    assert_eq!(passages(&c), [("d1", Some("T"), "A fox.", "en", None), ("d2", None, "A dog.", "en", None)]);
    assert_eq!(queries(&c), [("q1", "Who runs?", "en", None)]);
    assert_eq!(graded(&c, Split::Test), triples(&[("q1", "d1", 2.0), ("q1", "d2", 0.5)]));
}

#[cfg(feature = "parquet")]
#[test]
fn mteb_in_two_languages_with_numbers_for_ids() {
    use common::Column::{Long, Text};
    let place = Place::new();
    for (tag, passage, query, grade) in [("de", "Ein Fuchs.", "Wer?", 3), ("en", "A fox.", "Who?", 1)] {
        let corpus = common::parquet(&[("_id", Long(&[1])), ("text", Text(&[passage]))]);
        place.put(&format!("{tag}-corpus/dev-00000-of-00001.parquet"), &corpus);
        let queries = common::parquet(&[("id", Long(&[1])), ("text", Text(&[query]))]);
        place.put(&format!("{tag}-queries/dev-00000-of-00001.parquet"), &queries);
        let columns = [("query_id", Long(&[1])), ("corpus_id", Long(&[1])), ("score", Long(&[grade]))];
        place.put(&format!("{tag}-qrels/dev-00000-of-00001.parquet"), &common::parquet(&columns));
    }
    let c = place.import(Format::Mteb, &Options::default());
    assert_eq!(
        passages(&c),
        [("de:1", None, "Ein Fuchs.", "de", None), ("en:1", None, "A fox.", "en", None)]
    );
    assert_eq!(queries(&c), [("de:1", "Wer?", "de", None), ("en:1", "Who?", "en", None)]);
    assert_eq!(graded(&c, Split::Dev), triples(&[("de:1", "de:1", 3.0), ("en:1", "en:1", 1.0)]));
}

#[test]
fn squad_from_a_file_and_from_a_folder_of_languages() {
    let split = SplitRule::Fixed(Split::Test);
    let options = Options { split, name: Some("out".into()), ..Options::default() };
    let place = Place::of(&common::squad());
    let one = place.import_from(Format::Squad, &[source(&place.file("xquad.en.json"))], &options);
    let want = [
        ("en-a1p1", None, "A fox runs.", "en", Some("a1p1")),
        ("en-a1p2", None, "A dog barks.", "en", Some("a1p2")),
        ("en-a2p1", None, "A cat mews.", "en", Some("a2p1")),
    ];
    assert_eq!(passages(&one), want);
    let want = [
        ("en-i1", "Who runs?", "en", Some("i1")),
        ("en-2", "Who barks?", "en", Some("2")),
        ("en-i3", "Who mews?", "en", Some("i3")),
    ];
    assert_eq!(queries(&one), want);
    let english = [
        ("en-2", "en-a1p1", 1.0),
        ("en-2", "en-a1p2", 1.0),
        ("en-i1", "en-a1p1", 3.0),
        ("en-i1", "en-a1p2", 1.0),
        ("en-i3", "en-a2p1", 3.0),
    ];
    assert_eq!(graded(&one, Split::Test), triples(&english));

    let text = String::from_utf8(common::squad()[0].1.clone()).unwrap();
    let german = text.replace("A fox runs.", "Ein Fuchs läuft.").replace("Who runs?", "Wer läuft?");
    let both = Place::with(&[("xquad.en.json", &text), ("xquad.de.json", &german), ("README.md", "no data")]);
    let c = both.import(Format::Squad, &options);
    assert_eq!((c.passages.len(), c.queries.len(), c.judgments(Split::Test).len()), (6, 6, 10));
    assert_eq!(passages(&c)[0], ("de-a1p1", None, "Ein Fuchs läuft.", "de", Some("a1p1")));
    assert_eq!(queries(&c)[0], ("de-i1", "Wer läuft?", "de", Some("i1")));
    assert_eq!(c.graded(Split::Test).grade(0, 3), Some(3.0), "the German question has its English paragraph");
}

#[test]
fn lareqa_sentences_are_passages_and_judgments_reach_every_language() {
    let options = Options { split: SplitRule::Fixed(Split::Test), ..Options::default() };
    let c = Place::of(&common::lareqa()).import(Format::Lareqa, &options);
    let want = [
        ("en-a1p1s1", None, "A fox runs.", "en", None),
        ("en-a1p1s2", None, "A dog barks.", "en", None),
        ("zh-a1p1s1", None, "狐狸跑，狗叫。", "zh", None),
    ];
    assert_eq!(passages(&c), want);
    assert_eq!(queries(&c)[0], ("en-i1", "Who barks?", "en", Some("i1")));
    let own = [("en-i1", "en-a1p1s2", 1.0), ("zh-i1", "zh-a1p1s1", 1.0)];
    assert_eq!(graded(&c, Split::Test), triples(&own));
    let table = c.graded(Split::Test);
    assert_eq!((table.grade(0, 2), table.grade(1, 1), table.grade(1, 0)), (Some(1.0), Some(1.0), None));
}

#[test]
fn squad_articles_stay_in_one_split() {
    let article = |i: u32| {
        let asked: Vec<String> =
            (0..3).map(|j| format!("{{\"id\":\"{i}x{j}\",\"question\":\"What is {i} {j}?\"}}")).collect();
        format!("{{\"paragraphs\":[{{\"context\":\"It is {i}.\",\"qas\":[{}]}}]}}", asked.join(","))
    };
    let articles: Vec<String> = (0..40).map(article).collect();
    let text = format!("{{\"data\":[{}]}}", articles.join(","));
    let c = Place::with(&[("q.en.json", &text)]).import(Format::Squad, &Options::default());
    let mut split_of = BTreeMap::new();
    for split in Split::ALL {
        assert!(!c.judgments(split).is_empty(), "{split:?}");
        for (q, ..) in graded(&c, split) {
            let article = q.split('x').next().unwrap().to_owned();
            assert_eq!(*split_of.entry(article).or_insert(split), split);
        }
    }
}

#[test]
fn pairs_by_position_and_by_header() {
    let c = Place::of(&common::pairs()).import(Format::Pairs, &Options::default());
    let train = [("A fox runs.", "A fox is running.", 4.5), ("A dog, barking.", "A cat.", 1.0)];
    assert_eq!(graded_texts(&c, Split::Train), pairs_of(&train));
    assert_eq!(graded_texts(&c, Split::Test), pairs_of(&[("A \"crow\".", "A bird.", 3.2)]));
    assert!(c.passages.iter().all(|p| p.lang == lang("en") && p.group.is_none()));
    assert_eq!(c.meta.grades.max, 5.0);
}

#[test]
fn pairs_move_to_a_scale_from_zero() {
    let place = Place::with(&[("x-en-train.csv", "a b,c d,1\ne f,g h,4.7\n")]);
    let c = place.import(Format::Pairs, &Options { scale: Some((1.0, 5.0)), ..Options::default() });
    assert_eq!(graded_texts(&c, Split::Train), pairs_of(&[("a b", "c d", 0.0), ("e f", "g h", 3.7)]));
    assert_eq!(c.meta.grades.max, 4.0);
}

#[test]
fn pairs_in_parallel_joined_by_a_column() {
    let place = Place::with(&[
        ("en.txt", "pair_ID\tA_en\tB_en\tscore\n7\tA fox.\tAn animal.\t4\n9\tA dog.\tA cat.\t1\n"),
        (
            "both.txt",
            "pair_ID\tA_de\tB_de\tscore\n9\tEin Hund.\tEine Katze.\t1\n7\tEin Fuchs.\tEin Tier.\t4\n",
        ),
    ]);
    let parse = |tag: &str, name: &str, columns: &str| {
        Source::parse(&format!("{tag}={}:{columns}", place.file(name).display())).unwrap()
    };
    let sources = [parse("en", "en.txt", "A_en,B_en,score"), parse("de", "both.txt", "2,3,4")];
    assert_eq!(sources[1].lang, Some(lang("de")));
    let options = Options {
        parallel: true,
        join: Some("pair_ID".into()),
        split: SplitRule::Fixed(Split::Dev),
        ..Options::default()
    };
    let c = place.import_from(Format::Pairs, &sources, &options);
    let groups: Vec<_> =
        c.queries.iter().map(|q| (q.lang.as_str(), q.text.as_str(), q.group.as_deref())).collect();
    let want = [
        ("en", "A fox.", Some("q7")),
        ("en", "A dog.", Some("q9")),
        ("de", "Ein Hund.", Some("q9")),
        ("de", "Ein Fuchs.", Some("q7")),
    ];
    assert_eq!(groups, want);
    assert_eq!(c.passages[3].group.as_deref(), Some("p7"));
    assert_eq!(c.graded(Split::Dev).grade(0, 3), Some(4.0));
}

#[test]
fn pairs_in_parallel_by_row() {
    let place = Place::with(&[
        ("x-de-dev.csv", "Ein Fuchs,Ein Tier,4\nEin Hund,Eine Katze,1\n"),
        ("x-en-dev.csv", "A fox,An animal,4\nA dog,A cat,1\n"),
    ]);
    let c = place.import(Format::Pairs, &Options { parallel: true, ..Options::default() });
    let groups: Vec<_> = c.passages.iter().map(|p| (p.text.as_str(), p.group.as_deref().unwrap())).collect();
    let want = [("Ein Tier", "pdev1"), ("Eine Katze", "pdev2"), ("An animal", "pdev1"), ("A cat", "pdev2")];
    assert_eq!(groups, want);
}

#[test]
fn topics() {
    let c = Place::of(&common::topics()).import(Format::Topics, &Options::default());
    assert_eq!((c.passages.len(), c.queries.len()), (12, 4));
    assert_eq!(passages(&c)[0], ("de-t1-a3", None, "de a3.", "de", Some("t1-a3")));
    assert_eq!(queries(&c)[3], ("en-t1-qb", "en b?", "en", Some("t1-qb")));
    let grades = |q: &str| -> Vec<f32> {
        let all = graded(&c, Split::Train);
        let of = |role: &str| all.iter().find(|j| j.0 == q && j.1 == format!("en-t1-{role}")).unwrap().2;
        ["a3", "a2", "b3", "b2", "on", "off"].map(of).to_vec()
    };
    assert_eq!(grades("en-t1-qa"), [3.0, 2.0, 1.0, 1.0, 1.0, 0.0]);
    assert_eq!(grades("en-t1-qb"), [1.0, 1.0, 3.0, 2.0, 1.0, 0.0]);
}

fn packed(files: &Files, extension: &str, pack: fn(&[u8]) -> Vec<u8>) -> Files {
    files.iter().map(|(name, bytes)| (format!("{name}.{extension}"), pack(bytes))).collect()
}

#[test]
fn compressed_sources_and_repeated_imports_give_the_same_bytes() {
    // Sources are named, so that what the collection says of itself is the same.
    for (format, files) in common::sources() {
        let written = |files: &Files| {
            let place = Place::of(files);
            // LAReQA's files are one a language, by their names.
            let options = if format == Format::Lareqa { Options::default() } else { in_english() };
            place.try_import(format, &options).unwrap_or_else(|e| panic!("{format:?}: {e}"));
            common::tree(&place.out())
        };
        let plain = written(&files);
        assert_eq!(written(&files), plain, "{format:?} twice");
        if format != Format::Mteb {
            assert_eq!(written(&packed(&files, "gz", common::gz)), plain, "{format:?} in gzip");
            assert_eq!(written(&packed(&files, "zst", common::zst)), plain, "{format:?} in zstd");
        }
    }
}

#[test]
fn compressed_collections_load_the_same() {
    let place = Place::of(&common::native());
    let plain = Collection::load(&place.src()).unwrap();
    for files in [packed(&common::native(), "gz", common::gz), packed(&common::native(), "zst", common::zst)]
    {
        assert_same(&Collection::load(&Place::of(&files).src()).unwrap(), &plain);
    }
}

fn assert_same(a: &Collection, b: &Collection) {
    assert_eq!(a.passages, b.passages);
    let sorted = |c: &Collection| {
        let mut queries = c.queries.clone();
        queries.sort_by(|x, y| x.id.cmp(&y.id));
        queries
    };
    assert_eq!(sorted(a), sorted(b));
    Split::ALL.iter().for_each(|s| assert_eq!(graded(a, *s), graded(b, *s), "{s:?}"));
}

/// A collection with what is easily lost: titles, groups, regions, scripts, signs, fractions.
fn rich(tags: &[&str]) -> Collection {
    let id = |kind: &str, i: usize| format!("{kind}/{i}:«{}»", if i == 0 { "ü" } else { "狐" });
    let mut c = Collection::from_parts(
        Meta {
            name: "out".into(),
            licence: "unknown".into(),
            source: "src".into(),
            grades: Scale::up_to(3.0),
        },
        Vec::new(),
        Vec::new(),
        Default::default(),
    );
    for (i, tag) in tags.iter().enumerate() {
        c.passages.push(Passage {
            id: id("d", i),
            title: (i % 2 == 0).then(|| "Über \"Füchse\"".into()),
            text: format!("Line one,\n\ttabbed \\ and 🦊\u{2028}\u{a0}{tag}."),
            lang: lang(tag),
            group: (i < 2).then(|| "g 1, \"x\"".into()),
        });
        c.queries.push(Query {
            id: id("q", i),
            text: format!("\"Who\", 誰, {tag}?"),
            lang: lang(tag),
            group: (i < 2).then(|| format!("h {i}")),
        });
    }
    let n = tags.len() as u32;
    let judge = |query: u32, passage: u32, grade: f32| Judgment { query, passage, grade };
    let train = vec![judge(0, 0, 3.0), judge(0, n - 1, 0.0), judge(0, 1, 1.0 / 3.0)];
    let dev = (2..n).map(|q| judge(q, q, 0.1 * q as f32)).collect();
    Collection::from_parts(c.meta, c.passages, c.queries, [train, dev, vec![judge(1, 1, 2.5)]])
}

/// Out in one format and in again.
fn through(c: &Collection, out: ExportFormat, back: Format, options: &Options) -> Collection {
    let place = Place::new();
    export(c, out, &place.src()).unwrap();
    place.import(back, options)
}

#[test]
fn native_to_beir_and_back() {
    let c = rich(&["en", "de", "pt-BR", "zh-Hant", "sw", "yue", "es-419", "und"]);
    let back = through(&c, ExportFormat::Beir, Format::Beir, &Options::default());
    assert_same(&back, &c);
    assert_eq!(back.queries, c.queries);
    assert_eq!(back.meta, c.meta);
}

#[test]
fn native_to_trec_and_back() {
    let c = rich(&["en", "de", "pt-BR", "sw"]);
    assert_same(&through(&c, ExportFormat::Trec, Format::Trec, &Options::default()), &c);
}

#[test]
fn native_to_trec_and_back_with_scripts_and_long_tags() {
    for tag in ["zh-Hant", "zh-Hant-TW", "yue", "es-419", "ms", "und"] {
        let c = rich(&["en", "de", tag]);
        let back = through(&c, ExportFormat::Trec, Format::Trec, &Options::default());
        let found: Vec<_> = back.queries.iter().map(|q| q.lang.as_str()).collect();
        assert!(found.contains(&tag), "{tag} comes back as {found:?}");
    }
}

#[test]
fn native_to_sentence_transformers_keeps_texts_and_grades() {
    let c = rich(&["en", "de", "pt-BR"]);
    let back = through(&c, ExportFormat::SentenceTransformers, Format::SentenceTransformers, &in_english());
    Split::ALL.iter().for_each(|s| assert_eq!(graded_texts(&back, *s), graded_texts(&c, *s)));
}

/// Ids and texts that a valid collection may hold.
fn any_collection() -> impl Strategy<Value = Collection> {
    let id = "[^\\s\\p{C}]{1,6}";
    let text = "\\PC{0,12}[a-zα-ω狐]\\PC{0,12}";
    let tag = prop::sample::select(vec!["en", "de", "pt-BR", "sw", "zh"]);
    let row = (text, tag, prop::option::of("[a-z#\" ]{1,4}"));
    let grades = prop::collection::vec((any::<u16>(), any::<u16>(), 0u32..31), 1..8);
    let texts = prop::collection::btree_map(id, row, 1..6);
    (texts.clone(), texts, grades).prop_map(|(passages, queries, grades)| {
        let passages: Vec<Passage> = passages
            .into_iter()
            .map(|(id, (text, tag, group))| Passage { id, title: None, text, lang: lang(tag), group })
            .collect();
        let queries: Vec<Query> = queries
            .into_iter()
            .map(|(id, (text, tag, group))| Query { id, text, lang: lang(tag), group })
            .collect();
        let (np, nq) = (passages.len() as u32, queries.len() as u32);
        let mut judgments: [Vec<Judgment>; 3] = Default::default();
        let unique: BTreeMap<(u32, u32), u32> =
            grades.into_iter().map(|(q, p, g)| ((u32::from(q) % nq, u32::from(p) % np), g)).collect();
        for ((query, passage), grade) in unique {
            // Queries of one group share a split.
            let unit = queries[query as usize].unit();
            let first = queries.iter().position(|q| q.unit() == unit).unwrap_or(0);
            judgments[first % 3].push(Judgment { query, passage, grade: grade as f32 / 10.0 });
        }
        let meta = Meta {
            name: "out".into(),
            licence: "unknown".into(),
            source: "src".into(),
            grades: Scale::up_to(3.0),
        };
        Collection::from_parts(meta, passages, queries, judgments)
    })
}

proptest! {
    #![proptest_config(common::fuzz_config(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proptest-regressions/round_trips.txt")))]

    #[test]
    fn any_valid_collection_comes_back(c in any_collection()) {
        assert_same(&through(&c, ExportFormat::Beir, Format::Beir, &Options::default()), &c);
        assert_same(&through(&c, ExportFormat::Trec, Format::Trec, &Options::default()), &c);
    }
}
