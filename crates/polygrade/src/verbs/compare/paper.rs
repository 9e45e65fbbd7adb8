//! The comparison for a paper: one table of means by run and metric, and for several languages one a metric, in
//! Markdown or LaTeX. The best mean of a column is bold. Marks stand for significance: † and ‡ against the
//! baseline, or with all pairs compared the letters of the systems that a mean is significantly above.

use super::text::{count, mark, number, percent};
use polygrade_eval::compare::{Cell, Comparison};
use std::fmt::Write;

/// A table: heads of its columns, and a row for each system.
struct Grid {
    caption: String,
    heads: Vec<String>,
    rows: Vec<(String, Vec<Entry>)>,
}

struct Entry {
    mean: f64,
    best: bool,
    marks: String,
}

fn grids(c: &Comparison) -> Vec<Grid> {
    let all: Vec<&Cell> = c.measures.iter().filter_map(|m| c.overall(m)).collect();
    let heads = c.measures.clone();
    let mut out = vec![grid(c, format!("Means over {}", count(all[0].topics, "topic")), heads, &all)];
    for measure in c.measures.iter().filter(|_| !c.langs.is_empty()) {
        let cells: Vec<&Cell> = c.by_lang(measure).collect();
        out.push(grid(c, format!("{measure} by language"), c.langs.clone(), &cells));
    }
    out
}

fn grid(c: &Comparison, caption: String, heads: Vec<String>, cells: &[&Cell]) -> Grid {
    let systems: Vec<&String> = [&c.baseline].into_iter().chain(&c.runs).collect();
    let mean = |cell: &Cell, s: usize| if s == 0 { cell.baseline_mean } else { cell.runs[s - 1].mean };
    let rows = systems.iter().enumerate().map(|(s, name)| {
        let entries = cells.iter().map(|cell| {
            let best = (0..systems.len()).map(|s| mean(cell, s)).fold(f64::NEG_INFINITY, f64::max);
            let marks = match () {
                () if c.options.all_pairs => above(&systems, cell, name),
                () if s == 0 => String::new(),
                () => mark(c, cell.runs[s - 1].adjusted_p).to_owned(),
            };
            let mean = mean(cell, s);
            // As printed, so that what looks equal is bold alike.
            Entry { mean, best: number(mean) == number(best), marks }
        });
        let label = if c.options.all_pairs { format!("{} {name}", letter(s)) } else { (*name).clone() };
        (label, entries.collect())
    });
    let rows = rows.collect();
    Grid { caption, heads, rows }
}

/// a, b, …, z, a1, b1, …
fn letter(i: usize) -> String {
    let letter = char::from(b'a' + (i % 26) as u8);
    if i < 26 { letter.to_string() } else { format!("{letter}{}", i / 26) }
}

/// The letters of the systems that `name` is significantly above; past z, where a letter may have a number, with
/// commas between.
fn above(systems: &[&String], cell: &Cell, name: &str) -> String {
    let below = |p: &&polygrade_eval::compare::Pair| {
        p.significant && (p.a == name && p.difference < 0.0 || p.b == name && p.difference > 0.0)
    };
    let mut letters: Vec<String> = Vec::new();
    for (i, other) in systems.iter().enumerate() {
        if cell.pairs.iter().filter(below).any(|p| p.a == **other || p.b == **other) && *other != name {
            letters.push(letter(i));
        }
    }
    letters.join(if systems.len() > 26 { "," } else { "" })
}

/// What the marks mean, in one sentence.
fn legend(c: &Comparison) -> String {
    let o = &c.options;
    let alpha = o.alpha;
    if o.all_pairs {
        return format!(
            "Letters: significantly above that system at {alpha} (randomised Tukey HSD, {} permutations).",
            o.permutations
        );
    }
    let by_lang = if c.langs.is_empty() { String::new() } else { format!(", by language {}", c.families[1]) };
    let adjusted = if o.correction.is_none() {
        "not adjusted".into()
    } else {
        format!("adjusted by {} over {}{by_lang}", o.correction.name(), count(c.families[0], "comparison"))
    };
    let marks = format!("†, ‡: different from {} at {alpha} and {}", c.baseline, alpha / 5.0);
    format!("{marks} ({}, p {adjusted}).", o.test.name())
}

