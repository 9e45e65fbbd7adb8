//! `report.html`: one file, nothing fetched, readable on a phone, in light and dark, and on paper.
//!
//! The answer comes first, then what it rests on, then how it was made.

mod chart;
mod search;
mod study;

use crate::choose::Verdict;
use crate::outcome::{ALL, Calibration, Cell, TestRow, test_of};
use crate::plan::Method;
use chart::range;
use polygrade_eval::html::{escape, signed, value};
use polygrade_train::Scenario;
use std::fmt::Write;

/// The report.
pub fn html(c: &Calibration) -> String {
    let name = escape(&c.collection);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Where relevance begins in {name}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n\
         <h1>Where relevance begins in <em>{name}</em></h1>\n\
         <p class=\"lead\">Grades 0–{}, {} methods, up to {} seeds each, compared by {} on dev. {}</p>\n",
        polygrade_eval::html::STYLE,
        c.max_grade,
        c.grid.len(),
        c.seeds.len(),
        c.metric,
        "A threshold τ makes every grade ≥ τ a positive in training."
    );
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|s| c.overall(*s).is_some()).collect();
    out += "<div class=\"answers\">\n";
    for &s in &scenarios {
        out += &answer(c, s);
    }
    out += "</div>\n";
    for &s in &scenarios {
        out += &section(c, s);
    }
    out += &study::studies(c);
    out += &made(c);
    out + "</main>\n</body>\n</html>\n"
}

fn title(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Monolingual => "Monolingual: one model a language",
        Scenario::Mixture => "Mixture: one model of all languages",
        Scenario::CrossLingual => "Cross-lingual: queries to passages in other languages",
    }
}

