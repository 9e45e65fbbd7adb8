//! Mining equals its definition over the whole table of scores, on random small collections, and threads change
//! nothing.
#![allow(clippy::unwrap_used)]

use polygrade_data::{Collection, Index, Judgment, Lang, Meta, Origin, Passage, Query, Scale, Split, Votes};
use polygrade_nn::Matrix;
use polygrade_nn::rng::CounterRng;
use polygrade_train::loss::mask::Reference;
use polygrade_train::mine::{
    Dense, Filter, Lexical, Mined, NegativeLangs, RunFile, Select, Source, Task, mine,
};
use polygrade_train::{Label, LabelPolicies, Policy, Scenario};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

const DIM: usize = 4;

fn lang(i: usize) -> Lang {
    Lang::parse(["en", "sw", "zh"][i]).unwrap()
}

/// A passage: its text, its language, its group.
type Text = (u8, usize, Option<u8>);

fn collection(passages: &[Text], queries: &[usize], judgments: &[(usize, usize, u8)]) -> Collection {
    let passage = |(i, (text, l, group)): (usize, &Text)| Passage {
        id: format!("p{i}"),
        title: None,
        text: format!("w{text} common"),
        lang: lang(*l),
        group: group.map(|g| format!("g{g}")),
    };
    let query = |(i, l): (usize, &usize)| Query {
        id: format!("q{i}"),
        text: format!("w{i} common"),
        lang: lang(*l),
        group: None,
    };
    let mut seen = BTreeSet::new();
    let judgment = |(q, p, grade): &(usize, usize, u8)| {
        let (query, passage) = ((q % queries.len()) as Index, (p % passages.len()) as Index);
        let new = seen.insert((query, passage));
        new.then_some(Judgment { query, passage, grade: f32::from(*grade) })
    };
    let judgments: Vec<Judgment> = judgments.iter().filter_map(judgment).collect();
    let meta = Meta { name: "t".into(), licence: "x".into(), source: "x".into(), grades: Scale::up_to(3.0) };
    let passages = passages.iter().enumerate().map(passage).collect();
    let queries = queries.iter().enumerate().map(query).collect();
    Collection::from_parts(meta, passages, queries, [judgments, Vec::new(), Vec::new()])
}

/// Four values of ±1/2, or one of ±1: all of length 1, sums are exact and ties many. Equal texts of a language have equal
/// vectors.
fn vectors(c: &Collection, seed: u64) -> (Matrix, Matrix) {
    let row = |rng: CounterRng| -> Vec<f32> {
        let sign = |i: usize| if rng.below(i as u64, 2) == 0 { 1.0 } else { -1.0 };
        let alone = rng.below(DIM as u64, DIM + 4);
        match alone < DIM {
            true => (0..DIM).map(|i| if i == alone { sign(i) } else { 0.0 }).collect(),
            false => (0..DIM).map(|i| sign(i) / 2.0).collect(),
        }
    };
    let rng = CounterRng::new(seed);
    let queries = (0..c.queries.len() as u64).flat_map(|q| row(rng.fork(1).fork(q))).collect();
    let text =
        |p: &Passage| p.text.bytes().chain(p.lang.as_str().bytes()).fold(0, |h, b| h * 31 + u64::from(b));
    let passages = c.passages.iter().flat_map(|p| row(rng.fork(2).fork(text(p)))).collect();
    (Matrix::new(DIM, queries), Matrix::new(DIM, passages))
}

/// Files of vectors of a collection, the rows drawn into another order, passages in two files.
struct Files {
    _dir: tempfile::TempDir,
    passages: Vec<PathBuf>,
    queries: Vec<PathBuf>,
}

impl Files {
    fn new(c: &Collection, (queries, passages): (&Matrix, &Matrix), seed: u64) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let rng = CounterRng::new(seed);
        let mut order: Vec<usize> = (0..c.passages.len()).collect();
        rng.shuffle(&mut order);
        let write = |name: &str, all: &Matrix, order: &[usize], id: &dyn Fn(usize) -> String| {
            let path = dir.path().join(name);
            npy(&path, all.cols, order.iter().map(|&i| (id(i), all.row(i))));
            path
        };
        let passage = |i: usize| c.passages[i].id.clone();
        let (one, other) = order.split_at(order.len() / 3);
        let files =
            vec![write("p0.npy", passages, one, &passage), write("p1.npy", passages, other, &passage)];
        let mut order: Vec<usize> = (0..c.queries.len()).collect();
        rng.fork(1).shuffle(&mut order);
        let queries = vec![write("q.npy", queries, &order, &|i| c.queries[i].id.clone())];
        Files { _dir: dir, passages: files, queries }
    }

    fn dense(&self, task: &Task) -> Dense<'static> {
        Dense::stored(task, &self.passages, &self.queries).unwrap()
    }
}

