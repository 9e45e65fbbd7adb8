//! Pieces of HTML pages that reports share: style, numbers, names, heat maps. Pages are one file each, fetch nothing and
//! need no script; they read in light and dark, and on paper.

use polygrade_data::Lang;
use std::fmt::Write;

/// The style sheet of all reports.
pub const STYLE: &str = include_str!("style.css");

/// Text made safe for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as axes and tables show it.
pub fn value(x: f64) -> String {
    format!("{x:.3}").replacen("0.", ".", usize::from(x.abs() < 1.0)).replace("-.000", ".000")
}

/// With its sign.
pub fn signed(x: f64) -> String {
    let text = value(x.abs());
    match text.as_str() {
        ".000" => "±.000".into(),
        _ if x < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

/// Round steps for an axis of this length.
fn step(span: f64) -> f64 {
    let rough = (span / 4.5).max(1e-6);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough)
}

/// The round numbers between two ends that an axis names.
pub fn ticks(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let step = step(high - low);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(move |i| i as f64 * step)
}

/// A tick's label: no more digits than it needs.
pub fn tick(t: f64) -> String {
    if t.abs() < 1e-9 {
        return "0".into();
    }
    let text = value(t);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The horizontal lines of an axis from `low` to `high` and their labels, as SVG: from `left` to `right`, at heights `y`.
pub fn gridlines(
    svg: &mut String,
    (low, high): (f64, f64),
    (left, right): (f64, f64),
    y: impl Fn(f64) -> f64,
) {
    for t in ticks(low, high) {
        let at = y(t);
        let _ = write!(
            svg,
            "<line class=\"gridline\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 4.0,
            at + 3.5,
            tick(t)
        );
    }
}

/// The beginning of a page, up to its first heading.
pub fn begin(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(title)
    )
}

/// The end of a page.
pub const END: &str = "</main>\n</body>\n</html>\n";

/// A language's English name with its tag, where the name is known.
pub fn lang_name(tag: &str) -> String {
    match english_name(tag) {
        Some(name) => format!("{name} ({tag})"),
        None => tag.to_owned(),
    }
}

/// A language's English name, where it is known; script and region are passed over.
pub fn english_name(tag: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("am", "Amharic"),
        ("ar", "Arabic"),
        ("bg", "Bulgarian"),
        ("bn", "Bengali"),
        ("cs", "Czech"),
        ("da", "Danish"),
        ("de", "German"),
        ("el", "Greek"),
        ("en", "English"),
        ("es", "Spanish"),
        ("et", "Estonian"),
        ("fa", "Persian"),
        ("fi", "Finnish"),
        ("fr", "French"),
        ("he", "Hebrew"),
        ("hi", "Hindi"),
        ("hr", "Croatian"),
        ("hu", "Hungarian"),
        ("id", "Indonesian"),
        ("it", "Italian"),
        ("ja", "Japanese"),
        ("ko", "Korean"),
        ("lt", "Lithuanian"),
        ("lv", "Latvian"),
        ("ms", "Malay"),
        ("nl", "Dutch"),
        ("no", "Norwegian"),
        ("pl", "Polish"),
        ("pt", "Portuguese"),
        ("ro", "Romanian"),
        ("ru", "Russian"),
        ("sk", "Slovak"),
        ("sl", "Slovenian"),
        ("sr", "Serbian"),
        ("sv", "Swedish"),
        ("sw", "Swahili"),
        ("ta", "Tamil"),
        ("te", "Telugu"),
        ("th", "Thai"),
        ("tl", "Tagalog"),
        ("tr", "Turkish"),
        ("uk", "Ukrainian"),
        ("ur", "Urdu"),
        ("vi", "Vietnamese"),
        ("yo", "Yoruba"),
        ("zh", "Chinese"),
        ("zu", "Zulu"),
    ];
    let lang = Lang::parse(tag)?;
    NAMES.iter().find(|(t, _)| *t == lang.primary()).map(|(_, name)| *name)
}

/// A cell of a heat map.
pub struct Cell {
    /// How deep its colour is, from 0 to 1.
    pub depth: f64,
    /// What stands in it.
    pub text: String,
    /// What is said of it on hover.
    pub title: String,
    /// Whether it has a frame.
    pub framed: bool,
}

/// A heat map as SVG: rows by columns, `None` where there is no value. One hue whose depth goes with the value, so that it
/// reads without colour vision, under text in the page's own ink.
pub fn heat_map(
    label: &str,
    rows: &[String],
    columns: &[String],
    cell: impl Fn(usize, usize) -> Option<Cell>,
) -> String {
    let (left, top, width, height, gap) = (110.0, 24.0, 62.0, 24.0, 4.0);
    let w = left + width * columns.len() as f64 + 4.0;
    let h = top + (height + gap) * rows.len() as f64 + 4.0;
    // A small map is not blown up to the page's width, and a large one scrolls.
    let style = format!("min-width:{:.0}px;max-width:{:.0}px", 0.7 * w, 1.2 * w);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {w} {h}\" style=\"{style}\" role=\"img\" aria-label=\"{}\">",
        escape(label)
    );
    for (j, name) in columns.iter().enumerate() {
        let x = left + width * (j as f64 + 0.5) - 2.0;
        let _ = write!(
            svg,
            "<text class=\"strong\" x=\"{x}\" y=\"14\" text-anchor=\"middle\">{}</text>",
            escape(name)
        );
    }
    for (i, name) in rows.iter().enumerate() {
        let y = top + (height + gap) * i as f64;
        let _ = write!(svg, "<text class=\"strong\" x=\"0\" y=\"{}\">{}</text>", y + 16.0, escape(name));
        for j in 0..columns.len() {
            let Some(c) = cell(i, j) else { continue };
            let x = left + width * j as f64;
            let _ = write!(
                svg,
                "<g><rect class=\"heat\" fill-opacity=\"{:.2}\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{height}\" rx=\"3\"/>\
                 <text class=\"strong\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                0.06 + 0.49 * c.depth.clamp(0.0, 1.0),
                width - 4.0,
                x + width / 2.0 - 2.0,
                y + 16.0,
                escape(&c.text)
            );
            if c.framed {
                let _ = write!(
                    svg,
                    "<rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{height}\" rx=\"3\"/>",
                    width - 4.0
                );
            }
            let _ = write!(svg, "<title>{}</title></g>", escape(&c.title));
        }
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_read_well() {
        assert_eq!(value(0.4117), ".412");
        assert_eq!(value(1.0), "1.000");
        assert_eq!(signed(-0.0131), "−.013");
        assert_eq!(signed(0.0131), "+.013");
        assert_eq!(signed(-0.0001), "±.000");
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
        assert_eq!(lang_name("pt-BR"), "Portuguese (pt-BR)");
        assert_eq!(lang_name("ewe"), "ewe");
        assert_eq!([0.0, 0.3, 1.0, 0.125].map(tick), ["0", ".3", "1", ".125"]);
        assert_eq!(ticks(0.21, 0.34).map(value).collect::<Vec<_>>(), [".250", ".300"]);
    }
}