fn list(policies: &[Method]) -> String {
    let texts: Vec<String> = policies.iter().map(|m| m.title()).collect();
    match texts.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

/// The card at the top of the page.
fn answer(c: &Calibration, scenario: Scenario) -> String {
    let Some(all) = c.overall(scenario) else { return String::new() };
    let cells: Vec<&Cell> = c.parts(scenario).collect();
    let mut out = format!("<section class=\"card\"><h3>{}</h3>\n", title(scenario));
    let mut chosen: Vec<(Method, Vec<String>)> = Vec::new();
    for cell in &cells {
        match chosen.iter_mut().find(|(p, _)| *p == cell.tau_chosen) {
            Some((_, langs)) => langs.push(cell.name()),
            None => chosen.push((cell.tau_chosen, vec![cell.name()])),
        }
    }
    match chosen.as_slice() {
        [(policy, _)] => {
            let _ = writeln!(out, "<p class=\"big\">{}</p>", policy.title());
        }
        many => {
            let parts: Vec<String> = many
                .iter()
                .map(|(p, langs)| format!("{} <small>({})</small>", p.title(), langs.join(", ")))
                .collect();
            let _ = writeln!(out, "<p class=\"big\">{}</p>", parts.join("<br>"));
        }
    }
    let how_sure = match (&all.runner_up, all.tau_equivalent.len()) {
        (None, _) => "There was nothing to compare it with.".to_owned(),
        (Some(second), 1) => format!(
            "Clear for all languages together: {} over {}, interval [{}, {}].",
            signed(all.difference),
            second.title(),
            signed(all.ci[0]),
            signed(all.ci[1])
        ),
        (Some(second), _) => format!(
            "{}: {} {} (best {} over {}, interval [{}, {}]).",
            if all.verdict == Verdict::Equivalent { "Equivalent" } else { "Not settled" },
            list(&all.tau_equivalent),
            match all.verdict {
                Verdict::Equivalent => format!("differ by less than {}", value(c.search.margin)),
                _ => "cannot be told apart".into(),
            },
            signed(all.difference),
            second.title(),
            signed(all.ci[0]),
            signed(all.ci[1]),
        ),
    };
    let _ = writeln!(out, "<p>{how_sure}</p>");
    let clear: Vec<String> = cells
        .iter()
        .filter(|x| x.tau_equivalent.len() == 1 && x.runner_up.is_some())
        .map(|x| format!("{}: {}", cell_name(x), x.tau_best.title()))
        .collect();
    let what = if cells.iter().any(|x| x.is_pair()) { "pair of languages" } else { "language" };
    let alone = match clear.len() {
        0 => format!("No {what} settles it alone."),
        n if n == cells.len() => format!("Every {what} settles it alone."),
        _ => format!("Settled by their own queries: {}.", clear.join("; ")),
    };
    let _ = writeln!(out, "<p>{alone}</p>");
    out += &test_sentence(c, scenario);
    out += &search::prior(c, scenario);
    out += &search::per_language(c, scenario);
    out + "</section>\n"
}

/// What the choice is worth on test, and a caution where training is worth nothing.
fn test_sentence(c: &Calibration, scenario: Scenario) -> String {
    let Some(all) = c.overall(scenario) else { return String::new() };
    let rows = test_of(c, all);
    let (Some(calibrated), Some(untrained)) = (rows.get("calibrated"), rows.get("untrained")) else {
        return String::new();
    };
    let difference = untrained.calibrated_minus_this;
    let mut out = format!(
        "<p>On test {}; untrained {}, BM25 {}.</p>\n",
        value(calibrated.mean),
        value(untrained.mean),
        rows.get("bm25").map_or("–".into(), |r| value(r.mean))
    );
    if let Some(d) = difference.filter(|d| d.low <= 0.0) {
        let _ = writeln!(
            out,
            "<p class=\"caution\">Training is worth {} {} to this encoder here, which may be nothing, so its \
             threshold says little.</p>",
            signed(d.mean),
            range(&d)
        );
    }
    if let Some(bm25) = rows.get("bm25").filter(|b| b.calibrated_minus_this.is_some_and(|d| d.high < 0.0)) {
        let _ = writeln!(
            out,
            "<p class=\"caution\">BM25 is better by {}: this encoder is weaker than matching words.</p>",
            value(bm25.mean - calibrated.mean)
        );
    }
    out
}

fn section(c: &Calibration, scenario: Scenario) -> String {
    let Some(all) = c.overall(scenario) else { return String::new() };
    let cells: Vec<&Cell> = c.parts(scenario).collect();
    let mut out = format!("<h2>{}</h2>\n", title(scenario));
    let pool = match scenario {
        Scenario::CrossLingual if !c.pairs.is_empty() => {
            "Each pair of languages has a model of its own; each query is ranked against the passages of the pair's other language."
        }
        Scenario::CrossLingual => {
            "Each query is ranked against each other language's passages; its value is the mean."
        }
        _ => "Each query is ranked against all passages in its own language.",
    };
    let _ = writeln!(
        out,
        "<h3>Threshold and effectiveness, by language of the query</h3>\n<p class=\"note\">{pool} \
        Large dots: means over seeds and {} queries or fewer a language (of one that left a race, the best less the difference when it left); ring: the highest; small dots: single seeds; whiskers: \
        {:.0} % interval of the paired difference to the highest. Dashed: the encoder before training, where it is near. All panels have the same scale, each its own range. Top right: the thresholds that cannot be told from the highest; open where none is ruled out.</p>",
        cells.iter().map(|x| x.queries).max().unwrap_or(0),
        c.level * 100.0
    );
    let panels: Vec<&Cell> =
        if cells.len() > 1 { [&[all], cells.as_slice()].concat() } else { cells.clone() };
    let span = chart::shared_span(&panels);
    out += "<div class=\"panels\">\n";
    for cell in &panels {
        let undecided = cell.tau_equivalent.len() == c.grid.len() && c.grid.len() > 1;
        let sure = if undecided { "open".into() } else { list(&cell.tau_equivalent) };
        let _ = writeln!(
            out,
            "<figure class=\"panel\"><figcaption><b>{}</b><span>{}</span></figcaption>{}</figure>",
            escape(&cell_name(cell)),
            escape(&sure),
            chart::curve(cell, span)
        );
    }
    out += "</div>\n";

    let _ = writeln!(
        out,
        "<h3>Languages and thresholds</h3>\n<p class=\"note\">nDCG@10 on dev; the darker, the nearer to the language's best. \
         ★ highest, ≈ cannot be told from it ({:.0} %, corrected for the number of rivals), framed: chosen. A language takes the \
         threshold that is best for all together unless its own queries rule that out.</p>\n<div class=\"wide\">{}</div>",
        c.level * 100.0,
        chart::heat(&panels, cell_name)
    );

    out += &gains(&panels, c.level);
    let _ = writeln!(
        out,
        "<h3>Class balance in training</h3>\n<p class=\"note\"><span class=\"key\"><i style=\"background:var(--accent)\"></i>positives</span>\
         <span class=\"key\"><i style=\"background:var(--dropped)\"></i>left out</span><span class=\"key\"><i style=\"background:var(--negative)\"></i>negatives</span> \
         {} judgments of all languages{}.</p>\n<div class=\"wide\">{}</div>",
        all.policies.first().map_or(0, |p| p.positives + p.negatives + p.dropped),
        if scenario == Scenario::CrossLingual { ", carried over to translations" } else { "" },
        chart::balance(all)
    );
    let lost: Vec<String> = all
        .policies
        .iter()
        .filter(|p| p.queries_without_positive > 0)
        .map(|p| format!("{} under {}", p.queries_without_positive, p.policy.title()))
        .collect();
    if !lost.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">Queries left without a positive: {}.</p>", lost.join(", "));
    }
    out += &search::races(c, scenario);
    out + &test_part(c, scenario)
}