pub(super) fn markdown(c: &Comparison) -> String {
    let escape = |text: &str| text.replace('|', "\\|");
    let mut out = String::new();
    for grid in grids(c) {
        let _ = writeln!(out, "**{}**\n", escape(&grid.caption));
        let heads: Vec<String> = grid.heads.iter().map(|h| escape(h)).collect();
        let _ = writeln!(out, "| run | {} |\n|---|{}", heads.join(" | "), "---:|".repeat(heads.len()));
        for (name, entries) in &grid.rows {
            let cell = |e: &Entry| {
                let marks = if c.options.all_pairs && !e.marks.is_empty() {
                    format!("<sup>{}</sup>", e.marks)
                } else {
                    e.marks.clone()
                };
                let bold = if e.best { "**" } else { "" };
                format!("{bold}{}{bold}{marks}", number(e.mean))
            };
            let cells: Vec<String> = entries.iter().map(cell).collect();
            let _ = writeln!(out, "| {} | {} |", escape(name), cells.join(" | "));
        }
        out.push('\n');
    }
    out += &markdown_differences(c);
    let _ = writeln!(out, "{}", escape(&legend(c)));
    out
}

/// Differences with their intervals: what a mark hides.
fn markdown_differences(c: &Comparison) -> String {
    use super::text::{p_value, signed};
    let o = &c.options;
    let level = percent(1.0 - o.alpha);
    let mut out = format!("**Differences from {}**\n\n", c.baseline.replace('|', "\\|"));
    let _ =
        writeln!(out, "| metric | language | run | difference | {level} % interval | p | adjusted p | d |");
    out += "|---|---|---|---:|---:|---:|---:|---:|\n";
    for cell in &c.cells {
        for run in &cell.runs {
            let (low, high) = run.interval(o.interval);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | [{}, {}] | {} | {} | {} |",
                cell.measure,
                cell.lang.as_deref().unwrap_or("all"),
                run.system.replace('|', "\\|"),
                signed(run.effect.difference),
                signed(low),
                signed(high),
                p_value(run.p(o.test)),
                p_value(run.adjusted_p),
                run.effect.d.map_or("–".into(), |d| format!("{d:.2}").replace('-', "−")),
            );
        }
    }
    out.push('\n');
    out
}

pub(super) fn latex(c: &Comparison) -> String {
    let mut out = String::from("% \\usepackage{booktabs}\n");
    for grid in grids(c) {
        let columns = "r".repeat(grid.heads.len());
        let heads: Vec<String> = grid.heads.iter().map(|h| escape_latex(h)).collect();
        let _ = writeln!(out, "\\begin{{table}}\n\\centering\n\\begin{{tabular}}{{l{columns}}}\n\\toprule");
        let _ = writeln!(out, "Run & {} \\\\\n\\midrule", heads.join(" & "));
        for (name, entries) in &grid.rows {
            let cell = |e: &Entry| {
                let mean = number(e.mean);
                let mean = if e.best { format!("\\textbf{{{mean}}}") } else { mean };
                match e.marks.as_str() {
                    "" => mean,
                    "†" => format!("{mean}$^{{\\dagger}}$"),
                    "‡" => format!("{mean}$^{{\\ddagger}}$"),
                    letters => format!("{mean}$^{{{letters}}}$"),
                }
            };
            let cells: Vec<String> = entries.iter().map(cell).collect();
            let _ = writeln!(out, "{} & {} \\\\", escape_latex(name), cells.join(" & "));
        }
        let caption = escape_latex(&format!("{}. {}", grid.caption, legend(c)));
        let _ = writeln!(out, "\\bottomrule\n\\end{{tabular}}\n\\caption{{{caption}}}\n\\end{{table}}\n");
    }
    out
}

fn escape_latex(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(c);
            }
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '†' => out += "$^{\\dagger}$",
            '‡' => out += "$^{\\ddagger}$",
            '–' => out += "--",
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_latex() {
        assert_eq!(
            escape_latex("a_b & 5 % \\x^2~{}"),
            "a\\_b \\& 5 \\% \\textbackslash{}x\\textasciicircum{}2\\textasciitilde{}\\{\\}"
        );
        assert_eq!((letter(0), letter(25), letter(26)), ("a".into(), "z".into(), "a1".into()));
    }
}
