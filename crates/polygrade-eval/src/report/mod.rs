//! `report.html`: a model in its pools, the heat maps of query language × passage language, and language bias in
//! numbers and sentences. `worst.html`: the queries that bias hits hardest, with what they got.

pub mod folder;
mod worst;

use crate::bias::Bias;
use crate::bias::sentences::name;
use crate::cluster::Estimate;
use crate::evaluation::{BiasReport, Evaluation, PoolEvaluation, Values};
use crate::html::{Cell, END, begin, escape, heat_map, lang_name, value};
use crate::pool::Pool;
use polygrade_data::Lang;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
pub use worst::worst;

/// The report. `worst` says whether `worst.html` lies beside it.
pub fn html(e: &Evaluation, worst: bool) -> String {
    let title = format!("{} on {}", e.model, e.collection);
    let mut out = begin(&title);
    let _ = writeln!(
        out,
        "<h1>{} on <em>{}</em></h1>\n<p class=\"lead\">{} queries, judgments of {}, {} pool{}. Intervals hold {:.0} % of \
         {} resamples of the queries; translations of a query are drawn together.{}</p>",
        escape(&e.model),
        escape(&e.collection),
        e.queries,
        e.split.name(),
        e.pools.len(),
        if e.pools.len() == 1 { "" } else { "s" },
        e.level * 100.0,
        e.resamples,
        match e.own_language_bonus {
            0.0 => String::new(),
            bonus => format!(
                " In pools of several languages, {bonus} was added to the cosine of passages in the query's own."
            ),
        }
    );
    out += &answers(e);
    if let Some((metric, _)) = e.metrics.iter().find_map(|m| e.matrix.get_key_value(m)) {
        let note = "Each query against the passages of one language: the diagonal, framed, is its own.";
        let _ = writeln!(out, "<h2>Query language × passage language</h2>\n<p class=\"note\">{note}</p>");
        out += &matrix(&format!("{metric} by query language and passage language"), &e.matrix[metric]);
        for (other, rows) in e.matrix.iter().filter(|(m, _)| *m != metric) {
            let label = format!("{other} by query language and passage language");
            let _ = writeln!(
                out,
                "<details><summary>{}</summary>{}</details>",
                escape(other),
                matrix(&label, rows)
            );
        }
    }
    for pool in e.pools.iter().filter(|p| p.bias.is_some()) {
        out += &bias_section(pool, worst);
    }
    out += "<h2>Metrics in each pool</h2>\n";
    e.pools.iter().filter(|p| !is_cell(e, p)).for_each(|pool| out += &metrics(e, pool));
    if e.pools.iter().any(|p| is_cell(e, p)) {
        out += "<details><summary>Pools of one language</summary>\n";
        e.pools.iter().filter(|p| is_cell(e, p)).for_each(|pool| out += &metrics(e, pool));
        out += "</details>\n";
    }
    out + "<p class=\"note\">The formulas are in docs/guide-bias.md and docs/metrics.md; every number is in \
           <code>evaluation.json</code>, the rankings in <code>runs/</code>.</p>\n"
        + END
}

/// Whether the heat maps show the pool already.
fn is_cell(e: &Evaluation, pool: &PoolEvaluation) -> bool {
    !e.matrix.is_empty() && !pool.pool.mixes() && pool.pool != Pool::Same
}

