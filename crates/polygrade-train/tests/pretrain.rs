//! Pretraining: the same bits after any interruption and at any number of threads, gradients that are those of the loss,
//! and held-out texts that stay held out.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use polygrade_data::Lang;
use polygrade_data::bitext::Aligned;
use polygrade_encoder::{Encoder, StaticEncoder, TextEncoder, TextKind, TextTokenizer};
use polygrade_nn::Matrix;
use polygrade_train::pretrain::{Corpus, CorpusBuilder, Pretrainer, Settings, TeacherStore};
use std::path::Path;

fn lang(tag: &str) -> Lang {
    Lang::parse(tag).unwrap()
}

/// Numbers in words of three languages, which a bag of words can learn to translate.
fn texts() -> Vec<Aligned> {
    let words = [
        ("one", "eins", "moja"),
        ("two", "zwei", "mbili"),
        ("three", "drei", "tatu"),
        ("red", "rot", "nyekundu"),
        ("house", "haus", "nyumba"),
        ("water", "wasser", "maji"),
        ("tree", "baum", "mti"),
        ("night", "nacht", "usiku"),
        ("bread", "brot", "mkate"),
    ];
    let mut out = Vec::new();
    for a in &words {
        for b in &words {
            for c in words.iter().filter(|c| c.0 != a.0 && c.0 != b.0) {
                out.push(vec![
                    (lang("en"), format!("{} {} {}", a.0, b.0, c.0)),
                    (lang("de"), format!("{} {} {}", a.1, b.1, c.1)),
                ]);
            }
            out.push(vec![
                (lang("de"), format!("{} {}", a.1, b.1)),
                (lang("sw"), format!("{} {}", a.2, b.2)),
            ]);
        }
    }
    let long = words.iter().map(|w| w.2).collect::<Vec<_>>().join(" ");
    out.push(vec![(lang("sw"), format!("{long} {long}"))]);
    out.push(vec![(lang("fr"), "pas ici".into())]);
    out
}

fn tokenizer() -> TextTokenizer {
    let all = texts();
    let all: Vec<&str> = all.iter().flatten().map(|(_, t)| t.as_str()).collect();
    TextTokenizer::train(120, &all).unwrap()
}

fn student() -> Encoder {
    StaticEncoder::random(tokenizer(), 12, Some(16), 3).into()
}

fn teacher() -> Encoder {
    StaticEncoder::random(tokenizer(), 16, None, 77).into()
}

fn langs() -> Vec<Lang> {
    ["en", "de", "sw"].map(lang).to_vec()
}

fn store(dir: &Path) -> TeacherStore {
    TeacherStore::open(dir, &*teacher(), "f32").unwrap()
}

fn corpus(store: &mut TeacherStore) -> Corpus {
    let (student, teacher) = (student(), teacher());
    let mut builder = CorpusBuilder::new(&*student, Some((&*teacher, store)), &langs(), true);
    texts().into_iter().for_each(|t| builder.add(t).unwrap());
    builder.finish().unwrap()
}

fn settings() -> Settings {
    Settings { epochs: 4.0, batch: 32, ..Settings::default() }
}

fn vectors(encoder: &dyn TextEncoder) -> Vec<u32> {
    let all = texts();
    let all: Vec<&str> = all.iter().flatten().map(|(_, t)| t.as_str()).collect();
    encoder.encode(&all, TextKind::Passage).unwrap().data.iter().map(|v| v.to_bits()).collect()
}

fn run(threads: bool, stop_at: Option<u64>) -> Vec<u32> {
    let dir = tempfile::tempdir().unwrap();
    let mut first = store(dir.path());
    let corpus = corpus(&mut first);
    let checkpoint = dir.path().join("checkpoint");
    if let Some(step) = stop_at {
        let mut trainer = Pretrainer::new(student(), &corpus, Some(&mut first), settings(), threads).unwrap();
        while trainer.done() < step {
            trainer.next_step().unwrap();
        }
        trainer.save_checkpoint(&checkpoint).unwrap();
    }
    // Vectors that an earlier run left are used as they are.
    let mut again = store(dir.path());
    assert_eq!(again.len(), first.len());
    let mut trainer = Pretrainer::new(student(), &corpus, Some(&mut again), settings(), threads).unwrap();
    if stop_at.is_some() {
        trainer.resume(&checkpoint).unwrap();
    }
    while trainer.next_step().unwrap().is_some() {}
    vectors(trainer.encoder())
}

