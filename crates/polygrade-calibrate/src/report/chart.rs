//! The charts, as SVG text. Every mark has a `<title>` with its value, which browsers show on hover.

use crate::outcome::{ArmRow, Cell, PolicyRow};
use crate::plan::Method;
use polygrade_eval::bootstrap::Interval;
use polygrade_eval::html::{escape, gridlines, signed, tick, ticks, value};
use polygrade_train::Policy;
use std::fmt::Write;

/// Lowest and highest value that a cell's panel has to show.
fn extent(cell: &Cell) -> (f64, f64) {
    let best = best_mean(cell);
    let ends = cell
        .policies
        .iter()
        .flat_map(|p| [best + p.minus_best.low, best + p.minus_best.high, level(best, p)]);
    let all = ends.chain(whole(cell).map(|a| a.dev));
    all.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)))
}

fn best_mean(cell: &Cell) -> f64 {
    cell.policies.iter().find(|p| p.policy == cell.tau_best).map_or(0.0, |p| p.mean)
}

/// Where a method stands beside the best: a method that left a race is shown by its difference when it left.
fn level(best: f64, p: &PolicyRow) -> f64 {
    best + p.minus_best.mean
}

/// Where the encoder stands that training starts from, as seen from the best; `None` where it was not measured on dev.
pub(super) fn untrained(cell: &Cell) -> Option<f64> {
    let best = cell.policies.iter().find(|p| p.policy == cell.tau_best)?;
    Some(best.mean - best.minus_untrained?.mean)
}

/// The single models of methods that went as far as the best.
fn whole(cell: &Cell) -> impl Iterator<Item = &ArmRow> {
    let of = |m: Method| cell.policies.iter().find(|p| p.policy == m).map_or(0.0, |p| p.reached);
    let best = of(cell.tau_best);
    cell.arms.iter().filter(move |a| of(a.policy) == best)
}

/// The span that all panels of a scenario share, so that slopes can be compared between languages.
pub(super) fn shared_span(cells: &[&Cell]) -> f64 {
    cells.iter().map(|c| extent(c)).map(|(lo, hi)| hi - lo).fold(0.01, f64::max) * 1.08
}

