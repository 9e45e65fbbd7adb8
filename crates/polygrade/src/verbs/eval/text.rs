//! An evaluation as text.

use crate::ui::table;
use polygrade_eval::evaluation::{BiasReport, Values};
use polygrade_eval::{Bias, Evaluation, PoolEvaluation};
use std::collections::BTreeSet;
use std::fmt::Write;

pub(super) fn text(e: &Evaluation, per_query: bool) -> String {
    let mut out = String::new();
    let matrix = e.metrics.first().and_then(|m| Some((m, e.matrix.get(m)?)));
    for pool in &e.pools {
        // Pools of one language are cells of the matrix.
        if matrix.is_none() || pool.pool.mixes() || per_query {
            out += &of_pool(e, pool, per_query);
            out.push('\n');
        }
    }
    if let Some((metric, rows)) = matrix {
        let passages: BTreeSet<&String> = rows.values().flat_map(|r| r.keys()).collect();
        let _ = writeln!(
            out,
            "{} on {} {}: {metric}, queries in rows, passages in columns",
            e.model,
            e.collection,
            e.split.name()
        );
        let head: Vec<&str> = ["query"].into_iter().chain(passages.iter().map(|p| p.as_str())).collect();
        let cell = |i: Option<&polygrade_eval::bootstrap::Interval>| {
            i.map_or("–".into(), |i| format!("{:.4}", i.mean))
        };
        let line = |(q, row): (&String, &std::collections::BTreeMap<_, _>)| -> Vec<String> {
            [q.clone()].into_iter().chain(passages.iter().map(|p| cell(row.get(*p)))).collect()
        };
        out += &table(&head, &rows.iter().map(line).collect::<Vec<_>>());
    }
    out
}

fn of_pool(e: &Evaluation, pool: &PoolEvaluation, per_query: bool) -> String {
    let head: Vec<&str> = ["language"].into_iter().chain(e.metrics.iter().map(String::as_str)).collect();
    let row = |name: &str, values: &Values<f64>| -> Vec<String> {
        let cell = |n: &String| values.get(n).map_or("–".into(), |v| format!("{v:.4}"));
        [name.to_owned()].into_iter().chain(e.metrics.iter().map(cell)).collect()
    };
    let mut rows: Vec<Vec<String>> = pool.by_lang.iter().map(|(l, v)| row(l, v)).collect();
    rows.push(row("mean", &pool.macro_mean));
    let mut out = format!(
        "{} on {} {}, pool {}, {} queries\n",
        e.model,
        e.collection,
        e.split.name(),
        pool.pool,
        pool.queries
    );
    out += &table(&head, &rows);
    if let Some(bias) = &pool.bias {
        out.push('\n');
        out += &of_bias(bias);
    }
    if per_query {
        let rows: Vec<Vec<String>> = pool.by_query.iter().map(|(q, v)| row(q, v)).collect();
        out += "\n";
        out += &table(&[&["query"], &head[1..]].concat(), &rows);
    }
    out
}

/// The measures that fit on a line, then the sentences.
fn of_bias(bias: &BiasReport) -> String {
    let k = bias.k;
    let measures = [
        Bias::MaxR,
        Bias::MaxRNorm,
        Bias::Complete(k),
        Bias::PreferenceOwn,
        Bias::RankGap,
        Bias::RankDistance,
    ];
    let mut names: Vec<String> = measures.iter().map(Bias::to_string).collect();
    names.extend(bias.mean.keys().filter(|m| m.starts_with("Inclination(")).cloned());
    let head: Vec<&str> = ["bias"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |name: &str, values: &Values<polygrade_eval::bootstrap::Interval>| -> Vec<String> {
        let cell = |n: &String| values.get(n).map_or("–".into(), |i| format!("{:.2}", i.mean));
        [name.to_owned()].into_iter().chain(names.iter().map(cell)).collect()
    };
    let mut rows: Vec<Vec<String>> = bias.by_lang.iter().map(|(l, v)| row(l, v)).collect();
    rows.push(row("mean", &bias.mean));
    let mut out = table(&head, &rows);
    for sentence in &bias.sentences {
        let _ = write!(out, "\n{sentence}");
    }
    out + "\n"
}
