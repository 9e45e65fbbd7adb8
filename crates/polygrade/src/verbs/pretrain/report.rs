//! The page of a pretraining: its learning curves.

use super::{Point, Report};
use polygrade_eval::html::{END, begin, escape, gridlines, lang_name, value};
use std::fmt::Write;

/// The page.
pub(super) fn html(report: &Report) -> String {
    let mut out = begin("Pretraining");
    let _ = write!(
        out,
        "<h1>Pretraining</h1>\n<p>{} texts, {} tokens, {} steps, {:.0} s, of which {:.0} s reading and the teacher. Every number is in \
         <code>pretraining.json</code>.</p>\n<h2>Held-out pairs</h2>\n<p class=\"note\">Share of the held-out pairs of a language that \
         find each other among all of it, by step. It tells one run from another; retrieval is measured by <code>polygrade eval</code>.</p>\n\
         <div class=\"panels\">\n",
        report.texts, report.tokens, report.steps, report.seconds, report.seconds_reading
    );
    for (lang, pairs) in &report.held_out {
        let share = |p: &Point| p.held_out.iter().find(|(l, _)| l == lang).map(|(_, share)| *share);
        let points: Vec<(u64, f64)> = report.curve.iter().filter_map(|p| Some((p.step, share(p)?))).collect();
        panel(&mut out, &lang_name(lang.as_str()), &format!("{pairs} pairs"), &points, Some(1.0));
    }
    out +=
        "</div>\n<h2>Losses</h2>\n<p class=\"note\">Of the batch at each step.</p>\n<div class=\"panels\">\n";
    let of = |loss: fn(&Point) -> f64| report.curve.iter().map(|p| (p.step, loss(p))).collect::<Vec<_>>();
    panel(&mut out, "translation ranking", "", &of(|p| p.ranking), None);
    panel(&mut out, "distance to the teacher", "", &of(|p| p.distil), None);
    out + "</div>\n" + END
}

/// One curve, from 0 to `high`, or to its highest value.
fn panel(out: &mut String, name: &str, note: &str, points: &[(u64, f64)], high: Option<f64>) {
    let (w, h, left, right, top, bottom) = (220.0, 130.0, 30.0, 8.0, 8.0, 22.0);
    let last = points.last().map_or(1, |p| p.0).max(1) as f64;
    let highest = points.iter().map(|p| p.1).fold(0.0f64, f64::max);
    let high = high.unwrap_or(highest * 1.05).max(1e-3);
    let x = |step: u64| left + (w - left - right) * step as f64 / last;
    let y = |v: f64| top + (h - top - bottom) * (1.0 - v / high);
    let name = escape(name);
    let _ = write!(
        out,
        "<figure class=\"panel\"><figcaption><b>{name}</b><span>{}</span></figcaption>\
         <svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{name} by step\">",
        escape(note)
    );
    gridlines(out, (0.0, high), (left, w - right), y);
    let path: Vec<String> = points.iter().map(|(s, v)| format!("{:.1},{:.1}", x(*s), y(*v))).collect();
    let _ = write!(out, "<polyline class=\"curve\" points=\"{}\"/>", path.join(" "));
    for (step, v) in points {
        let _ = write!(
            out,
            "<circle class=\"mean\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2\"><title>step {step}: {}</title></circle>",
            x(*step),
            y(*v),
            value(*v)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">step {last}</text></svg></figure>",
        w - right,
        h - 6.0
    );
}