/// What training under each method adds to the encoder that it starts from.
fn gains(panels: &[&Cell], level: f64) -> String {
    let Some(first) = panels.first().filter(|c| c.policies.iter().any(|p| p.minus_untrained.is_some()))
    else {
        return String::new();
    };
    let mut out = format!(
        "<h3>What training adds</h3>\n<p class=\"note\">nDCG@10 on dev under each method, as far as it was trained, less that of the encoder before \
         training, with {:.0} % intervals; in bold where the interval is above 0, grey where it holds 0.</p>\n\
         <div class=\"wide\"><table><thead><tr><th>queries in</th><th>untrained</th>",
        level * 100.0
    );
    for p in &first.policies {
        let _ = write!(out, "<th>{}</th>", escape(&p.policy.title()));
    }
    out += "</tr></thead><tbody>\n";
    for cell in panels {
        let class = if cell.query_lang == ALL { " class=\"all\"" } else { "" };
        let start = chart::untrained(cell).map_or("–".into(), value);
        let _ = write!(out, "<tr{class}><td>{}</td><td>{start}</td>", escape(&cell_name(cell)));
        for p in &cell.policies {
            let _ = match &p.minus_untrained {
                None => write!(out, "<td>–</td>"),
                Some(d) => {
                    let class = match (d.low > 0.0, d.high < 0.0) {
                        (true, _) => " class=\"best\"",
                        (_, true) => "",
                        _ => " class=\"faint\"",
                    };
                    write!(out, "<td{class}>{}<small>{}</small></td>", signed(d.mean), range(d))
                }
            };
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div>\n"
}

fn test_part(c: &Calibration, scenario: Scenario) -> String {
    let Some(overall) = c.overall(scenario) else { return String::new() };
    let systems: Vec<&str> = c
        .test
        .iter()
        .filter(|r| r.scenario == scenario && r.query_lang == ALL)
        .map(|r| r.system.as_str())
        .collect();
    let all = test_of(c, overall);
    let rows: Vec<(String, f64, [f64; 2], String)> = systems
        .iter()
        .filter_map(|s| all.get(s))
        .map(|r| (r.system.replace("tau=", "τ = "), r.mean, r.ci, describe(r)))
        .collect();
    let mut out = format!(
        "<h3>On test, once</h3>\n<p class=\"note\">Mean over languages with {:.0} % intervals. The choice was made on dev alone.</p>\n\
         <div class=\"wide\">{}</div>\n<div class=\"wide\"><table><thead><tr><th>queries in</th>",
        c.level * 100.0,
        chart::forest(&rows)
    );
    for s in &systems {
        let _ = write!(out, "<th>{}</th>", escape(&s.replace("tau=", "τ = ")));
    }
    out += "<th>calibrated − untrained</th></tr></thead><tbody>\n";
    for cell in c.parts(scenario).chain([overall]) {
        let rows = test_of(c, cell);
        let highest = rows.values().map(|r| r.mean).fold(f64::NEG_INFINITY, f64::max);
        let class = if cell.query_lang == ALL { " class=\"all\"" } else { "" };
        let _ = write!(out, "<tr{class}><td>{}</td>", escape(&cell_name(cell)));
        for s in &systems {
            let Some(r) = rows.get(s) else { continue };
            let class = if r.mean == highest { " class=\"best\"" } else { "" };
            let _ = write!(
                out,
                "<td{class} title=\"{}\">{}<small>{}–{}</small></td>",
                escape(&describe(r)),
                value(r.mean),
                value(r.ci[0]),
                value(r.ci[1])
            );
        }
        let d = rows.get("untrained").and_then(|r| r.calibrated_minus_this);
        let _ = writeln!(
            out,
            "<td>{}</td></tr>",
            d.map_or("–".into(), |d| format!("{}<small>{}</small>", signed(d.mean), range(&d)))
        );
    }
    out + "</tbody></table></div>\n"
}

fn describe(r: &TestRow) -> String {
    let versus = r
        .calibrated_minus_this
        .map_or(String::new(), |d| format!("; calibrated is {} {} better", signed(d.mean), range(&d)));
    format!(
        "{}: {} [{}, {}], {} queries{versus}",
        r.system,
        value(r.mean),
        value(r.ci[0]),
        value(r.ci[1]),
        r.queries
    )
}

fn made(c: &Calibration) -> String {
    let m = &c.made;
    let seeds: Vec<String> = c.seeds.iter().map(u64::to_string).collect();
    let minutes =
        if m.seconds < 90.0 { format!("{:.0} s", m.seconds) } else { format!("{:.1} min", m.seconds / 60.0) };
    let row = |k: &str, v: &str| format!("<dt>{k}</dt><dd>{}</dd>\n", escape(v));
    let mut out = "<h2>How it was made</h2>\n<dl>\n".to_owned();
    let _ = writeln!(out, "<dt>command</dt><dd><code>{}</code></dd>", escape(&m.command));
    out += &row("polygrade", &m.version);
    out += &row(
        "date and time taken",
        &format!("{}, {minutes} on {} threads ({})", m.date, m.threads, m.machine),
    );
    out += &row("seeds", &seeds.join(", "));
    out += &row("training starts from", &m.encoder);
    out += &row("settings", &m.settings);
    out += &row("collection", &format!("{}, licence {}", c.collection, c.licence));
    out += "</dl>\n<p class=\"note\">Intervals of means, and all on test, are percentile bootstraps over queries and seeds together; translations of one \
            query are resampled together. Differences on dev have Student intervals with the variance of queries and that of seeds. Unjudged passages count as not relevant. Every number is in <code>calibration.json</code>, the chosen \
            policies in <code>calibrated.toml</code>, for <code>polygrade train --labels</code>.</p>\n";
    out
}

/// Whose queries a cell is of, in words.
fn cell_name(cell: &Cell) -> String {
    if cell.is_pair() { cell.name() } else { lang_name(&cell.query_lang) }
}

/// A language's English name with its tag, where the name is known.
fn lang_name(tag: &str) -> String {
    if tag == ALL { "all languages".into() } else { polygrade_eval::html::lang_name(tag) }
}
