//! Small sources in every format, and what the integration tests share.

#![allow(dead_code, reason = "each test crate uses its part")]

use polygrade_data::import::{self, Format, Options, Source};
use polygrade_data::write::Summary;
use polygrade_data::{Collection, Error, Lang, Problem, Result, Split};
use proptest::test_runner::{Config as ProptestConfig, FailurePersistence, FileFailurePersistence};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Files of a source: path in its folder, bytes.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// A folder for one test: sources go to `src`, the collection to `out`.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn with(files: &[(&str, &str)]) -> Place {
        let place = Place::new();
        files.iter().for_each(|(name, text)| place.put(name, text.as_bytes()));
        place
    }

    pub(crate) fn of(files: &Files) -> Place {
        let place = Place::new();
        files.iter().for_each(|(name, bytes)| place.put(name, bytes));
        place
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn src(&self) -> PathBuf {
        self.path("src")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.src().join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// Imports the whole of `src`.
    pub(crate) fn try_import(&self, format: Format, options: &Options) -> Result<Summary> {
        self.try_import_from(format, &[source(&self.src())], options)
    }

    pub(crate) fn try_import_from(
        &self,
        format: Format,
        sources: &[Source],
        options: &Options,
    ) -> Result<Summary> {
        import::import(format, sources, &self.out(), options)
    }

    pub(crate) fn import(&self, format: Format, options: &Options) -> Collection {
        self.import_from(format, &[source(&self.src())], options)
    }

    pub(crate) fn import_from(&self, format: Format, sources: &[Source], options: &Options) -> Collection {
        let summary =
            self.try_import_from(format, sources, options).unwrap_or_else(|e| panic!("{format:?}: {e}"));
        let collection = Collection::load(&self.out()).unwrap();
        let judgments: usize = Split::ALL.iter().map(|s| collection.judgments(*s).len()).sum();
        let found = (collection.passages.len(), collection.queries.len(), judgments);
        assert_eq!((summary.passages, summary.queries, summary.judgments), found);
        self.assert_no_litter();
        collection
    }

    /// The problems of an import that must fail for its input, with nothing left behind.
    pub(crate) fn faults(&self, format: Format, options: &Options) -> Vec<Problem> {
        let result = self.try_import(format, options);
        let faults = faults(result.map(|_| ()));
        self.assert_nothing_left();
        faults
    }

    pub(crate) fn assert_nothing_left(&self) {
        assert!(!self.out().exists(), "a failed import left {}", self.out().display());
        self.assert_no_litter();
    }

    pub(crate) fn assert_no_litter(&self) {
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(!name.starts_with(".polygrade-"), "{name} is left");
        }
    }
}

/// The problems of a result that must be the input's fault, each with a way to mend it.
pub(crate) fn faults(result: Result<()>) -> Vec<Problem> {
    let error = result.expect_err("the fault goes unnoticed");
    assert_eq!(error.exit_code(), 1, "{error}");
    match error {
        Error::Input(problems) => {
            assert_eq!(problems.total() as usize, problems.kept().len());
            problems.kept().iter().for_each(|p| assert!(!p.fix.trim().is_empty(), "{p}"));
            problems.kept().to_vec()
        }
        other => panic!("expected a fault of the input, got {other:?}"),
    }
}

pub(crate) fn source(path: &Path) -> Source {
    Source { lang: None, path: path.to_owned(), columns: None }
}

pub(crate) fn lang(tag: &str) -> Lang {
    Lang::parse(tag).unwrap()
}

pub(crate) fn in_english() -> Options {
    Options { lang: Some(lang("en")), name: Some("out".into()), ..Options::default() }
}

/// Judgments as (query id, passage id, grade), sorted.
pub(crate) fn graded(c: &Collection, split: Split) -> Vec<(String, String, f32)> {
    let id = |j: &polygrade_data::Judgment| {
        (c.queries[j.query as usize].id.clone(), c.passages[j.passage as usize].id.clone(), j.grade)
    };
    let mut all: Vec<_> = c.judgments(split).iter().map(id).collect();
    all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    all
}

/// Judgments by the texts of query and passage, for formats without ids.
pub(crate) fn graded_texts(c: &Collection, split: Split) -> BTreeMap<(String, String), f32> {
    let pair = |j: &polygrade_data::Judgment| {
        let passage = &c.passages[j.passage as usize];
        ((c.queries[j.query as usize].text.clone(), passage.full_text().into_owned()), j.grade)
    };
    c.judgments(split).iter().map(pair).collect()
}