/// Writes a .npy file as numpy's format is described, and the ids beside it.
fn npy<'a>(path: &Path, dim: usize, rows: impl Iterator<Item = (String, &'a [f32])>) {
    let (mut ids, mut values, mut count) = (String::new(), Vec::new(), 0);
    for (id, row) in rows {
        ids += &format!("{id}\n");
        values.extend(row.iter().flat_map(|v| v.to_le_bytes()));
        count += 1;
    }
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values);
    std::fs::write(path, bytes).unwrap();
    std::fs::write(path.with_extension("ids.txt"), ids).unwrap();
}

/// The definition: all scores of a query in one list.
fn naive(
    c: &Collection,
    (queries, passages): (&Matrix, &Matrix),
    policy: Policy,
    langs: NegativeLangs,
    filter: &Filter,
) -> Vec<Mined> {
    let graded = c.graded(Split::Train);
    let same_text = |a: &Passage, b: &Passage| a.text == b.text && a.lang == b.lang;
    let mut out = Vec::new();
    for q in 0..c.queries.len() {
        let query_lang = &c.queries[q].lang;
        // Labels spread by groups and equal texts until nothing changes.
        let mut label: Vec<Option<Label>> = (0..c.passages.len() as Index)
            .map(|p| graded.grade(q as Index, p).map(|g| policy.label(g)))
            .collect();
        let trained = (0..c.passages.len())
            .any(|p| label[p] == Some(Label::Positive) && c.passages[p].lang == *query_lang);
        if !trained {
            continue;
        }
        for (p, passage) in c.passages.iter().enumerate() {
            if passage.text == c.queries[q].text {
                label[p] = label[p].max(Some(Label::Dropped));
            }
        }
        loop {
            let before = label.clone();
            for (a, pa) in c.passages.iter().enumerate() {
                for (b, pb) in c.passages.iter().enumerate() {
                    if same_text(pa, pb) || (pa.group.is_some() && pa.group == pb.group) {
                        label[a] = label[a].max(label[b]);
                    }
                }
            }
            if before == label {
                break;
            }
        }
        let first = |p: &usize| !(0..*p).any(|o| same_text(&c.passages[o], &c.passages[*p]));
        // Plus 0, as a sum of nothing but −0 is −0, which is ranked below 0.
        let score = |p: usize| (0..DIM).map(|i| queries.row(q)[i] * passages.row(p)[i]).sum::<f32>() + 0.0;
        let own = |p: usize| c.passages[p].lang == *query_lang;
        let all_langs = c.langs();
        let pools: Vec<Box<dyn Fn(usize) -> bool>> = match langs {
            NegativeLangs::Same => vec![Box::new(own)],
            NegativeLangs::Other => vec![Box::new(move |p| !own(p))],
            NegativeLangs::Any => vec![Box::new(|_| true)],
            NegativeLangs::Balanced => all_langs
                .iter()
                .map(|l| Box::new(move |p: usize| c.passages[p].lang == *l) as Box<_>)
                .collect(),
        };
        let in_any = |p: &usize| pools.iter().any(|pool| pool(*p));
        let positives: Vec<usize> =
            (0..c.passages.len()).filter(first).filter(|p| label[*p] == Some(Label::Positive)).collect();
        let passed: Vec<Vec<(usize, usize)>> = pools
            .iter()
            .map(|pool| {
                let of = |which: &dyn Fn(&usize) -> bool| -> Vec<f32> {
                    positives.iter().copied().filter(|p| which(p)).map(score).collect()
                };
                let scores = [of(&|p| pool(*p)), of(&in_any), of(&|_| true)];
                let scores = scores.iter().find(|s| !s.is_empty()).unwrap();
                let p = match filter.reference {
                    Reference::Lowest => scores.iter().copied().fold(f32::INFINITY, f32::min),
                    Reference::Highest => scores.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                    Reference::Mean => scores.iter().sum::<f32>() / scores.len() as f32,
                };
                let mut ranked: Vec<usize> = (0..c.passages.len())
                    .filter(first)
                    .filter(|p| pool(*p) && !matches!(label[*p], Some(Label::Positive | Label::Dropped)))
                    .collect();
                let id = |p: usize| &c.passages[p].id;
                ranked.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then_with(|| id(*b).cmp(id(*a))));
                let inside = |(i, d): &(usize, usize)| {
                    let s = score(*d);
                    (filter.range.0..=filter.range.1).contains(&(i + 1))
                        && (filter.keep_judged || label[*d].is_none())
                        && filter.absolute_margin.is_none_or(|m| s <= p - m)
                        && filter.relative_margin.is_none_or(|r| s <= p - p.abs() * r)
                        && filter.max_score.is_none_or(|max| s <= max)
                        && filter.min_score.is_none_or(|min| s >= min)
                };
                ranked.into_iter().enumerate().filter(inside).map(|(i, d)| (i + 1, d)).collect()
            })
            .collect();
        // One pool after another, with the same number from each where it has them.
        let total = passed.iter().map(Vec::len).sum::<usize>().min(filter.negatives);
        let level = (0..).find(|n| passed.iter().map(|p| p.len().min(*n)).sum::<usize>() >= total).unwrap();
        for list in &passed {
            for (rank, d) in list.iter().take(level) {
                out.push(Mined { query: q as Index, passage: *d as Index, score: score(*d), rank: *rank });
            }
        }
    }
    out
}