#[test]
fn interrupted_or_with_threads_the_bits_are_the_same() {
    let whole = run(false, None);
    assert_eq!(run(true, None), whole, "threads");
    for step in [1, 7, 20] {
        assert_eq!(run(true, Some(step)), whole, "stopped at {step}");
    }
}

#[test]
fn it_learns_to_translate_and_to_be_the_teacher() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let corpus = corpus(&mut store);
    let settings = Settings { epochs: 40.0, ..settings() };
    let mut trainer = Pretrainer::new(student(), &corpus, Some(&mut store), settings, true).unwrap();
    let first = trainer.next_step().unwrap().unwrap();
    let mut last = first;
    while let Some(step) = trainer.next_step().unwrap() {
        last = step;
    }
    assert!(last.ranking < 0.3 * first.ranking, "{last:?} {first:?}");
    assert!(last.distil < 0.3 * first.distil, "{last:?} {first:?}");
    let encoder = trainer.into_encoder();
    let (teacher, texts) = (teacher(), ["two trees night", "red bread water"]);
    let want = teacher.encode(&texts, TextKind::Passage).unwrap();
    let got = encoder.encode(&["zwei baum nacht", "rot brot wasser"], TextKind::Passage).unwrap();
    let cos = |a: &Matrix, i: usize, b: &Matrix, j: usize| -> f32 {
        a.row(i).iter().zip(b.row(j)).map(|(x, y)| x * y).sum()
    };
    for i in 0..2 {
        assert!(cos(&got, i, &want, i) > cos(&got, i, &want, 1 - i) + 0.2);
    }
    // Swahili has a teacher only through German.
    let sw = encoder.encode(&["mbili mti", "nyekundu maji"], TextKind::Passage).unwrap();
    let en = encoder.encode(&["two tree", "red water"], TextKind::Passage).unwrap();
    for i in 0..2 {
        assert!(cos(&sw, i, &en, i) > cos(&sw, i, &en, 1 - i) + 0.2);
    }
}

#[test]
fn pairs_and_texts_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let corpus = corpus(&mut store);
    let pairs: Vec<(String, usize)> = corpus.pairs().map(|(l, n)| (l.to_string(), n)).collect();
    // 81 pairs of German and Swahili count in both; Swahili's long text is cropped; a part of English is held out.
    let of = |tag: &str| pairs.iter().find(|(l, _)| l == tag).unwrap().1;
    assert_eq!(of("en"), 0);
    assert_eq!(of("sw"), 82);
    let distinct = 9 * 9 * 9;
    assert!(of("de") > 81 + distinct / 2 && of("de") < 81 + distinct, "{pairs:?}");
}

#[test]
fn faults_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let corpus = corpus(&mut store);
    let mut refused = |student: Encoder, teacher: bool, settings: Settings| {
        let teacher = teacher.then_some(&mut store);
        Pretrainer::new(student, &corpus, teacher, settings, false).err().unwrap().to_string()
    };
    let narrow: Encoder = StaticEncoder::random(tokenizer(), 12, None, 3).into();
    assert!(refused(narrow, true, settings()).contains("as wide"));
    assert!(refused(student(), false, settings()).contains("--teacher"));
    assert!(refused(student(), true, Settings { batch: 1, ..settings() }).contains("2 pairs"));
    let mut trainer = Pretrainer::new(student(), &corpus, Some(&mut store), settings(), false).unwrap();
    trainer.next_step().unwrap();
    let path = dir.path().join("c");
    trainer.save_checkpoint(&path).unwrap();
    let other = Settings { temperature: 0.2, ..settings() };
    let mut trainer = Pretrainer::new(student(), &corpus, Some(&mut store), other, false).unwrap();
    assert!(trainer.resume(&path).unwrap_err().to_string().contains("another run"));
}

#[test]
fn a_cut_file_of_vectors_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let whole = {
        let mut store = store(dir.path());
        corpus(&mut store);
        store.len()
    };
    let file = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let file = file.into_iter().find(|p| p.extension().is_some_and(|e| e == "f16")).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2 + 5]).unwrap();
    let mut cut = store(dir.path());
    assert!(cut.len() < whole);
    corpus(&mut cut);
    assert_eq!(cut.len(), whole);
    let after = std::fs::read(&file).unwrap();
    assert_eq!(after.len(), bytes.len());
    assert_eq!(after, bytes, "what is computed again is the same");
}
