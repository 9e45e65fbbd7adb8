//! The queries that language bias hits hardest, with their top passages, so that a person sees it.

use crate::bias::{PEER_DEPTH, View};
use crate::evaluation::{sizes, views};
use crate::html::{END, begin, escape, lang_name};
use crate::pool::Pool;
use crate::rankings::Rankings;
use polygrade_data::{Collection, Graded, Index};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Passages shown from the top of a ranking.
const SHOWN: usize = 5;
/// Characters of a passage.
const CHARS: usize = 240;

/// One query in a pool, and how badly it fares.
struct Case<'a> {
    query: Index,
    at: usize,
    view: &'a View<'a>,
    max: usize,
    /// Irrelevant passages in other languages above the first relevant one in the query's own.
    foreign: usize,
}

/// The page: for each pool of several languages and each query language, the `count` queries whose worst-placed relevant
/// passage is deepest; among equals, those with more irrelevant passages in other languages above their own.
pub fn worst(
    title: &str,
    collection: &Collection,
    graded: &Graded,
    pools: &[(&Pool, &Rankings)],
    rel: f32,
    count: usize,
) -> String {
    let mut out = begin(&format!("Worst queries of {title}"));
    let _ = writeln!(
        out,
        "<h1>The worst queries of <em>{}</em></h1>\n<p class=\"lead\">For each query language the {count} queries whose \
         relevant passages are furthest down. <b>✓</b> marks what is relevant (grade {rel} or more); a filled tag is a passage \
         in the query's own language, an outlined one is in another. Scores are those of the ranking.</p>",
        escape(title)
    );
    for (pool, rankings) in pools {
        let sizes = sizes(collection, pool, &rankings.queries);
        let views = views(collection, graded, &sizes, rankings, rel);
        let mut by_lang: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
        for (at, (view, &query)) in views.iter().zip(&rankings.queries).enumerate() {
            let Some(max) = view.max_at_r().filter(|_| view.sizes.len() > 1) else { continue };
            by_lang.entry(view.own.as_str()).or_default().push(Case {
                query,
                at,
                view,
                max,
                foreign: foreign(view),
            });
        }
        if by_lang.is_empty() {
            continue;
        }
        let name = pool.to_string();
        let _ = writeln!(
            out,
            "<h2>{}</h2>\n<p class=\"note\">In the pool: {}.</p>",
            escape(&name),
            escape(&pool.describe())
        );
        for (lang, mut cases) in by_lang {
            cases.sort_by_key(|c| (std::cmp::Reverse((c.max, c.foreign)), c.query));
            let _ = writeln!(out, "<h3>{} queries</h3>", escape(&lang_name(lang)));
            cases.iter().take(count).for_each(|c| out += &case(collection, rankings, c));
        }
    }
    out + END
}

fn foreign(view: &View) -> usize {
    let own = view.best_ranks().get(view.own).copied().unwrap_or(usize::MAX);
    // As deep as the ranking always is, whatever the metrics asked for.
    let top = view.top.iter().take(PEER_DEPTH);
    top.take_while(|s| s.rank < own).filter(|s| s.lang != view.own && s.grade < view.rel).count()
}

fn case(collection: &Collection, rankings: &Rankings, case: &Case) -> String {
    let query = &collection.queries[case.query as usize];
    let lost = case.view.graded.iter().any(|s| s.grade >= case.view.rel && !s.ranked);
    let mut out = format!(
        "<section class=\"card query\"><p class=\"asked\" lang=\"{}\" dir=\"auto\">{}</p><p class=\"note\">{}: the last relevant \
         passage {}.</p>\n<ol>\n",
        escape(query.lang.as_str()),
        escape(&query.text),
        escape(&query.id),
        if lost {
            "is not ranked".to_owned()
        } else {
            format!("stands at rank {} of {}", case.max, case.view.pool_size())
        }
    );
    let hits = &rankings.hits[case.at];
    let placed = &rankings.placed[case.at];
    let grades: BTreeMap<Index, f32> =
        placed.iter().zip(&case.view.graded).map(|(p, s)| (p.passage, s.grade)).collect();
    // Rank, none of what is not ranked; passage; score.
    let mut rows: Vec<(Option<usize>, Index, Option<f32>)> =
        hits.iter().take(SHOWN).enumerate().map(|(i, h)| (Some(i + 1), h.passage, Some(h.score))).collect();
    for (placed, seen) in placed.iter().zip(&case.view.graded) {
        if seen.grade >= case.view.rel && !rows.iter().any(|r| r.1 == placed.passage) {
            let score = hits.get(placed.rank - 1).filter(|h| h.passage == placed.passage).map(|h| h.score);
            rows.push((placed.ranked.then_some(placed.rank), placed.passage, score));
        }
    }
    rows.sort_by_key(|r| (r.0.unwrap_or(usize::MAX), r.1));
    let mut before = 0;
    for (rank, passage, score) in rows {
        let p = &collection.passages[passage as usize];
        if let Some(rank) = rank {
            if rank > before + 1 {
                let _ = writeln!(out, "<li class=\"gap\">… {} more …</li>", rank - before - 1);
            }
            before = rank;
        }
        let grade = grades.get(&passage).copied().unwrap_or(0.0);
        let relevant = grade >= case.view.rel;
        let own = p.lang == query.lang;
        let _ = writeln!(
            out,
            "<li{}{}>{}<span class=\"tag{}\">{}</span>{}{}<span class=\"said\" lang=\"{}\" dir=\"auto\">{}</span></li>",
            rank.map_or(" style=\"list-style:none\"".to_owned(), |r| format!(" value=\"{r}\"")),
            if relevant { " class=\"right\"" } else { "" },
            if rank.is_none() { "<small>not ranked</small> " } else { "" },
            if own { " own" } else { "" },
            escape(p.lang.as_str()),
            if relevant {
                " <b title=\"relevant\">✓</b>"
            } else if grade > 0.0 {
                " <small>related</small>"
            } else {
                ""
            },
            score.map_or(String::new(), |s| format!(" <small>{s:.3}</small> ")),
            escape(p.lang.as_str()),
            escape(&cut(&p.full_text()))
        );
    }
    out + "</ol></section>\n"
}

/// The beginning of a text, by characters.
fn cut(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(CHARS).collect();
    if chars.next().is_some() { head + "…" } else { head }
}