fn filters() -> impl Strategy<Value = Filter> {
    let margin = || prop::option::of((-4i8..=4).prop_map(|m| f32::from(m) / 4.0));
    let relative = prop::option::of((0u8..=4).prop_map(|r| f32::from(r) / 4.0));
    let reference = prop::sample::select(vec![Reference::Lowest, Reference::Highest, Reference::Mean]);
    ((1usize..4, 0usize..12), 1usize..7, margin(), relative, reference, (margin(), margin()), any::<bool>())
        .prop_map(
            |((lo, more), negatives, absolute_margin, relative_margin, reference, scores, keep_judged)| {
                Filter {
                    range: (lo, lo + more),
                    negatives,
                    absolute_margin,
                    relative_margin,
                    reference,
                    max_score: scores.0,
                    min_score: scores.1,
                    keep_judged,
                    select: Select::Top,
                }
            },
        )
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        (1u8..=3).prop_map(|t| Policy::Threshold(f32::from(t))),
        Just(Policy::Band { lo: 0.0, hi: 2.0 }),
        Just(Policy::Band { lo: 0.0, hi: 3.0 }),
    ]
}

fn texts() -> impl Strategy<Value = Vec<Text>> {
    prop::collection::vec((0u8..12, 0usize..3, prop::option::of(0u8..4)), 1..25)
}

fn by_query(mined: &[Mined]) -> BTreeMap<Index, Vec<Mined>> {
    let mut out: BTreeMap<Index, Vec<Mined>> = BTreeMap::new();
    mined.iter().for_each(|m| out.entry(m.query).or_default().push(*m));
    out
}