/// The first thing to know of each pool.
fn answers(e: &Evaluation) -> String {
    let mut out = String::from("<div class=\"answers\">\n");
    let Some(metric) = e.metrics.first() else { return String::new() };
    for pool in e.pools.iter().filter(|p| !is_cell(e, p)) {
        let Some(i) = pool.intervals.get("mean").and_then(|v| v.get(metric)) else { continue };
        let bias = pool.bias.as_ref().and_then(|b| {
            let get = |m: Bias| b.mean.get(&m.to_string());
            Some(format!(
                "<p>All relevant passages in the top {}: {:.0} %.<br>The first is in the query's language: {:.0} %.</p>",
                b.k,
                get(Bias::Complete(b.k))?.mean,
                get(Bias::PreferenceOwn)?.mean
            ))
        });
        let _ = writeln!(
            out,
            "<section class=\"card\"><h3>{}</h3><p class=\"big\">{}</p><p>{}{}, {} queries, {}.</p>{}</section>",
            escape(&pool.pool.to_string()),
            value(i.mean),
            escape(metric),
            i.range(value),
            pool.queries,
            escape(&pool.description),
            bias.unwrap_or_default()
        );
    }
    if let Some(cross) = e.matrix.get(metric).and_then(crossing) {
        let _ = writeln!(
            out,
            "<section class=\"card\"><h3>mono-cross</h3><p class=\"big\">{}</p><p>{}, mean over the pairs of a query language \
             and another passage language.</p></section>",
            value(cross),
            escape(metric)
        );
    }
    out + "</div>\n"
}

