//! Language bias from vectors to figures: an encoder of random vectors has the values that probability gives, an oracle
//! the best there are, on made collections and, where it is there, on XQuAD.
#![allow(clippy::unwrap_used)]

use polygrade_data::import::{Format, Options, Source, import};
use polygrade_data::split::SplitRule;
use polygrade_data::{Collection, Graded, Index, Judgment, Lang, Meta, Passage, Query, Scale, Split};
use polygrade_eval::evaluation::Settings;
use polygrade_eval::{Measure, Pool, PoolEvaluation};
use polygrade_index::{Order, TieOrder, rank};
use polygrade_nn::Matrix;
use polygrade_nn::kernels::l2_normalize;
use polygrade_nn::rng::CounterRng;
use std::path::PathBuf;

const K: usize = 10;

fn lang(tag: &str) -> Lang {
    Lang::parse(tag).unwrap()
}

/// `units` passages in each language, with a query for each in each language; translations are joined.
fn parallel(langs: &[&str], units: usize) -> Collection {
    let (mut passages, mut queries, mut judgments) = (Vec::new(), Vec::new(), Vec::new());
    for tag in langs {
        for u in 0..units {
            let (lang, group, text) = (lang(tag), Some(format!("u{u}")), format!("{tag} {u}"));
            let n = passages.len() as Index;
            judgments.push(Judgment { query: n, passage: n, grade: 3.0 });
            passages.push(Passage {
                id: format!("{tag}-p{u}"),
                title: None,
                text: text.clone(),
                lang: lang.clone(),
                group: group.clone(),
            });
            queries.push(Query { id: format!("{tag}-q{u}"), text, lang, group });
        }
    }
    let none = || "none".to_owned();
    let meta = Meta { name: "made".into(), licence: none(), source: none(), grades: Scale::up_to(3.0) };
    Collection::from_parts(meta, passages, queries, [Vec::new(), Vec::new(), judgments])
}

/// Unit vectors, each in a direction of its own.
fn random(rows: usize, rng: CounterRng) -> Matrix {
    let mut m = Matrix::new(24, (0..rows as u64 * 24).map(|i| rng.normal(i) as f32).collect());
    m.data.chunks_mut(24).for_each(|row| {
        l2_normalize(row);
    });
    m
}

fn measure(
    collection: &Collection,
    graded: &Graded,
    pool: &Pool,
    vectors: (&Matrix, &Matrix),
    threads: bool,
) -> PoolEvaluation {
    let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
    let ties = TieOrder::new(&ids);
    let order = Order { placed: Some(graded), ..Order::new(pool, 200, &ties) };
    let rankings = rank(collection, graded.queries(), vectors, &order, threads);
    let rel = collection.meta.grades.max;
    let settings = Settings {
        measures: vec![Measure::AveragePrecision(1.0)],
        depth: 200,
        k: K,
        rel,
        level: 0.95,
        own_language_bonus: 0.0,
    };
    PoolEvaluation::new(collection, graded, pool, &rankings, &settings)
}

/// What probability gives for a random order of `sizes` passages by language, one relevant in each, for queries in the
/// first language. With each expectation comes a bound on the standard deviation of one query's value.
fn expected(sizes: &[(&str, usize)]) -> Vec<(String, f64, f64)> {
    let (d, r) = (sizes.iter().map(|s| s.1).sum::<usize>(), sizes.len());
    let (df, rf) = (d as f64, r as f64);
    // P(Max@R = m) = C(m − 1, R − 1) / C(D, R), by the ratio of neighbours.
    let mut p = vec![0.0; d + 1];
    p[r] = (1..=r).map(|i| i as f64 / (d - r + i) as f64).product();
    for m in r + 1..=d {
        p[m] = p[m - 1] * (m as f64 - 1.0) / (m - r) as f64;
    }
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let norm = |m: usize| 100.0 * (df / m as f64).log2() / (df / rf).log2();
    let mean = |f: &dyn Fn(usize) -> f64| (r..=d).map(|m| p[m] * f(m)).sum::<f64>();
    let sd = |f: &dyn Fn(usize) -> f64| (mean(&|m| f(m).powi(2)) - mean(f).powi(2)).sqrt();
    let complete = 100.0 * p[..=K.min(d)].iter().sum::<f64>();
    let mut out = vec![
        ("Max@R".to_owned(), rf * (df + 1.0) / (rf + 1.0), sd(&|m| m as f64)),
        ("Max@R_norm".to_owned(), mean(&norm), sd(&norm)),
        (format!("Comp@{K}"), complete, (complete * (100.0 - complete)).sqrt()),
        ("LPR(own)".to_owned(), 100.0 / rf, 50.0),
        ("RankGap".to_owned(), 0.0, 2.5),
        ("Top1(relevant,own)".to_owned(), 100.0 / df, 100.0 / df.sqrt()),
        ("PEER(0)@100".to_owned(), 0.5, 0.3),
    ];
    for (i, (tag, n)) in sizes.iter().enumerate() {
        let n = *n as f64;
        out.push((format!("LPR({tag})"), 100.0 / rf, 50.0));
        out.push((format!("Share({tag})@{K}"), 100.0 * n / df, 50.0 / (K as f64).sqrt()));
        // The first own passage is anywhere; each of the others stands above it with the same chance.
        let whose = if i > 0 { tag } else { "own" };
        out.push((format!("Inclination({whose})@{K}"), 100.0 * (n - 1.0) / df, 50.0));
        let others = d - r + 1;
        let harmonic: f64 = (1..=others).map(|k| 1.0 / k as f64).sum();
        out.push((format!("RR1({tag})"), harmonic / others as f64, 0.12));
    }
    out
}