fn found(task: &Task, sources: &[&dyn Source], filter: &Filter) -> Vec<Mined> {
    mine(task, sources, filter, &|_| {}).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn mining_equals_its_definition(
        texts in texts(),
        queries in prop::collection::vec(0usize..3, 1..6),
        judgments in prop::collection::vec((0usize..6, 0usize..25, 0u8..=3), 1..25),
        policy in policies(),
        langs in prop::sample::select(NegativeLangs::ALL.map(|(_, l)| l).to_vec()),
        filter in filters(),
        seed in 0u64..1000,
    ) {
        let c = collection(&texts, &queries, &judgments);
        let labels = LabelPolicies::uniform(policy);
        let graded = c.graded(Split::Train);
        let task = Task::new(&c, &graded, (Scenario::Mixture, &labels), &c.langs(), langs);
        let (q, p) = vectors(&c, seed);
        let files = Files::new(&c, (&q, &p), seed);
        let dense = files.dense(&task);
        let (got, counts) = mine(&task, &[&dense], &filter, &|_| {}).unwrap();
        let want = naive(&c, (&q, &p), policy, langs, &filter);
        if langs == NegativeLangs::Balanced {
            // Which pools give the last places is drawn: each query has as many, from what may be taken.
            let (got, want) = (by_query(&got), by_query(&want));
            for (query, want) in &want {
                let got = got.get(query).map_or(&[][..], Vec::as_slice);
                prop_assert_eq!(got.len(), want.len().min(filter.negatives));
                prop_assert!(got.iter().all(|m| want.contains(m)));
            }
            prop_assert!(got.keys().all(|q| want.contains_key(q)));
        } else {
            prop_assert_eq!(&got, &want);
        }
        prop_assert_eq!(counts.values().map(|c| c.mined).sum::<usize>(), got.len());
        prop_assert_eq!(counts.values().map(|c| c.queries).sum::<usize>(), task.len());

        // A run file of the same scores gives the same, where it ranks all passages. Its ids are those of a text's first.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for query in 0..c.queries.len() {
            for &d in task.passages() {
                let score: f32 = (0..DIM).map(|i| q.row(query)[i] * p.row(d as usize)[i]).sum();
                writeln!(file, "q{query} Q0 p{d} 1 {score} t").unwrap();
            }
        }
        file.flush().unwrap();
        let run = RunFile::read(file.path()).unwrap();
        if let Ok((from_run, run_counts)) = mine(&task, &[&run], &filter, &|_| {}) {
            prop_assert_eq!(&from_run, &got);
            prop_assert_eq!(run_counts, counts);
            // What two sources agree on comes once.
            prop_assert_eq!(&found(&task, &[&dense, &run], &filter), &got);
        } else {
            prop_assert!(got.is_empty());
        }

        // What is drawn passes the filter, is as much, and depends on the seed alone.
        let all = Filter { negatives: 1000, ..filter.clone() };
        let random = Filter { select: Select::Random(seed), ..filter.clone() };
        let drawn = found(&task, &[&dense], &random);
        prop_assert_eq!(drawn.len(), got.len());
        let passed = found(&task, &[&dense], &all);
        prop_assert!(drawn.iter().all(|m| passed.contains(m)));
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        prop_assert_eq!(alone.install(|| found(&task, &[&dense], &random)), drawn);

        // No source ever gives what the policy calls a positive or leaves out.
        for m in found(&task, &[&dense, &Lexical, &run_or(&run)], &all) {
            let label = graded.grade(m.query, m.passage).map(|g| policy.label(g));
            prop_assert!(!matches!(label, Some(Label::Positive | Label::Dropped)));
        }
    }
}

/// A source that gives nothing where a run has nothing to give.
struct OrNothing<'a>(&'a RunFile);

fn run_or(run: &RunFile) -> OrNothing<'_> {
    OrNothing(run)
}

impl Source for OrNothing<'_> {
    fn find(
        &self,
        task: &Task,
        depth: usize,
        progress: &(dyn Fn(u64) + Sync),
    ) -> polygrade_data::Result<Vec<polygrade_train::mine::Found>> {
        self.0.find(task, depth, progress).or_else(|_| {
            let none = polygrade_train::mine::Found {
                candidates: vec![Vec::new(); task.pools()],
                banned: Vec::new(),
            };
            Ok(vec![none; task.len()])
        })
    }
}