/// The curve of one language: policy → nDCG@10 on dev.
pub(super) fn curve(cell: &Cell, span: f64) -> String {
    // Names of losses need more room than thresholds.
    let long = cell.policies.iter().any(|p| !p.policy.is_cut());
    let (w, left, right, top) = (220.0, 34.0, 8.0, 8.0);
    let (h, bottom) = if long { (190.0, 70.0) } else { (150.0, 30.0) };
    let (lo, hi) = extent(cell);
    let middle = (lo + hi) / 2.0;
    let (low, high) = (middle - span / 2.0, middle + span / 2.0);
    let n = cell.policies.len();
    let x = |i: usize| left + (w - left - right) * (i as f64 + 0.5) / n as f64;
    let y = |v: f64| top + (h - top - bottom) * (1.0 - (v - low) / (high - low));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"nDCG@10 on dev by policy, queries in {}\">",
        escape(&cell.name())
    );
    gridlines(&mut svg, (low.max(0.0), high), (left, w - right), y);
    let base = h - bottom;
    let _ =
        write!(svg, "<line class=\"axis\" x1=\"{left}\" x2=\"{}\" y1=\"{base}\" y2=\"{base}\"/>", w - right);
    let best = best_mean(cell);
    // One that is far off would flatten all panels.
    if let Some(start) = untrained(cell).filter(|v| (low..=high).contains(v)) {
        let _ = write!(
            svg,
            "<g><line class=\"untrained\" x1=\"{left}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/><title>untrained: {2}</title></g>",
            w - right,
            y(start),
            value(start)
        );
    }
    // Thresholds have an order that a line can follow; other methods have none.
    let points: Vec<String> = cell
        .policies
        .iter()
        .enumerate()
        .filter(|(_, p)| matches!(p.policy, Method::Policy(Policy::Threshold(_))))
        .map(|(i, p)| format!("{:.1},{:.1}", x(i), y(level(best, p))))
        .collect();
    let _ = write!(svg, "<polyline class=\"curve\" points=\"{}\"/>", points.join(" "));
    for (i, p) in cell.policies.iter().enumerate() {
        let cx = x(i);
        for arm in whole(cell).filter(|a| a.policy == p.policy) {
            let _ = write!(
                svg,
                "<circle class=\"seed\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.8\"><title>seed {}: {}</title></circle>",
                cx + 6.0,
                y(arm.dev),
                arm.seed,
                value(arm.dev)
            );
        }
        let is_best = p.policy == cell.tau_best;
        if !is_best {
            let (a, b) = (y(best + p.minus_best.low), y(best + p.minus_best.high));
            let _ = write!(
                svg,
                "<line class=\"whisker\" x1=\"{cx:.1}\" x2=\"{cx:.1}\" y1=\"{a:.1}\" y2=\"{b:.1}\"/>"
            );
        }
        let class = if is_best { "best" } else { "mean" };
        let title = format!(
            "{}: {}{}{}",
            p.policy.title(),
            value(p.mean),
            if p.reached < 1.0 {
                format!(" after {:.0} % of the steps", p.reached * 100.0)
            } else {
                String::new()
            },
            if is_best {
                ", the highest".to_owned()
            } else {
                format!(", {} to the best {}", signed(p.minus_best.mean), range(&p.minus_best))
            }
        ) + &p
            .minus_untrained
            .map_or(String::new(), |d| format!("; training adds {} {}", signed(d.mean), range(&d)));
        let place = if long {
            format!(
                "transform=\"translate({:.1},{:.1}) rotate(-50)\" text-anchor=\"end\"",
                cx + 3.0,
                base + 12.0
            )
        } else {
            format!("x=\"{cx:.1}\" y=\"{:.1}\" text-anchor=\"middle\"", base + 12.0)
        };
        let _ = write!(
            svg,
            "<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{:.1}\" r=\"4\"/><text {place}>{}</text>\
             <rect class=\"hit\" x=\"{:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
            y(level(best, p)),
            escape(&p.policy.to_string()),
            cx - 12.0,
            24.0,
            base - top,
            escape(&title)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"0\" y=\"{0}\">nDCG@10</text><text x=\"{1}\" y=\"{0}\" text-anchor=\"middle\">{2}</text></svg>",
        h - 4.0,
        (left + w - right) / 2.0 + 20.0,
        if long { "" } else { "threshold τ" }
    );
    svg
}

pub(super) fn range(i: &Interval) -> String {
    format!("[{}, {}]", signed(i.low), signed(i.high))
}

/// Languages × policies: how far each policy is below the language's best.
pub(super) fn heat(cells: &[&Cell], name: impl Fn(&Cell) -> String) -> String {
    let (left, top, row, h_gap) = (110.0, 24.0, 24.0, 4.0);
    let columns = cells.first().map_or(0, |c| c.policies.len());
    let width = 96.0;
    let (w, h) = (left + width * columns as f64 + 4.0, top + (row + h_gap) * cells.len() as f64 + 4.0);
    let worst = cells.iter().flat_map(|c| &c.policies).map(|p| -p.minus_best.mean).fold(1e-9, f64::max);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"nDCG@10 on dev by language and policy\">"
    );
    if let Some(first) = cells.first() {
        for (j, p) in first.policies.iter().enumerate() {
            let x = left + width * (j as f64 + 0.5);
            let _ = write!(
                svg,
                "<text class=\"strong\" x=\"{x}\" y=\"14\" text-anchor=\"middle\">{}</text>",
                escape(&p.policy.title())
            );
        }
    }
    for (i, c) in cells.iter().enumerate() {
        let y = top + (row + h_gap) * i as f64;
        let _ = write!(svg, "<text class=\"strong\" x=\"0\" y=\"{}\">{}</text>", y + 16.0, escape(&name(c)));
        for (j, p) in c.policies.iter().enumerate() {
            let x = left + width * j as f64;
            let depth = 0.08 + 0.47 * (1.0 + p.minus_best.mean / worst).clamp(0.0, 1.0);
            let (best, equal) = (p.policy == c.tau_best, c.tau_equivalent.contains(&p.policy));
            let mark = if best {
                " ★"
            } else if equal {
                " ≈"
            } else {
                ""
            };
            let _ = write!(
                svg,
                "<g><rect class=\"heat\" fill-opacity=\"{depth:.2}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{row}\" rx=\"3\"/>\
                 <text class=\"strong\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}{mark}</text>",
                width - 4.0,
                x + width / 2.0 - 2.0,
                y + 16.0,
                value(p.mean)
            );
            if p.policy == c.tau_chosen {
                let _ = write!(
                    svg,
                    "<rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{row}\" rx=\"3\"/>",
                    width - 4.0
                );
            }
            let title = format!(
                "{}, {}: {}{}; {} to the best {}; best in {:.0} % of resamples",
                name(c),
                p.policy.title(),
                value(p.mean),
                if p.reached < 1.0 {
                    format!(" after {:.0} % of the steps", p.reached * 100.0)
                } else {
                    String::new()
                },
                signed(p.minus_best.mean),
                range(&p.minus_best),
                p.best_share * 100.0
            );
            let _ = write!(svg, "<title>{}</title></g>", escape(&title));
        }
    }
    svg + "</svg>"
}