/// The mean off the diagonal.
fn crossing(rows: &BTreeMap<String, BTreeMap<String, Estimate>>) -> Option<f64> {
    let cells =
        rows.iter().flat_map(|(q, row)| row.iter().filter(move |(p, _)| *p != q).map(|(_, i)| i.mean));
    let (sum, n) = cells.fold((0.0, 0), |(s, n), v| (s + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// Rows are query languages, columns passage languages.
fn matrix(label: &str, rows: &BTreeMap<String, BTreeMap<String, Estimate>>) -> String {
    let queries: Vec<&String> = rows.keys().collect();
    let passages: Vec<&String> =
        rows.values().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>().into_iter().collect();
    let most = rows.values().flat_map(BTreeMap::values).map(|i| i.mean).fold(1e-9, f64::max);
    let names: Vec<String> = queries.iter().map(|q| lang_name(q)).collect();
    let columns: Vec<String> = passages.iter().map(|p| (*p).clone()).collect();
    let svg = heat_map(label, &names, &columns, |i, j| {
        let interval = rows[queries[i]].get(passages[j])?;
        let title = format!(
            "{} queries, {} passages: {}{}",
            name(queries[i]),
            name(passages[j]),
            value(interval.mean),
            interval.range(value)
        );
        let depth = interval.mean / most;
        Some(Cell { depth, text: value(interval.mean), title, framed: queries[i] == passages[j] })
    });
    format!("<div class=\"wide\">{svg}</div>\n")
}

fn bias_section(pool: &PoolEvaluation, worst: bool) -> String {
    let Some(bias) = &pool.bias else { return String::new() };
    let named = escape(&pool.pool.to_string());
    let mut out = format!(
        "<h2>Language bias in {named}</h2>\n<p class=\"note\">{}: {} queries with a passage of grade {} or more.{}</p>\n",
        escape(&capital(&pool.description)),
        bias.queries,
        bias.rel,
        if worst { " <a href=\"worst.html\">See the worst queries</a>." } else { "" }
    );
    out += &sentences(bias);
    if let Some(rows) = one_target(bias) {
        out += "<h3>Could it be found, were it the only right answer?</h3>\n<p class=\"note\">Reciprocal rank of the \
                relevant passage in one language, with its translations taken out of this pool and all else left in. Even \
                rows mean that language does not decide.</p>\n";
        out +=
            &matrix("reciprocal rank of the one relevant passage, by query language and its language", &rows);
    }
    out + &bias_table(bias)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| c.to_uppercase().chain(chars).collect())
}

/// Sentences by query language: `Chinese queries: …`.
fn sentences(bias: &BiasReport) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for sentence in &bias.sentences {
        let (who, what) = sentence.split_once(": ").unwrap_or(("", sentence));
        match groups.last_mut() {
            Some((last, list)) if *last == who => list.push(capital(what)),
            _ => groups.push((who, vec![capital(what)])),
        }
    }
    let mut out = String::from("<div class=\"answers\">\n");
    for (who, list) in groups {
        out += "<section class=\"card\">";
        if !who.is_empty() {
            let _ = write!(out, "<h3>{}</h3>", escape(who));
        }
        list.iter().for_each(|s| {
            let _ = write!(out, "<p>{}</p>", escape(s));
        });
        out += "</section>\n";
    }
    out + "</div>\n"
}

fn one_target(bias: &BiasReport) -> Option<BTreeMap<String, BTreeMap<String, Estimate>>> {
    let rows: BTreeMap<_, BTreeMap<_, _>> = bias
        .by_lang
        .iter()
        .map(|(lang, values)| {
            let cell = |(m, i): (&String, &Estimate)| {
                let passages = m.strip_prefix("RR1(")?.strip_suffix(')')?;
                Some((passages.to_owned(), *i))
            };
            (lang.clone(), values.iter().filter_map(cell).collect())
        })
        .collect();
    rows.values().any(|r: &BTreeMap<String, Estimate>| r.len() > 1).then_some(rows)
}

/// Measures × query languages, with intervals.
fn bias_table(bias: &BiasReport) -> String {
    let langs: BTreeSet<Lang> =
        bias.mean.keys().filter_map(|m| Lang::parse(m.strip_prefix("LPR(")?.strip_suffix(')')?)).collect();
    let grade = |m: &String| m.strip_prefix("PEER(")?.split(')').next()?.parse().ok();
    let order = Bias::all(&langs, &bias.mean.keys().filter_map(grade).collect(), bias.k);
    let mut out = String::from(
        "<details><summary>All measures, with intervals</summary><div class=\"wide\"><table><thead><tr><th>measure</th><th>mean</th>",
    );
    bias.by_lang.keys().for_each(|l| {
        let _ = write!(out, "<th title=\"{}\">{}</th>", escape(&lang_name(l)), escape(l));
    });
    out += "</tr></thead><tbody>\n";
    let cell = |values: &Values<Estimate>, m: &str| match values.get(m) {
        Some(i) => spread(i, |x| format!("{x:.2}")),
        None => "<td></td>".into(),
    };
    for measure in &order {
        let name = measure.to_string();
        if !bias.mean.contains_key(&name) {
            continue;
        }
        let better = match measure.lower_is_better() {
            Some(true) => "<small>lower is better</small>",
            Some(false) => "<small>higher is better</small>",
            None => "",
        };
        let _ = write!(out, "<tr><td>{}{better}</td>{}", escape(&name), cell(&bias.mean, &name));
        bias.by_lang.values().for_each(|v| out += &cell(v, &name));
        out += "</tr>\n";
    }
    out + "</tbody></table></div></details>\n"
}

/// A cell with a mean, and its interval in small letters where there is one.
fn spread(i: &Estimate, number: impl Fn(f64) -> String) -> String {
    let ends = i
        .ends()
        .map_or(String::new(), |(low, high)| format!("<small>{}–{}</small>", number(low), number(high)));
    format!("<td>{}{ends}</td>", number(i.mean))
}

fn metrics(e: &Evaluation, pool: &PoolEvaluation) -> String {
    let mut out = format!(
        "<h3>{}</h3>\n<p class=\"note\">{}</p>\n<div class=\"wide\"><table><thead><tr><th>query language</th><th>queries</th><th>pool</th>",
        escape(&pool.pool.to_string()),
        escape(&capital(&pool.description))
    );
    e.metrics.iter().for_each(|m| {
        let _ = write!(out, "<th>{}</th>", escape(m));
    });
    out += "</tr></thead><tbody>\n";
    let cells = |values: &Values<Estimate>| -> String {
        let cell = |m: &String| match values.get(m) {
            Some(i) => spread(i, value),
            None => "<td></td>".into(),
        };
        e.metrics.iter().map(cell).collect()
    };
    for (lang, queries) in &pool.queries_by_lang {
        let size: usize = pool.passages.get(lang).map_or(0, |p| p.values().sum());
        let values = pool.intervals.get(lang).map(&cells).unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td>{queries}</td><td>{size}</td>{values}</tr>",
            escape(&lang_name(lang))
        );
    }
    let all = pool.intervals.get("mean").map(&cells).unwrap_or_default();
    let _ = writeln!(out, "<tr class=\"all\"><td>mean</td><td>{}</td><td></td>{all}</tr>", pool.queries);
    out + "</tbody></table></div>\n"
}
