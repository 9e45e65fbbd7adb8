//! The comparison for a person: tables, and a sentence for each run and metric.

use crate::ui::table;
use polygrade_eval::compare::{Cell, Comparison, Test, Versus};
use std::fmt::Write;

pub(super) fn text(c: &Comparison, per_topic: bool) -> String {
    let o = &c.options;
    let mut out = format!("baseline {} · {} at {}", c.baseline, o.test.name(), o.alpha);
    let over = |n: usize| format!(" · p adjusted by {} over {}", o.correction.name(), count(n, "comparison"));
    match c.families {
        _ if o.correction.is_none() => out += " · p not adjusted",
        [all, 0] => out += &over(all),
        [all, by_lang] => {
            out += &over(all);
            let _ = write!(out, ", by language over {by_lang}");
        }
    }
    out.push('\n');
    for measure in &c.measures {
        let Some(all) = c.overall(measure) else { continue };
        let scope = if c.langs.is_empty() { "" } else { ", all languages" };
        let _ =
            write!(out, "\n{measure}{scope}, {}\n{}", count(all.topics, "topic"), versus_table(c, &[all]));
        for run in &all.runs {
            let _ = writeln!(out, "{}", sentence(c, all, run));
        }
        let by_lang: Vec<&Cell> = c.by_lang(measure).collect();
        if !by_lang.is_empty() {
            let _ = write!(out, "\n{measure} by language\n{}", versus_table(c, &by_lang));
        }
        for cell in [all].into_iter().chain(by_lang).filter(|c| !c.pairs.is_empty()) {
            let lang = cell.lang.as_ref().map_or(String::new(), |l| format!(", {l}"));
            let _ =
                write!(out, "\n{measure}{lang}, all pairs (randomised Tukey HSD)\n{}", pairs_table(c, cell));
        }
        if per_topic {
            let _ = write!(out, "\n{measure} by topic\n{}", topics_table(c, measure));
        }
    }
    let marks =
        c.cells.iter().any(|c| c.runs.iter().any(|r| r.significant) || c.pairs.iter().any(|p| p.significant));
    if marks {
        let _ = write!(out, "\n† adjusted p ≤ {}, ‡ ≤ {}\n", o.alpha, o.alpha / 5.0);
    }
    out
}

/// The mark of an adjusted p: † at alpha, ‡ at a fifth of it.
pub(super) fn mark(c: &Comparison, p: f64) -> &'static str {
    match p {
        p if p <= c.options.alpha / 5.0 => "‡",
        p if p <= c.options.alpha => "†",
        _ => "",
    }
}

/// A row for each cell and run; the first column says the language where there are several cells.
fn versus_table(c: &Comparison, cells: &[&Cell]) -> String {
    let o = &c.options;
    let by_lang = cells[0].lang.is_some();
    let interval = format!("{} % interval", percent(1.0 - o.alpha));
    let needed = format!("topics for {}", o.detect);
    let mut head = vec!["run", "mean", "difference", &interval, "p t", "p rand.", "p boot."];
    let other = match o.test {
        Test::Wilcoxon => Some("p Wilcoxon"),
        Test::Sign => Some("p sign"),
        _ => None,
    };
    head.extend(other);
    head.extend(["adjusted", "", "d", "+/=/−", &needed]);
    if by_lang {
        head.insert(0, "language");
    }
    let mut rows = Vec::new();
    for cell in cells {
        let lang = cell.lang.iter().filter(|_| by_lang);
        let baseline = [c.baseline.clone(), number(cell.baseline_mean)];
        rows.push(lang.clone().cloned().chain(baseline).collect());
        for run in &cell.runs {
            let (low, high) = run.interval(o.interval);
            let e = &run.effect;
            let mut row: Vec<String> = lang.clone().cloned().collect();
            row.extend([
                run.system.clone(),
                number(run.mean),
                signed(e.difference),
                format!("[{}, {}]", signed(low), signed(high)),
                p_value(run.t.p),
                p_value(run.randomization.p),
                p_value(run.bootstrap_p),
            ]);
            row.extend(other.map(|_| p_value(run.p(o.test))));
            row.extend([
                p_value(run.adjusted_p),
                mark(c, run.adjusted_p).to_owned(),
                e.d.map_or("–".into(), |d| format!("{d:+.2}").replace('-', "−")),
                format!("{}/{}/{}", e.wins, e.ties, e.losses),
                run.topics_needed.map_or("–".into(), |n| n.to_string()),
            ]);
            rows.push(row);
        }
    }
    table(&head, &rows)
}