/// More passages and queries than fit a tile, and BM25 against its own ranking.
#[test]
fn tiles_and_threads_change_nothing_and_bm25_ranks_as_it_does() {
    let texts: Vec<Text> = (0..9000u32).map(|i| ((i % 251) as u8, (i / 251 % 3) as usize, None)).collect();
    // Texts of their own, so that there are 9000 of them.
    let mut c = collection(&texts, &(0..600).map(|i| i % 3).collect::<Vec<_>>(), &[]);
    let judgments = (0..600).map(|q| Judgment { query: q, passage: (q * 7) % 9000, grade: 3.0 }).collect();
    let (mut passages, queries) = (c.passages.clone(), c.queries.clone());
    passages.iter_mut().enumerate().for_each(|(i, p)| p.text = format!("{} n{i}", p.text));
    c = Collection::from_parts(c.meta.clone(), passages, queries, [judgments, Vec::new(), Vec::new()]);
    let rng = CounterRng::new(5);
    let matrix = |n: usize, fork: u64| {
        // Of length 1, and sums are exact.
        let value = |i: usize| if rng.fork(fork).below(i as u64, 2) == 0 { 0.125 } else { -0.125 };
        Matrix::new(64, (0..n * 64).map(value).collect())
    };
    let (q, p) = (matrix(600, 1), matrix(9000, 2));
    let files = Files::new(&c, (&q, &p), 3);
    let labels = LabelPolicies::uniform(Policy::Threshold(2.0));
    let graded = c.graded(Split::Train);
    let filter = Filter { range: (5, 40), relative_margin: None, ..Filter::default() };
    for langs in [NegativeLangs::Any, NegativeLangs::Balanced, NegativeLangs::Other] {
        let task = Task::new(&c, &graded, (Scenario::CrossLingual, &labels), &c.langs(), langs);
        assert!(task.len() > 300, "{}", task.len());
        let dense = files.dense(&task);
        let got = found(&task, &[&dense], &filter);
        assert_eq!(got.len(), 7 * task.len());
        for m in got.iter().step_by(97) {
            let score = |p_: usize| -> f32 {
                q.row(m.query as usize).iter().zip(p.row(p_)).map(|(a, b)| a * b).sum()
            };
            assert_eq!(m.score, score(m.passage as usize));
        }
        for n in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            assert_eq!(pool.install(|| found(&task, &[&dense], &filter)), got, "{n} threads");
            assert_eq!(
                pool.install(|| found(&task, &[&Lexical], &filter)),
                found(&task, &[&Lexical], &filter)
            );
        }
    }
    // BM25 with an index a language, as rank_bm25 has.
    let task = Task::new(&c, &graded, (Scenario::CrossLingual, &labels), &c.langs(), NegativeLangs::Same);
    let all = Filter { range: (1, 30), negatives: 30, relative_margin: None, ..Filter::default() };
    let got = by_query(&found(&task, &[&Lexical], &all));
    let ids: Vec<&str> = c.passages.iter().map(|p| p.id.as_str()).collect();
    let ties = polygrade_index::TieOrder::new(&ids);
    let order = polygrade_index::Order::new(&polygrade_eval::Pool::Same, 40, &ties);
    let queries: Vec<Index> = (0..task.len()).map(|at| task.query(at)).collect();
    let want = polygrade_index::rank_bm25(&c, &queries, &order);
    for (query, hits) in want.queries.iter().zip(&want.hits) {
        let expected = hits.iter().filter(|h| graded.grade(*query, h.passage).is_none()).take(30);
        let expected: Vec<(u32, f32)> = expected.map(|h| (h.passage, h.score)).collect();
        let mined: Vec<(u32, f32)> = got[query].iter().map(|m| (m.passage, m.score)).collect();
        assert_eq!(mined, expected);
    }
}

/// Several judgments of a pair make one label as in training: by the majority of their own.
#[test]
fn annotators_votes_decide_what_is_a_positive() {
    let c = collection(&[(0, 0, None), (1, 0, None), (2, 0, None), (3, 0, None)], &[0], &[]);
    let mut votes = Votes::default();
    let judged = [(0, 3.0, "a"), (0, 1.0, "b"), (1, 2.0, "a"), (1, 2.0, "b"), (1, 0.0, "c"), (2, 2.0, "d")];
    for (passage, grade, annotator) in judged {
        let origin = Origin { annotator: Some(annotator), source: None };
        votes.push(Judgment { query: 0, passage, grade }, origin);
    }
    let c = c.with_votes(Split::Train, votes);
    let graded = c.graded(Split::Train);
    assert_eq!([0, 1].map(|p| graded.grade(0, p).unwrap() >= 2.0), [true, false], "the means say otherwise");
    let strict = polygrade_train::labels::Rule {
        annotator: Some("d".into()),
        ..polygrade_train::labels::Rule::new(Policy::Threshold(3.0))
    };
    let labels = LabelPolicies { rules: vec![strict], ..LabelPolicies::uniform(Policy::Threshold(2.0)) };
    let task = Task::new(&c, &graded, (Scenario::Mixture, &labels), &c.langs(), NegativeLangs::Same);
    assert_eq!(task.positives(0), [1]);
    assert_eq!([0, 1, 2, 3].map(|p| task.is_banned(0, p)), [true, true, false, false]);
}

