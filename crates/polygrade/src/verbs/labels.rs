//! `polygrade labels`: what a label policy makes of a collection's judgments.

use super::common::{LabelArgs, langs, note_unmatched, scenario};
use crate::ui::{Ui, table};
use polygrade_data::{Collection, Error, Graded, Index, Lang, Result, Split};
use polygrade_train::labelled::{Labelled, Pair};
use polygrade_train::{Label, Scenario};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade labels collections/mini --tau 2\n  \
    polygrade labels collections/mini --labels runs/mini/calibrated.toml --scenario cross-lingual --langs en,sw --samples 5")]
pub(crate) struct Args {
    /// The collection
    collection: PathBuf,
    #[command(flatten)]
    labels: LabelArgs,
    /// Languages, separated by commas; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// monolingual, mixture or cross-lingual
    #[arg(long, default_value = "mixture")]
    scenario: String,
    /// Pairs within languages and across them, as hybrid batches of the mixture train on
    #[arg(long)]
    hybrid: bool,
    /// The judgments of this split: train, dev, test
    #[arg(long, default_value = "train")]
    split: String,
    /// Pairs to show of each label
    #[arg(long, default_value_t = 2, value_name = "N")]
    samples: usize,
    /// Other samples
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Serialize)]
struct Labels {
    split: Split,
    scenario: Scenario,
    pairs: Vec<Row>,
    /// Single judgments, where the collection names who gave them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<OriginRow>,
    samples: Samples,
}

/// The labels of one language's queries and passages in one language.
#[derive(Serialize)]
struct Row {
    query_lang: Lang,
    passage_lang: Lang,
    policy: String,
    queries: u64,
    queries_without_positive: u64,
    positives: u64,
    negatives: u64,
    dropped: u64,
}

/// The judgments of one annotator and source, each under its own policy.
#[derive(Serialize)]
struct OriginRow {
    annotator: String,
    source: String,
    positives: u64,
    negatives: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Samples {
    positive: Vec<Sample>,
    negative: Vec<Sample>,
    dropped: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    query: String,
    query_lang: Lang,
    query_text: String,
    passage: String,
    passage_lang: Lang,
    passage_text: String,
    grade: f32,
    policy: String,
    /// Grades of single annotators and sources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    judgments: Vec<Vote>,
}

#[derive(Serialize)]
struct Vote {
    grade: f32,
    annotator: Option<String>,
    source: Option<String>,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let scenario = scenario(&args.scenario)?;
    let policies = args.labels.policies()?;
    if args.hybrid && scenario != Scenario::Mixture {
        return Err(Error::Usage("--hybrid is for the mixture".into()));
    }
    let split = Split::parse(&args.split)
        .ok_or_else(|| Error::Usage(format!("--split {:?}: expected train, dev or test", args.split)))?;
    let collection = Collection::load(&args.collection)?;
    let langs = langs(args.langs.as_deref(), &collection)?;
    note_unmatched(&policies, &collection, ui);
    let graded = collection.graded(split);
    let labelled = Labelled::new(&collection, &graded, scenario, &langs, &policies, args.hybrid);
    let row = |((query, passage), n): ((usize, usize), polygrade_train::labelled::Counts)| Row {
        query_lang: langs[query].clone(),
        passage_lang: langs[passage].clone(),
        policy: n.policy.to_string(),
        queries: n.queries,
        queries_without_positive: n.without_positive,
        positives: n.pairs[Label::Positive as usize],
        negatives: n.pairs[Label::Negative as usize],
        dropped: n.pairs[Label::Dropped as usize],
    };
    let samples = labelled.samples(args.samples, args.seed);
    let of = |label: Label| samples[label as usize].iter().map(|s| sample(&collection, &graded, s)).collect();
    let origin = |((annotator, source), n): ((String, String), [u64; 3])| OriginRow {
        annotator,
        source,
        positives: n[Label::Positive as usize],
        negatives: n[Label::Negative as usize],
        dropped: n[Label::Dropped as usize],
    };
    let labels = Labels {
        split,
        scenario,
        pairs: labelled.counts().into_iter().map(row).collect(),
        origins: labelled.counts_by_origin().into_iter().map(origin).collect(),
        samples: Samples {
            positive: of(Label::Positive),
            negative: of(Label::Negative),
            dropped: of(Label::Dropped),
        },
    };
    ui.result(&labels, text)
}

fn sample(collection: &Collection, graded: &Graded, (query, pair): &(Index, Pair)) -> Sample {
    let (q, p) = (&collection.queries[*query as usize], &collection.passages[pair.passage as usize]);
    Sample {
        query: q.id.clone(),
        query_lang: q.lang.clone(),
        query_text: q.text.clone(),
        passage: p.id.clone(),
        passage_lang: p.lang.clone(),
        passage_text: p.full_text().into_owned(),
        grade: pair.grade,
        policy: pair.policy.to_string(),
        judgments: graded
            .given_to(*query, pair.passage)
            .into_iter()
            .flat_map(|(q, p)| collection.votes_of(q, p))
            .map(|(grade, o)| Vote {
                grade,
                annotator: o.annotator.map(str::to_owned),
                source: o.source.map(str::to_owned),
            })
            .collect(),
    }
}

fn text(l: &Labels) -> String {
    let rows: Vec<Vec<String>> = l
        .pairs
        .iter()
        .map(|r| {
            let counts = [r.queries, r.queries_without_positive, r.positives, r.negatives, r.dropped];
            let names = vec![format!("{} → {}", r.query_lang, r.passage_lang), r.policy.clone()];
            names.into_iter().chain(counts.map(|n| n.to_string())).collect()
        })
        .collect();
    let head = ["query → passage", "policy", "queries", "no positive", "positives", "negatives", "dropped"];
    let mut out = format!("{} · {}\n\n{}", l.split.name(), l.scenario.name(), table(&head, &rows));
    if !l.origins.is_empty() {
        let rows: Vec<Vec<String>> = l
            .origins
            .iter()
            .map(|r| {
                let counts = [r.positives, r.negatives, r.dropped].map(|n| n.to_string());
                let name = |name: &str| if name.is_empty() { "–".to_owned() } else { name.to_owned() };
                [name(&r.annotator), name(&r.source)].into_iter().chain(counts).collect()
            })
            .collect();
        out += "\nsingle judgments, each under its own policy\n";
        out += &table(&["annotator", "source", "positives", "negatives", "dropped"], &rows);
    }
    let samples = &l.samples;
    for (what, samples) in
        [("positive", &samples.positive), ("negative", &samples.negative), ("dropped", &samples.dropped)]
    {
        for s in samples {
            let langs = format!("{} → {}", s.query_lang, s.passage_lang);
            let names = |v: &Vote| {
                let by =
                    [&v.annotator, &v.source].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
                format!("{} {}", v.grade, by.join("/")).trim_end().to_owned()
            };
            let votes: Vec<String> = s.judgments.iter().map(names).collect();
            let votes = if votes.is_empty() { String::new() } else { format!(" ({})", votes.join(", ")) };
            let _ = writeln!(out, "\n{what}: grade {}{votes} under {}, {langs}", s.grade, s.policy);
            let _ = writeln!(out, "  {}  {}", s.query, shortened(&s.query_text));
            let _ = writeln!(out, "  {}  {}", s.passage, shortened(&s.passage_text));
        }
    }
    out
}

/// The beginning of a text, on one line.
fn shortened(text: &str) -> String {
    const CHARS: usize = 160;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