fn sentence(c: &Comparison, cell: &Cell, run: &Versus) -> String {
    let o = &c.options;
    let e = &run.effect;
    let (low, high) = run.interval(o.interval);
    let after =
        if o.correction.is_none() { String::new() } else { format!(" after {}", o.correction.name()) };
    let p = match p_value(run.adjusted_p) {
        p if p.starts_with('<') => format!("p {p}{after}"),
        p => format!("p = {p}{after}"),
    };
    let (name, base, measure) = (&run.system, &c.baseline, &cell.measure);
    let mut out = if e.wins + e.losses == 0 {
        format!("{name} and {base} have the same {measure} on every topic.")
    } else if run.significant {
        let way = if e.difference > 0.0 { "higher" } else { "lower" };
        let relative = e.relative.map_or(String::new(), |r| format!(", {:.1} %", 100.0 * r.abs()));
        let size = number(e.difference.abs());
        let ends = format!("[{}, {}]", signed(low), signed(high));
        format!("{name} is {way} than {base} by {size} {ends}{relative}: more than chance ({p}).")
    } else {
        let size = format!("{} [{}, {}]", signed(e.difference), signed(low), signed(high));
        format!("{name} against {base}: {size} may be chance ({p}), which does not show that they are equal.")
    };
    if let (Some(needed), Some(least)) = (run.topics_needed, run.detectable) {
        let n = cell.topics;
        let _ = write!(
            out,
            " To see a difference of {} takes {needed} topics; {n} show one of {}, {} % of the time.",
            o.detect,
            number(least),
            percent(o.power),
        );
    }
    out
}

fn pairs_table(c: &Comparison, cell: &Cell) -> String {
    let rows = cell.pairs.iter().map(|p| {
        let effect = p.effect.map_or("–".into(), |e| format!("{e:+.2}").replace('-', "−"));
        let mark = mark(c, p.p).to_owned();
        vec![format!("{} − {}", p.b, p.a), signed(p.difference), effect, p_value(p.p), mark]
    });
    table(&["pair", "difference", "effect", "p", ""], &rows.collect::<Vec<_>>())
}

fn topics_table(c: &Comparison, measure: &str) -> String {
    let minus: Vec<String> = c.runs.iter().map(|r| format!("{r} − {}", c.baseline)).collect();
    let mut head = vec!["topic"];
    if !c.langs.is_empty() {
        head.push("language");
    }
    head.push(&c.baseline);
    head.extend(c.runs.iter().map(String::as_str));
    head.extend(minus.iter().map(String::as_str));
    let rows = c.by_topic.iter().map(|t| {
        let values = &t.values[measure];
        let base = values[&c.baseline];
        let mut row = vec![t.topic.clone()];
        if !c.langs.is_empty() {
            row.push(t.lang.clone().unwrap_or_default());
        }
        row.push(number(base));
        row.extend(c.runs.iter().map(|r| number(values[r])));
        row.extend(c.runs.iter().map(|r| signed(values[r] - base)));
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

/// So many of something.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub(super) fn number(x: f64) -> String {
    format!("{x:.4}")
}

/// With its sign, so that a difference looks like one; 0 has none.
pub(super) fn signed(x: f64) -> String {
    match format!("{x:+.4}") {
        zero if zero == "+0.0000" || zero == "-0.0000" => "0.0000".into(),
        other => other.replace('-', "−").replace("inf", "∞"),
    }
}

pub(super) fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.4}", 100.0 * share);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
