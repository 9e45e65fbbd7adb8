//! The curves of studies: effectiveness against the amount of data, and against noise in the grades.

use super::title;
use crate::outcome::Calibration;
use crate::plan::Method;
use crate::study::Point;
use polygrade_eval::html::{escape, gridlines, signed, value};
use polygrade_train::Scenario;
use std::fmt::Write;

/// Colours of lines, which dashes tell apart too.
const LINES: [(&str, &str); 6] = [
    ("var(--accent)", ""),
    ("#c2571a", "6 3"),
    ("#3b7d3b", "2 3"),
    ("#8a4fa3", "8 3 2 3"),
    ("#a33b57", "1 4"),
    ("#55606e", "12 4"),
];

/// All studies; nothing where there were none.
pub(super) fn studies(c: &Calibration) -> String {
    let mut kinds: Vec<(Scenario, &str)> = c.studies.iter().map(|p| (p.scenario, p.kind.as_str())).collect();
    kinds.dedup();
    if kinds.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<h2>With less data, and with noisier grades</h2>\n<p class=\"note\">nDCG@10 on test, mean over languages, {:.0} % intervals; \
         every model takes the same number of steps. Nothing is chosen by this.</p>\n\
         <div class=\"panels\" style=\"grid-template-columns:repeat(auto-fill,minmax(19rem,1fr))\">\n",
        c.level * 100.0
    );
    for (scenario, kind) in kinds {
        let points: Vec<&Point> =
            c.studies.iter().filter(|p| p.scenario == scenario && p.kind == kind).collect();
        let _ = writeln!(
            out,
            "<figure class=\"panel\"><figcaption><b>{}</b><span>{}</span></figcaption>{}</figure>",
            escape(&heading(kind)),
            escape(title(scenario).split(':').next().unwrap_or("")),
            curves(c, &points, is_data(kind))
        );
    }
    out += "</div>\n";
    let savings: Vec<String> = c
        .savings
        .iter()
        .map(|s| {
            let reached = match s.share {
                Some(share) => format!(
                    "with {:.0} % of the {}{}",
                    share * 100.0,
                    s.kind,
                    s.minus_default.map_or(String::new(), |d| format!(
                        " ({} [{}, {}])",
                        signed(d.mean),
                        signed(d.low),
                        signed(d.high)
                    ))
                ),
                None => format!("with none of the tried shares of the {}", s.kind),
            };
            format!(
                "<li>{}, {}: its mean is that of {} with all data {reached}</li>",
                escape(title(s.scenario).split(':').next().unwrap_or("")),
                escape(&s.method.title()),
                escape(&s.default.title())
            )
        })
        .collect();
    if !savings.is_empty() {
        let _ = writeln!(
            out,
            "<h3>How much data it takes</h3>\n<p class=\"note\">The smallest of the tried shares from which on the mean stays within \
             {} of the default's with all data, or above.</p>\n<ul>\n{}\n</ul>",
            value(c.search.margin),
            savings.join("\n")
        );
    }
    out
}

fn is_data(kind: &str) -> bool {
    kind == "queries" || kind == "judgments"
}

fn heading(kind: &str) -> String {
    match kind {
        "queries" => "share of the training queries".into(),
        "judgments" => "share of the judgments".into(),
        "adjacent" => "rate of grades moved by one step".into(),
        "uniform" => "rate of grades replaced at random".into(),
        other => format!("rate of {other}"),
    }
}

fn curves(c: &Calibration, points: &[&Point], data: bool) -> String {
    let (w, h, left, right, top, bottom) = (300.0, 210.0, 36.0, 8.0, 8.0, 58.0);
    let (low, high) = points
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), p| (lo.min(p.value.low), hi.max(p.value.high)));
    let (first, last) = points
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), p| (lo.min(p.amount), hi.max(p.amount)));
    // Shares of data are read by their ratios, rates by their differences.
    let scale = |a: f64| if data { a.max(1e-3).ln() } else { a };
    let (from, to) = (scale(first), scale(last));
    let x = |a: f64| left + (w - left - right) * (0.04 + 0.92 * (scale(a) - from) / (to - from).max(1e-9));
    let y = |v: f64| top + (h - top - bottom) * (1.0 - (v - low) / (high - low).max(1e-9));
    let mut svg = format!("<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"nDCG@10 by amount\">");
    gridlines(&mut svg, (low, high), (left, w - right), y);
    let base = h - bottom;
    let mut amounts: Vec<f64> = points.iter().map(|p| p.amount).collect();
    amounts.sort_by(f64::total_cmp);
    amounts.dedup();
    for a in amounts {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0} %</text>",
            x(a),
            base + 13.0,
            a * 100.0
        );
    }
    for (i, &method) in c.grid.iter().enumerate() {
        line(&mut svg, points, (method, i), (&x, &y), base + 28.0);
    }
    svg + "</svg>"
}

fn line(
    svg: &mut String,
    points: &[&Point],
    (method, number): (Method, usize),
    (x, y): (&dyn Fn(f64) -> f64, &dyn Fn(f64) -> f64),
    legend: f64,
) {
    let (colour, dash) = LINES[number % LINES.len()];
    let own: Vec<&&Point> = points.iter().filter(|p| p.method == method).collect();
    let path: Vec<String> =
        own.iter().map(|p| format!("{:.1},{:.1}", x(p.amount), y(p.value.mean))).collect();
    let _ = write!(
        svg,
        "<polyline points=\"{}\" style=\"fill:none;stroke:{colour};stroke-width:1.6;stroke-dasharray:{dash}\"/>",
        path.join(" ")
    );
    // Beside each other, so that whiskers do not hide one another.
    let shift = (number as f64 - 1.0) * 2.5;
    for p in own {
        let at = x(p.amount) + shift;
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" style=\"stroke:{colour};stroke-width:.8;opacity:.55\"/>\
             <circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\" style=\"fill:{colour}\"><title>{}, {:.0} %: {} [{}, {}], {} to none altered</title></circle>",
            y(p.value.low),
            y(p.value.high),
            x(p.amount),
            y(p.value.mean),
            escape(&method.title()),
            p.amount * 100.0,
            value(p.value.mean),
            value(p.value.low),
            value(p.value.high),
            signed(p.minus_unaltered.mean)
        );
    }
    let (column, row) = ((number % 4) as f64, (number / 4) as f64);
    let (at, top) = (8.0 + 72.0 * column, legend + 12.0 * row);
    let _ = write!(
        svg,
        "<line x1=\"{at}\" x2=\"{}\" y1=\"{top}\" y2=\"{top}\" style=\"stroke:{colour};stroke-width:1.6;stroke-dasharray:{dash}\"/>\
         <text x=\"{}\" y=\"{}\">{}</text>",
        at + 16.0,
        at + 20.0,
        top + 3.5,
        escape(&method.title())
    );
}