/// Shares of positives, negatives and left-out judgments under each policy.
pub(super) fn balance(cell: &Cell) -> String {
    let (w, left, row) = (480.0, 80.0, 26.0);
    let h = row * cell.policies.len() as f64 + 22.0;
    let inner = w - left - 8.0;
    let mut svg =
        format!("<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"class balance by policy\">");
    for (i, p) in cell.policies.iter().enumerate() {
        let y = row * i as f64 + 2.0;
        let _ = write!(
            svg,
            "<text class=\"strong\" x=\"0\" y=\"{}\">{}</text>",
            y + 15.0,
            escape(&p.policy.title())
        );
        let whole = (p.positives + p.negatives + p.dropped).max(1) as f64;
        let mut x = left;
        for (class, what, n) in [
            ("pos", "positives", p.positives),
            ("drop", "left out", p.dropped),
            ("neg", "negatives", p.negatives),
        ] {
            let share = n as f64 / whole;
            let width = inner * share;
            let _ = write!(
                svg,
                "<g><rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\"/><title>{}: {n} {what}, {:.1} %</title></g>",
                escape(&p.policy.title()),
                share * 100.0
            );
            x += width;
        }
    }
    for (share, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{:.0} %</text>",
            left + inner * share,
            h - 6.0,
            share * 100.0
        );
    }
    svg + "</svg>"
}

/// Systems on test as dots with intervals.
pub(super) fn forest(rows: &[(String, f64, [f64; 2], String)]) -> String {
    let (w, left, right, row) = (560.0, 130.0, 60.0, 24.0);
    let h = row * rows.len() as f64 + 34.0;
    let (low, high) =
        rows.iter().fold((f64::INFINITY, 0.0f64), |(lo, hi), r| (lo.min(r.2[0]), hi.max(r.2[1])));
    let (low, high) = ((low - 0.02).max(0.0), high + 0.01);
    let x = |v: f64| left + (w - left - right) * (v - low) / (high - low).max(1e-9);
    let base = row * rows.len() as f64 + 4.0;
    let mut svg =
        format!("<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"nDCG@10 on test by system\">");
    for t in ticks(low, high) {
        let _ = write!(
            svg,
            "<line class=\"gridline\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{base}\"/><text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\">{2}</text>",
            x(t),
            base + 13.0,
            tick(t)
        );
    }
    for (i, (name, mean, ci, title)) in rows.iter().enumerate() {
        let y = row * i as f64 + 14.0;
        let class = if name == "calibrated" { "best" } else { "mean" };
        let _ = write!(
            svg,
            "<g><text class=\"strong\" x=\"0\" y=\"{}\">{}</text>\
             <line class=\"whisker\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\"/><circle class=\"{class}\" cx=\"{:.1}\" cy=\"{y}\" r=\"4.5\"/>\
             <text class=\"strong\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect class=\"hit\" x=\"0\" y=\"{}\" width=\"{w}\" height=\"{row}\"/><title>{}</title></g>",
            y + 4.0,
            escape(name),
            x(ci[0]),
            x(ci[1]),
            x(*mean),
            w - 4.0,
            y + 4.0,
            value(*mean),
            y - row / 2.0,
            escape(title)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">nDCG@10 on test</text></svg>",
        (left + w - right) / 2.0,
        h - 5.0
    );
    svg
}
