//! An evaluation as text.

use super::Args;
use crate::ui::table;
use polygrade_eval::cluster::Estimate;
use polygrade_eval::evaluation::{BiasReport, Values};
use polygrade_eval::{Bias, Evaluation, Pool, PoolEvaluation};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Query languages whose sentences are printed; those of more would bury the tables.
const SENTENCES: usize = 3;

pub(super) fn text(e: &Evaluation, args: &Args) -> String {
    let mut out = String::new();
    // The usual metrics were not asked for one by one: the first stands for them.
    let shown = if args.metrics.is_empty() { 1 } else { e.metrics.len() };
    let matrices: Vec<_> = e.metrics.iter().take(shown).filter_map(|m| Some((m, e.matrix.get(m)?))).collect();
    for pool in &e.pools {
        // Pools of one language other than the query's own are cells of the matrices.
        if matrices.is_empty() || pool.pool.mixes() || pool.pool == Pool::Same || args.per_query {
            out += &of_pool(e, pool, args);
            out.push('\n');
        }
    }
    for (i, (metric, rows)) in matrices.into_iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let passages: BTreeSet<&String> = rows.values().flat_map(|r| r.keys()).collect();
        let _ = writeln!(
            out,
            "{} on {} {}: {metric}, queries in rows, passages in columns",
            e.model,
            e.collection,
            e.split.name()
        );
        let head: Vec<&str> = ["query"].into_iter().chain(passages.iter().map(|p| p.as_str())).collect();
        let cell = |i: Option<&Estimate>| i.map_or("–".into(), |i| format!("{:.4}", i.mean));
        let line = |(q, row): (&String, &BTreeMap<_, _>)| -> Vec<String> {
            [q.clone()].into_iter().chain(passages.iter().map(|p| cell(row.get(*p)))).collect()
        };
        out += &table(&head, &rows.iter().map(line).collect::<Vec<_>>());
    }
    out
}

fn of_pool(e: &Evaluation, pool: &PoolEvaluation, args: &Args) -> String {
    let head: Vec<&str> = ["language"].into_iter().chain(e.metrics.iter().map(String::as_str)).collect();
    let row = |name: &str, values: &Values<f64>| -> Vec<String> {
        let cell = |n: &String| values.get(n).map_or("–".into(), |v| format!("{v:.4}"));
        [name.to_owned()].into_iter().chain(e.metrics.iter().map(cell)).collect()
    };
    let mut rows: Vec<Vec<String>> = pool.by_lang.iter().map(|(l, v)| row(l, v)).collect();
    rows.push(row("mean", &pool.macro_mean));
    let mut out = format!(
        "{} on {} {}, pool {}, {} queries{}\n",
        e.model,
        e.collection,
        e.split.name(),
        pool.pool,
        pool.queries,
        match e.own_language_bonus {
            bonus if bonus != 0.0 && pool.pool.mixes() => format!(", {bonus} added in the query's language"),
            _ => String::new(),
        }
    );
    out += &table(&head, &rows);
    if let Some(bias) = &pool.bias {
        out.push('\n');
        out += &of_bias(bias, args);
    }
    if args.per_query {
        let rows: Vec<Vec<String>> = pool.by_query.iter().map(|(q, v)| row(q, v)).collect();
        out += "\n";
        out += &table(&[&["query"], &head[1..]].concat(), &rows);
    }
    out
}

/// The measures that fit on a line, then the sentences.
fn of_bias(bias: &BiasReport, args: &Args) -> String {
    if bias.queries == 0 {
        return bias.sentences.join("\n") + "\n";
    }
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
    let row = |name: &str, values: &Values<Estimate>| -> Vec<String> {
        let cell = |n: &String| values.get(n).map_or("–".into(), |i| format!("{:.2}", i.mean));
        [name.to_owned()].into_iter().chain(names.iter().map(cell)).collect()
    };
    let mut rows: Vec<Vec<String>> = bias.by_lang.iter().map(|(l, v)| row(l, v)).collect();
    rows.push(row("mean", &bias.mean));
    let mut out = table(&head, &rows);
    out.push('\n');
    if bias.by_lang.len() > SENTENCES {
        let (langs, at) = (bias.by_lang.len(), args.out.as_ref());
        let at =
            at.map_or("report.html of --out DIR".into(), |d| d.join("report.html").display().to_string());
        let _ = writeln!(
            out,
            "What that means for each of the {langs} languages, in sentences: {at}, and --json"
        );
    } else {
        bias.sentences.iter().for_each(|s| {
            let _ = writeln!(out, "{s}");
        });
    }
    out
}