/// Compares the mean of `trials` random encoders with the expectation, within five standard errors.
fn check_random(collection: &Collection, graded: &Graded, pool: &Pool, query: &str, trials: u64) {
    let sizes: Vec<(Lang, usize)> = pool.sizes(collection, &lang(query)).into_iter().collect();
    let mut sizes: Vec<(&str, usize)> = sizes.iter().map(|(l, n)| (l.as_str(), *n)).collect();
    sizes.sort_by_key(|(l, _)| *l != query);
    let found: Vec<PoolEvaluation> = (0..trials)
        .map(|t| {
            let rng = CounterRng::new(77).fork(t);
            let queries = random(collection.queries.len(), rng.fork(1));
            let passages = random(collection.passages.len(), rng.fork(2));
            measure(collection, graded, pool, (&queries, &passages), true)
        })
        .collect();
    for (name, want, sd) in expected(&sizes) {
        let value = |f: &PoolEvaluation| f.bias.as_ref().unwrap().by_lang[query][&name].mean;
        let each: Vec<f64> = found.iter().map(value).collect();
        let n = trials as f64;
        let mean = each.iter().sum::<f64>() / n;
        // Queries share the passages' vectors, so encoders are the sample where their spread says more.
        let spread = (each.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
        let alone = sd / (found[0].queries_by_lang[query] as f64 * n).sqrt();
        let error = 5.0 * spread.max(alone);
        assert!((mean - want).abs() < error, "{pool} {query} {name}: {mean}, expected {want} ± {error}");
        assert!(error < 0.5 * want.abs().max(1.0) || want < 1.0, "{name}: ±{error} says little of {want}");
    }
}

#[test]
fn a_random_encoder_is_as_probability_says() {
    let collection = parallel(&["ar", "en", "zh"], 60);
    let graded = collection.graded(Split::Test);
    check_random(&collection, &graded, &Pool::All, "zh", 40);
    check_random(&collection, &graded, &Pool::parse("multi:own+en").unwrap(), "ar", 40);
}

#[test]
fn an_oracle_is_perfect_and_a_biased_encoder_is_caught() {
    let collection = parallel(&["ar", "en", "zh"], 60);
    let graded = collection.graded(Split::Test);
    // One axis a unit: translations have the same vector, everything else is orthogonal.
    let one_hot = || {
        let mut m = Matrix::zeros(180, 64);
        (0..180).for_each(|i| m.row_mut(i)[i % 60] = 1.0);
        m
    };
    let e = measure(&collection, &graded, &Pool::All, (&one_hot(), &one_hot()), true);
    let bias = e.bias.unwrap();
    assert_eq!(e.macro_mean["AP"], 1.0);
    for (name, want) in [("Max@R", 3.0), ("Max@R_norm", 100.0), ("Comp@10", 100.0)] {
        let i = bias.mean[name];
        assert_eq!((i.mean, i.ends()), (want, Some((want, want))), "{name}");
    }
    for l in ["ar", "en", "zh"] {
        assert_eq!(bias.mean[&format!("RR1({l})")].mean, 1.0);
        assert_eq!(bias.by_lang["zh"].get(&format!("Inclination({l})@10")).map_or(0.0, |i| i.mean), 0.0);
    }

    // English passages lie close to every query, as they do for a model that knows only English.
    let mut biased = one_hot();
    for i in 60..120 {
        let row = biased.row_mut(i);
        row.iter_mut().for_each(|v| *v *= 0.1);
        row[63] = 1.0;
    }
    let mut asking = one_hot();
    (0..180).for_each(|i| asking.row_mut(i)[63] = 2.0);
    let e = measure(&collection, &graded, &Pool::parse("multi:own+en").unwrap(), (&asking, &biased), true);
    let bias = e.bias.unwrap();
    let zh = &bias.by_lang["zh"];
    assert_eq!(zh["Inclination(en)@10"].mean, 90.0, "the right English one is first, nine others follow");
    assert_eq!((zh["LPR(own)"].mean, zh["LPR(en)"].mean, zh["Share(en)@10"].mean), (0.0, 100.0, 100.0));
    assert_eq!((zh["Max@R"].mean, zh["Comp@10"].mean), (61.0, 0.0));
    assert!((zh["RankGap"].mean - 61f64.log2()).abs() < 1e-12);
    assert!(!bias.by_lang.contains_key("en"), "English queries meet English alone in this pool");
    let said = |s: &String| s.contains("English") && s.contains("90 % [90, 90]");
    assert!(bias.sentences.iter().any(said), "{:?}", bias.sentences);
}

/// Values by query against the definitions applied to the whole sorted ranking.
#[test]
fn values_are_those_of_the_whole_ranking_at_any_number_of_threads() {
    let collection = parallel(&["ar", "en", "zh"], 50);
    let graded = collection.graded(Split::Test);
    let rng = CounterRng::new(3);
    let (queries, mut passages) = (random(150, rng.fork(1)), random(150, rng.fork(2)));
    // Ties: every fifth passage is a copy.
    let copy = passages.row(0).to_vec();
    (0..150).step_by(5).for_each(|i| passages.row_mut(i).copy_from_slice(&copy));
    let e = measure(&collection, &graded, &Pool::All, (&queries, &passages), true);
    let alone = measure(&collection, &graded, &Pool::All, (&queries, &passages), false);
    assert_eq!(format!("{e:?}"), format!("{alone:?}"));
    let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
    let ties = TieOrder::new(&ids);
    let order = Order::new(&Pool::All, 150, &ties);
    let whole = rank(&collection, graded.queries(), (&queries, &passages), &order, true);
    let bias = e.bias.unwrap();
    for (&q, hits) in whole.queries.iter().zip(&whole.hits) {
        let (q, own) = (q as usize, q as usize / 50);
        let (unit, values) = (q % 50, &bias.by_query[&collection.queries[q].id]);
        let place = |l: usize| hits.iter().position(|h| h.passage as usize == l * 50 + unit).unwrap();
        let ranks: Vec<usize> = (0..3).map(|l| place(l) + 1).collect();
        let max = *ranks.iter().max().unwrap();
        assert_eq!(values["Max@R"], max as f64);
        assert_eq!(values["Comp@10"], if max <= 10 { 100.0 } else { 0.0 });
        let first = (0..3).min_by_key(|l| ranks[*l]).unwrap();
        assert_eq!(values["LPR(own)"], if first == own { 100.0 } else { 0.0 });
        let above: Vec<usize> = hits[..ranks[own] - 1].iter().take(10).map(|h| h.passage as usize).collect();
        let english = above.iter().filter(|p| **p / 50 == 1 && **p % 50 != unit).count();
        let of_own = above.iter().filter(|p| **p / 50 == own && **p % 50 != unit).count();
        let want = if above.is_empty() { 0.0 } else { 100.0 * of_own as f64 / above.len() as f64 };
        assert_eq!(values["Inclination(own)@10"], want);
        if own != 1 {
            let want = if above.is_empty() { 0.0 } else { 100.0 * english as f64 / above.len() as f64 };
            assert_eq!(values["Inclination(en)@10"], want);
        }
        let removed = ranks.iter().filter(|r| **r < ranks[2]).count();
        assert_eq!(values["RR1(zh)"], 1.0 / (ranks[2] - removed) as f64);
        let logs: Vec<f64> = ranks.iter().map(|r| (*r as f64).log2()).collect();
        let gap = logs[own] - (logs.iter().sum::<f64>() - logs[own]) / 2.0;
        assert!((values["RankGap"] - gap).abs() < 1e-12);
    }
}

/// Scores, order and the ranks of judged passages with a bonus, against the whole ranking without, sorted anew.
#[test]
fn a_bonus_raises_passages_in_the_querys_language_and_nothing_else() {
    let collection = parallel(&["ar", "en", "zh"], 50);
    let graded = collection.graded(Split::Test);
    let rng = CounterRng::new(4);
    let (queries, passages) = (random(150, rng.fork(1)), random(150, rng.fork(2)));
    let ids: Vec<&str> = collection.passages.iter().map(|p| p.id.as_str()).collect();
    let ties = TieOrder::new(&ids);
    for pool in [Pool::All, Pool::Same, Pool::parse("multi:own+en").unwrap()] {
        let ranked = |own_language_bonus, depth, threads| {
            let order = Order { pool: &pool, depth, ties: &ties, own_language_bonus, placed: Some(&graded) };
            rank(&collection, graded.queries(), (&queries, &passages), &order, threads)
        };
        let plain = ranked(0.0, 150, true);
        for bonus in [0.3, -0.3, 100.0] {
            let raised = ranked(bonus, 20, true);
            let alone = ranked(bonus, 20, false);
            assert_eq!(format!("{raised:?}"), format!("{alone:?}"));
            assert_eq!(raised.queries, plain.queries);
            for (i, &q) in raised.queries.iter().enumerate() {
                let own =
                    |p: u32| collection.passages[p as usize].lang == collection.queries[q as usize].lang;
                let mut want = plain.hits[i].clone();
                if pool != Pool::Same {
                    want.iter_mut().filter(|h| own(h.passage)).for_each(|h| h.score += bonus);
                }
                want.sort_by(|a, b| ties.compare(a, b));
                assert_eq!(raised.hits[i], want[..20]);
                assert!(!raised.placed[i].is_empty());
                for placed in &raised.placed[i] {
                    assert_eq!(want[placed.rank - 1].passage, placed.passage);
                }
            }
        }
    }
}

/// A data set of `POLYGRADE_DATA` as a collection, all of it test; `None` where it is absent.
fn real(name: &str, format: Format) -> Option<Collection> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/polygrade-data"));
    let data = std::env::var_os("POLYGRADE_DATA").map(PathBuf::from).or_else(home)?.join(name);
    if !data.is_dir() {
        eprintln!("skipped: {} is absent", data.display());
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("c");
    let options = Options { split: SplitRule::Fixed(Split::Test), ..Options::default() };
    import(format, &[Source { lang: None, path: data, columns: None }], &out, &options).unwrap();
    Some(Collection::load(&out).unwrap())
}

#[test]
fn xquad_has_the_pools_that_are_published() {
    let Some(c) = real("xquad", Format::Squad) else { return };
    for l in c.langs() {
        // 48 articles with 240 paragraphs; 1,190 questions.
        assert_eq!(Pool::Same.passages(&c, &l).len(), 240, "{l}");
        assert_eq!(c.queries.iter().filter(|q| q.lang == l).count(), 1190, "{l}");
    }
    let (en, zh) = (lang("en"), lang("zh"));
    assert_eq!(Pool::parse("multi:own+en").unwrap().passages(&c, &zh).len(), 480);
    assert_eq!(Pool::All.passages(&c, &en).len(), 240 * c.langs().len());
    let graded = c.graded(Split::Test);
    let relevant = |q: Index| graded.judged(q).filter(|(_, g)| *g == 3.0).count();
    assert!(graded.queries().iter().all(|q| relevant(*q) == c.langs().len()), "one in each language");
    check_random(&c, &graded, &Pool::parse("multi:en+zh").unwrap(), "zh", 6);
    check_random(&c, &graded, &Pool::All, "en", 4);
}

#[test]
fn xquad_r_has_the_pools_that_are_published() {
    let Some(c) = real("xquad_r", Format::Lareqa) else { return };
    // README of google-research-datasets/lareqa.
    let published = [
        ("ar", 1222),
        ("de", 1276),
        ("el", 1234),
        ("en", 1180),
        ("es", 1215),
        ("hi", 1244),
        ("ru", 1219),
        ("th", 852),
        ("tr", 1167),
        ("vi", 1209),
        ("zh", 1196),
    ];
    for l in c.langs() {
        let want = published.iter().find(|(tag, _)| *tag == l.as_str()).unwrap().1;
        assert_eq!(Pool::Same.passages(&c, &l).len(), want, "{l}");
        assert_eq!(c.queries.iter().filter(|q| q.lang == l).count(), 1190, "{l}");
    }
    let graded = c.graded(Split::Test);
    assert!(graded.queries().iter().all(|q| graded.judged(*q).count() == c.langs().len()));
    check_random(&c, &graded, &Pool::parse("multi:own+en").unwrap(), "zh", 4);
}