/// A positive that BM25 does not find has no score, and so is none that margins are measured from.
#[test]
fn margins_of_bm25_are_measured_from_positives_that_share_a_word() {
    let mut c = collection(&[(0, 0, None); 12], &[0], &[(0, 0, 3), (0, 1, 3)]);
    c.queries[0].text = "alpha beta".into();
    let texts = ["alpha beta", "gamma", "alpha delta and more of it"];
    for (i, p) in c.passages.iter_mut().enumerate() {
        p.text = texts.get(i).map_or(format!("other {i}"), |t| (*t).to_owned());
    }
    let graded = c.graded(Split::Train);
    let labels = LabelPolicies::uniform(Policy::Threshold(2.0));
    let task = Task::new(&c, &graded, (Scenario::Mixture, &labels), &c.langs(), NegativeLangs::Same);
    let (mined, counts) = mine(&task, &[&Lexical], &Filter::default(), &|_| {}).unwrap();
    assert_eq!(mined.iter().map(|m| m.passage).collect::<Vec<_>>(), [2], "{counts:?}");
}

/// What is wrong with files of vectors is told before anything is ranked, with the id, how many and the way out.
#[test]
fn faults_of_stored_vectors() {
    let texts: Vec<Text> = (0..5).map(|i| (i, usize::from(i == 4), None)).collect();
    let c = collection(&texts, &[0, 1], &[(0, 0, 3)]);
    let graded = c.graded(Split::Train);
    let labels = LabelPolicies::uniform(Policy::Threshold(2.0));
    let task = |which| Task::new(&c, &graded, (Scenario::Mixture, &labels), &c.langs(), which);
    let same = task(NegativeLangs::Same);
    let dir = tempfile::tempdir().unwrap();
    let row = [0.0f32, 3.0, 4.0];
    let file = |name: &str, ids: &[&str], dim: usize| {
        let path = dir.path().join(name);
        npy(&path, dim, ids.iter().map(|id| ((*id).to_owned(), &row[..dim])));
        vec![path]
    };
    let say = |passages: &[PathBuf], queries: &[PathBuf], words: &[&str]| {
        let text = Dense::stored(&same, passages, queries).err().unwrap().to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{words:?}:\n{text}");
    };
    let queries = file("q.npy", &["q0"], 3);
    let passages = file("p.npy", &["p3", "p2", "p1", "p0"], 3);
    // Only those that are asked for, in the languages that are asked for, need be there; and lengths do not matter.
    let stored = Dense::stored(&same, &passages, &queries).unwrap();
    let mined = found(&same, &[&stored], &Filter { relative_margin: None, ..Filter::default() });
    assert_eq!(mined.iter().map(|m| (m.passage, m.rank)).collect::<Vec<_>>(), [(3, 1), (2, 2), (1, 3)]);
    assert!(mined.iter().all(|m| (m.score - 1.0).abs() < 1e-6), "{mined:?}");
    let any = Dense::stored(&task(NegativeLangs::Any), &passages, &queries).err().unwrap().to_string();
    assert!(any.contains("lacks vectors of 1 passage that") && any.contains("\"p4\""), "{any}");

    let fix = "polygrade encode MODEL COLLECTION/corpus.jsonl --out";
    say(&file("few.npy", &["p0", "p4", "p1"], 3), &queries, &["few.npy", "2 passages", "\"p2\"", fix]);
    say(
        &passages,
        &file("none.npy", &["q1"], 3),
        &["none.npy", "1 query", "\"q0\"", "queries.jsonl --query"],
    );
    let strange = file("s.npy", &["p0", "x", "p1", "p2", "p3", "y"], 3);
    say(&strange, &queries, &["s.npy", "2 passages that the collection lacks", "\"x\" in row 2", fix]);
    say(
        &passages,
        &file("s.npy", &["q0", "p0"], 3),
        &["1 query that the collection lacks", "\"p0\" in row 2"],
    );
    let twice = file("t.npy", &["p0", "p1", "p2", "p1", "p3"], 3);
    say(&twice, &queries, &["t.npy", "1 passage", "come before", "\"p1\" in row 4"]);
    let both = [passages.clone(), file("more.npy", &["p4", "p2"], 3)].concat();
    say(&both, &queries, &["more.npy", "come before", "\"p2\" in row 2"]);
    say(
        &passages,
        &file("narrow.npy", &["q0"], 2),
        &["narrow.npy", "width 2", "p.npy", "3", "--truncate-dim"],
    );
}
