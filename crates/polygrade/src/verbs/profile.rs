//! `polygrade profile`: what is in a collection.

use crate::ui::{Ui, table};
use polygrade_data::Result;
use polygrade_data::profile::{Finding, LangProfile, Profile, profile};
use std::fmt::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example: polygrade profile collections/mini")]
pub(crate) struct Args {
    /// The collection
    collection: PathBuf,
    /// Problems to show in full
    #[arg(long, default_value_t = polygrade_data::error::DEFAULT_PROBLEM_LIMIT, value_name = "N")]
    limit: usize,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let (found, problems) = profile(&args.collection, args.limit)?;
    ui.result(&found, text)?;
    problems.into_result()
}

fn text(p: &Profile) -> String {
    let mut out = format!("{} · licence {} · grades 0–{}\n", p.meta.name, p.meta.licence, p.meta.grades.max);
    for (grade, meaning) in &p.meta.grades.meaning {
        let _ = writeln!(out, "  {grade} {meaning}");
    }
    let splits: Vec<String> = p.splits.iter().map(|(s, n)| format!("{} {n}", s.name())).collect();
    let _ = writeln!(out, "judgments: {} · groups of translations: {}\n", splits.join(", "), p.groups);

    if let Some(a) = &p.agreement {
        let names = |counts: &std::collections::BTreeMap<String, u64>| {
            counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
        };
        for (what, counts) in [("annotators", &a.annotators), ("sources", &a.sources)] {
            if !counts.is_empty() {
                let _ = writeln!(out, "{what}: {}", names(counts));
            }
        }
        let alpha = |alpha: &Option<f64>| alpha.map_or("not defined".into(), |a| format!("{a:.3}"));
        let by_lang: Vec<String> =
            a.alpha_by_lang.iter().map(|(lang, a)| format!("{lang} {}", alpha(a))).collect();
        let by_lang = if by_lang.len() > 1 { format!(" ({})", by_lang.join(", ")) } else { String::new() };
        let (pairs, all) = (a.shared_pairs, alpha(&a.alpha));
        let _ =
            writeln!(out, "judged more than once: {pairs} pairs, Krippendorff's ordinal α {all}{by_lang}\n");
    }

    let rows = p.languages.iter().map(|l| {
        let (least, mean, most) = l.judged_per_query;
        let counts = [l.passages, l.queries, l.judged_queries, l.judgments].map(|n| n.to_string());
        [vec![l.lang.clone()], counts.to_vec(), vec![format!("{least}–{mean:.1}–{most}")]].concat()
    });
    let head = ["language", "passages", "queries", "judged", "judgments", "per query (least–mean–most)"];
    out += &table(&head, &rows.collect::<Vec<_>>());

    let mut grades: Vec<&String> = p.languages.iter().flat_map(|l| l.grades.keys()).collect();
    grades.sort_by(|a, b| number(a).total_cmp(&number(b)));
    grades.dedup();
    let head: Vec<String> =
        ["language".into()].into_iter().chain(grades.iter().map(|g| format!("grade {g}"))).collect();
    let count = |l: &LangProfile, g: &String| l.grades.get(g).copied().unwrap_or(0).to_string();
    let rows =
        judged(p).map(|l| [l.lang.clone()].into_iter().chain(grades.iter().map(|g| count(l, g))).collect());
    let _ = write!(out, "\n{}", table(&refs(&head), &rows.collect::<Vec<_>>()));

    // Half grades would make the table too wide to read; --json has them.
    let whole = |l: &LangProfile| {
        l.thresholds.iter().filter(|t| t.threshold.fract() == 0.0).cloned().collect::<Vec<_>>()
    };
    let thresholds = judged(p).next().map_or(Vec::new(), whole);
    let head =
        thresholds.iter().flat_map(|t| [format!("τ={} pos", t.threshold), "neg".into(), "no pos".into()]);
    let head: Vec<String> = ["language".to_owned()].into_iter().chain(head).collect();
    let rows = judged(p).map(|l| {
        let cells = whole(l).into_iter().flat_map(|t| [t.positives, t.negatives, t.queries_without_positive]);
        [l.lang.clone()].into_iter().chain(cells.map(|n| n.to_string())).collect()
    });
    let _ = write!(out, "\n{}", table(&refs(&head), &rows.collect::<Vec<_>>()));
    out += "(no pos: judged queries left without a positive)\n";

    let rows = p.languages.iter().map(|l| {
        let wrong = if l.lang_detectable { l.wrong_lang.count.to_string() } else { "not known".into() };
        let near_empty = l.near_empty.count.to_string();
        vec![
            l.lang.clone(),
            near_empty,
            l.duplicates.count.to_string(),
            wrong,
            l.missing_translations.to_string(),
        ]
    });
    let head = ["language", "near-empty", "duplicates", "other language", "translations missing"];
    let _ = write!(out, "\n{}", table(&head, &rows.collect::<Vec<_>>()));
    for l in &p.languages {
        let findings =
            [("near-empty", &l.near_empty), ("duplicate", &l.duplicates), ("other language", &l.wrong_lang)];
        for (what, Finding { count, examples }) in findings.into_iter().filter(|(_, f)| f.count > 0) {
            let more = if *count as usize > examples.len() { ", …" } else { "" };
            let _ = writeln!(out, "  {} {what}: {}{more}", l.lang, examples.join(", "));
        }
    }
    out
}

fn judged(p: &Profile) -> impl Iterator<Item = &LangProfile> {
    p.languages.iter().filter(|l| l.judgments > 0)
}

fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}