/// The same expectation, written in a test.
pub(crate) fn pairs_of(rows: &[(&str, &str, f32)]) -> BTreeMap<(String, String), f32> {
    rows.iter().map(|(q, p, g)| ((q.to_string(), p.to_string()), *g)).collect()
}

pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// The files under a folder with their bytes.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                out.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    out
}

/// A column of a parquet file.
#[cfg(feature = "parquet")]
pub(crate) enum Column<'a> {
    Text(&'a [&'a str]),
    Long(&'a [i64]),
    Double(&'a [f64]),
}

/// A parquet file of one row group.
#[cfg(feature = "parquet")]
pub(crate) fn parquet(columns: &[(&str, Column)]) -> Vec<u8> {
    use parquet::basic::{LogicalType, Repetition, Type as Physical};
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::types::Type;
    use std::sync::Arc;

    let field = |(name, column): &(&str, Column)| {
        let (physical, logical) = match column {
            Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Column::Long(_) => (Physical::INT64, None),
            Column::Double(_) => (Physical::DOUBLE, None),
        };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        Arc::new(builder.with_logical_type(logical).build().unwrap())
    };
    let fields = columns.iter().map(field).collect();
    let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build().unwrap());
    let mut out = Vec::new();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(&mut out, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (_, column) in columns {
        let mut to = group.next_column().unwrap().unwrap();
        match column {
            Column::Text(values) => {
                let values: Vec<ByteArray> = values.iter().map(|v| ByteArray::from(*v)).collect();
                to.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Column::Long(values) => {
                to.typed::<Int64Type>().write_batch(values, None, None).unwrap();
            }
            Column::Double(values) => {
                to.typed::<DoubleType>().write_batch(values, None, None).unwrap();
            }
        }
        to.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    out
}

fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect()
}

/// A native collection.
pub(crate) fn native() -> Files {
    files(&[
        (
            "collection.toml",
            "name = \"small\"\nlicence = \"MIT\"\nsource = \"made up\"\n\n[grades]\nmax = 3.0\n",
        ),
        (
            "corpus.jsonl",
            "{\"_id\":\"d1\",\"title\":\"Foxes\",\"text\":\"A fox runs.\",\"lang\":\"en\",\"group\":\"g1\"}\n\
             {\"_id\":\"d2\",\"text\":\"Ein Fuchs läuft.\",\"lang\":\"de\",\"group\":\"g1\"}\n\
             {\"_id\":\"d3\",\"text\":\"Uma raposa corre.\",\"lang\":\"pt-BR\"}\n",
        ),
        (
            "queries.jsonl",
            "{\"_id\":\"q1\",\"text\":\"Who runs?\",\"lang\":\"en\",\"group\":\"h1\"}\n\
             {\"_id\":\"q2\",\"text\":\"Wer läuft?\",\"lang\":\"de\",\"group\":\"h2\"}\n",
        ),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t3\nq1\td3\t0.5\n"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq2\td2\t2\n"),
    ])
}

pub(crate) fn beir() -> Files {
    files(&[
        (
            "corpus.jsonl",
            "{\"_id\":\"d1\",\"title\":\"Foxes\",\"text\":\"A fox runs.\"}\n{\"_id\":2,\"title\":\"\",\"text\":\"A dog.\"}\n",
        ),
        ("queries.jsonl", "{\"_id\":\"q1\",\"text\":\"Who runs?\"}\n{\"_id\":\"q2\",\"text\":\"A dog?\"}\n"),
        ("qrels/train.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t3\nq1\t2\t0\n"),
        ("qrels/dev.tsv", "query-id\tcorpus-id\tscore\nq2\t2\t2\n"),
    ])
}

pub(crate) fn trec() -> Files {
    files(&[
        (
            "corpus.jsonl",
            "{\"docid\":\"d1\",\"title\":\"T\",\"text\":\"A fox.\"}\n{\"docid\":\"d2\",\"text\":\"A dog.\"}\n",
        ),
        ("topics.en.tsv", "1\tWho runs?\n2\tWho barks?\n"),
        ("qrels.train.txt", "1 0 d1 3\n1 0 d2 1\n"),
        ("qrels.test.txt", "2 0 d2 2\n"),
    ])
}

pub(crate) fn miracl() -> Files {
    files(&[
        ("en.jsonl", "{\"docid\":\"1#0\",\"title\":\"T\",\"text\":\"A fox runs.\"}\n"),
        ("sw.jsonl", "{\"docid\":\"1#0\",\"title\":\"M\",\"text\":\"Mbweha anakimbia.\"}\n"),
        ("topics.miracl-v1.0-en-dev.tsv", "1\tWho runs?\n"),
        ("topics.miracl-v1.0-sw-dev.tsv", "1\tNani anakimbia?\n"),
        ("qrels.miracl-v1.0-en-dev.tsv", "1\tQ0\t1#0\t1\n"),
        ("qrels.miracl-v1.0-sw-dev.tsv", "1\tQ0\t1#0\t0\n"),
    ])
}

pub(crate) fn tevatron_new() -> Files {
    files(&[
        (
            "corpus.jsonl",
            "{\"docid\":\"1\",\"document_text\":\"A fox.\"}\n{\"docid\":2,\"document_text\":\"A dog.\"}\n",
        ),
        (
            "train.jsonl",
            "{\"query_id\":\"7\",\"query_text\":\"Who runs?\",\"positive_document_ids\":[\"1\"],\
             \"negative_document_ids\":[2]}\n",
        ),
    ])
}

pub(crate) fn tevatron_old() -> Files {
    files(&[(
        "train.jsonl",
        "{\"query_id\":\"7\",\"query\":\"Who runs?\",\"positive_passages\":[{\"docid\":\"1\",\"title\":\"T\",\
         \"text\":\"A fox.\"}],\"negative_passages\":[{\"docid\":\"2\",\"title\":\"\",\"text\":\"A dog.\"}]}\n\
         {\"query_id\":\"8\",\"query\":\"Who barks?\",\"positive_passages\":[{\"docid\":\"2\",\"title\":\"\",\
         \"text\":\"A dog.\"}],\"negative_passages\":[]}\n",
    )])
}

pub(crate) fn flagembedding() -> Files {
    files(&[(
        "train.jsonl",
        "{\"query\":\"Who runs?\",\"pos\":[\"A fox.\"],\"neg\":[\"A dog.\",\"A cat.\"]}\n\
         {\"query\":\"Who barks?\",\"pos\":[\"A dog.\"],\"neg\":[\"A cat.\"],\"pos_scores\":[3],\"neg_scores\":[0.5]}\n",
    )])
}

pub(crate) fn flagembedding_evaluation() -> Files {
    files(&[
        (
            "corpus.jsonl",
            "{\"id\":\"d1\",\"title\":\"T\",\"text\":\"A fox.\"}\n{\"id\":\"d2\",\"text\":\"A dog.\"}\n",
        ),
        ("dev_queries.jsonl", "{\"id\":\"q1\",\"text\":\"Who runs?\"}\n"),
        ("test_queries.jsonl", "{\"id\":\"q2\",\"text\":\"Who barks?\"}\n"),
        ("dev_qrels.jsonl", "{\"qid\":\"q1\",\"docid\":\"d1\",\"relevance\":2}\n"),
        ("test_qrels.jsonl", "{\"qid\":\"q2\",\"docid\":\"d2\",\"relevance\":1.5}\n"),
    ])
}

pub(crate) fn sentence_transformers() -> Files {
    files(&[
        (
            "train.jsonl",
            "{\"query\":\"Who runs?\",\"docs\":[\"A fox.\",\"A dog.\"],\"labels\":[3,0.5]}\n\
             {\"anchor\":\"Who barks?\",\"positive\":\"A dog.\",\"negative\":\"A cat.\"}\n",
        ),
        ("dev.csv", "sentence1,sentence2,score\n\"Who, then?\",A fox.,2\nWhat mews?,A cat.,1.5\n"),
        ("test.tsv", "query\tpassage\tlabel\nWhat flies?\tA crow.\t1\n"),
    ])
}

#[cfg(feature = "parquet")]
pub(crate) fn mteb() -> Files {
    use Column::{Double, Text};
    let (ids, titles, texts) = (["d1", "d2"], ["T", ""], ["A fox.", "A dog."]);
    let corpus = parquet(&[("_id", Text(&ids)), ("title", Text(&titles)), ("text", Text(&texts))]);
    let queries = parquet(&[("_id", Text(&["q1"])), ("text", Text(&["Who runs?"]))]);
    let columns =
        [("query-id", Text(&["q1", "q1"])), ("corpus-id", Text(&ids)), ("score", Double(&[2.0, 0.5]))];
    vec![
        ("corpus/test-00000-of-00001.parquet".into(), corpus),
        ("queries/test-00000-of-00001.parquet".into(), queries),
        ("data/test-00000-of-00001.parquet".into(), parquet(&columns)),
    ]
}

pub(crate) fn squad() -> Files {
    files(&[(
        "xquad.en.json",
        "{\"version\": \"1.1\", \"data\": [\n\
         {\"title\": \"A\", \"paragraphs\": [\n\
         {\"context\": \"A fox runs.\", \"qas\": [{\"id\": \"i1\", \"question\": \"Who runs?\", \"answers\": []}]},\n\
         {\"context\": \"A dog barks.\", \"qas\": [{\"id\": 2, \"question\": \"Who barks?\", \"is_impossible\": true}]}]},\n\
         {\"paragraphs\": [{\"context\": \"A cat mews.\", \"qas\": [{\"id\": \"i3\", \"question\": \"Who mews?\"}]}]}\n\
         ]}\n",
    )])
}

pub(crate) fn lareqa() -> Files {
    let file = |lang: &str, context: &str, breaks: &str, question: &str, start: usize| {
        let text = format!(
            "{{\"data\": [{{\"paragraphs\": [{{\"context\": \"{context}\", \"sentence_breaks\": {breaks}, \"qas\": [\
             {{\"id\": \"i1\", \"question\": \"{question}\", \"answers\": [{{\"answer_start\": {start}, \"text\": \"x\"}}]}}]}}]}}]}}"
        );
        (format!("{lang}.json"), text.into_bytes())
    };
    vec![
        file("en", "A fox runs. A dog barks.", "[[0, 11], [12, 24]]", "Who barks?", 14),
        // Offsets are of characters, not bytes; one sentence here, two there.
        file("zh", "狐狸跑，狗叫。", "[[0, 7]]", "谁在叫？", 4),
    ]
}

pub(crate) fn pairs() -> Files {
    files(&[
        ("sick-en-train.csv", "A fox runs.,A fox is running.,4.5\n\"A dog, barking.\",A cat.,1\n"),
        (
            "sick-en-test.tsv",
            "pair\tsentence_A\tsentence_B\trelatedness_score\n1\tA \"crow\".\tA bird.\t3.2\n",
        ),
    ])
}

pub(crate) fn topics() -> Files {
    let line = |tag: &str| {
        let passages: Vec<String> =
            ["a3", "a2", "b3", "b2", "on", "off"].iter().map(|r| format!("\"{r}\":\"{tag} {r}.\"")).collect();
        format!(
            "{{\"topic\":\"t1\",\"domain\":\"food\",\"queries\":{{\"a\":\"{tag} a?\",\"b\":\"{tag} b?\"}},\
             \"passages\":{{{}}}}}\n",
            passages.join(",")
        )
    };
    vec![("en.jsonl".into(), line("en").into_bytes()), ("de.jsonl".into(), line("de").into_bytes())]
}

/// As many cases as `POLYGRADE_FUZZ_CASES` says; those that fail are kept in `kept` and run first.
pub(crate) fn fuzz_config(kept: &'static str) -> ProptestConfig {
    let cases = std::env::var("POLYGRADE_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64);
    let failure_persistence: Option<Box<dyn FailurePersistence>> =
        Some(Box::new(FileFailurePersistence::Direct(kept)));
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

/// Every format with a valid source.
pub(crate) fn sources() -> Vec<(Format, Files)> {
    vec![
        (Format::Beir, beir()),
        (Format::Trec, trec()),
        (Format::Miracl, miracl()),
        (Format::Tevatron, tevatron_new()),
        (Format::Tevatron, tevatron_old()),
        (Format::FlagEmbedding, flagembedding()),
        (Format::FlagEmbedding, flagembedding_evaluation()),
        (Format::SentenceTransformers, sentence_transformers()),
        #[cfg(feature = "parquet")]
        (Format::Mteb, mteb()),
        (Format::Squad, squad()),
        (Format::Lareqa, lareqa()),
        (Format::Pairs, pairs()),
        (Format::Topics, topics()),
    ]
}
