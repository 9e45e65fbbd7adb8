//! The folder of an evaluation: all figures, each pool and its run, the values of queries, and the pages.
//!
//! | file | holds |
//! |---|---|
//! | `evaluation.json` | all figures |
//! | `pools.json` | the pools by name, with the collection's fingerprint |
//! | `runs/POOL.trec` | each pool's ranking |
//! | `queries/POOL.tsv` | the values of each query |
//! | `report.html`, `worst.html` | the pages |

use super::{html, worst};
use crate::evaluation::{Evaluation, PoolEvaluation, Values};
use crate::measure::Measure;
use crate::pool::Pool;
use crate::rankings::Rankings;
use crate::run;
use polygrade_data::{Collection, Error, Graded, Lang, Result, Split, io};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What a folder is made from. `rankings` are those of the evaluation's pools, in their order.
pub struct Folder<'a> {
    /// The collection that was ranked.
    pub collection: &'a Collection,
    /// Its judgments.
    pub graded: &'a Graded,
    /// One for each pool.
    pub rankings: &'a [Rankings],
    /// Passages of each ranking in `runs/`.
    pub depth: usize,
    /// Queries of each language and pool in `worst.html`; with 0 there is no such page.
    pub worst: usize,
}

/// Writes rankings as a run file, `depth` passages of each.
///
/// # Errors
/// When the file cannot be written.
pub fn write_run(path: &Path, collection: &Collection, rankings: &Rankings, depth: usize) -> Result<()> {
    let id = |p: u32| collection.passages[p as usize].id.as_str();
    let rows = rankings.queries.iter().zip(&rankings.hits).map(|(&q, hits)| {
        let ranking = hits.iter().take(depth).map(|h| (id(h.passage), h.score)).collect();
        (collection.queries[q as usize].id.as_str(), ranking)
    });
    run::write(path, "polygrade", rows)
}

/// The pools of an evaluation, as they are saved with it: enough to make them again, and to see that they are the same.
#[derive(Serialize)]
struct SavedPools<'a> {
    collection: &'a str,
    /// Of the collection's texts and judgments.
    fingerprint: String,
    split: Split,
    pools: Vec<SavedPool<'a>>,
}

#[derive(Serialize)]
struct SavedPool<'a> {
    name: &'a Pool,
    description: &'a str,
    run: String,
    queries: &'a BTreeMap<String, usize>,
    passages: &'a BTreeMap<String, BTreeMap<String, usize>>,
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(e.to_string()))
}

/// Writes everything but the values of queries ([`write_queries`]) into a folder that is there.
///
/// # Errors
/// When a file cannot be written.
pub fn write(dir: &Path, e: &Evaluation, folder: &Folder<'_>) -> Result<()> {
    let Folder { collection, graded, rankings, .. } = *folder;
    io::write(&dir.join("evaluation.json"), &json(e)?)?;
    let run_of = |p: &PoolEvaluation| format!("runs/{}.trec", p.pool.file_name());
    let pools = e.pools.iter().map(|p| SavedPool {
        name: &p.pool,
        description: &p.description,
        run: run_of(p),
        queries: &p.queries_by_lang,
        passages: &p.passages,
    });
    let saved = SavedPools {
        collection: &e.collection,
        fingerprint: format!("{:016x}", collection.fingerprint()),
        split: e.split,
        pools: pools.collect(),
    };
    io::write(&dir.join("pools.json"), &json(&saved)?)?;
    for (pool, rankings) in e.pools.iter().zip(rankings) {
        write_run(&dir.join(run_of(pool)), collection, rankings, folder.depth)?;
    }
    let biased: Vec<(&Pool, &Rankings)> =
        e.pools.iter().zip(rankings).filter(|(p, _)| p.bias.is_some()).map(|(p, r)| (&p.pool, r)).collect();
    let has_worst = !biased.is_empty() && folder.worst > 0;
    if has_worst {
        let rel = e.pools.iter().find_map(|p| p.bias.as_ref()).map_or(1.0, |b| b.rel);
        let page = worst(
            &format!("{} on {}", e.model, e.collection),
            collection,
            graded,
            &biased,
            rel,
            folder.worst,
        );
        io::write(&dir.join("worst.html"), page.as_bytes())?;
    }
    io::write(&dir.join("report.html"), html(e, has_worst).as_bytes())
}

/// Writes `queries/POOL.tsv`: one line a query, one column a measure; empty where it is undefined. Takes what
/// [`PoolEvaluation::new`] gave, which has the values of queries.
///
/// # Errors
/// When a file cannot be written.
pub fn write_queries(
    dir: &Path,
    collection: &Collection,
    pools: &[PoolEvaluation],
    measures: &[Measure],
) -> Result<()> {
    let langs: BTreeMap<&str, &Lang> = collection.queries.iter().map(|q| (q.id.as_str(), &q.lang)).collect();
    for pool in pools {
        let none = Values::new();
        let columns: Vec<String> = measures.iter().map(Measure::to_string).collect();
        let biased: Vec<&String> = pool.bias.iter().flat_map(|b| b.mean.keys()).collect();
        let mut out = String::from("query\tlang");
        columns.iter().chain(biased.iter().copied()).for_each(|c| {
            let _ = write!(out, "\t{c}");
        });
        for (query, values) in &pool.by_query {
            let bias = pool.bias.as_ref().and_then(|b| b.by_query.get(query)).unwrap_or(&none);
            let _ = write!(out, "\n{query}\t{}", langs.get(query.as_str()).map_or("und", |l| l.as_str()));
            let cells = columns.iter().map(|c| values.get(c)).chain(biased.iter().map(|c| bias.get(*c)));
            for cell in cells {
                out.push('\t');
                if let Some(v) = cell {
                    let _ = write!(out, "{v}");
                }
            }
        }
        out.push('\n');
        io::write(&dir.join(format!("queries/{}.tsv", pool.pool.file_name())), out.as_bytes())?;
    }
    Ok(())
}
