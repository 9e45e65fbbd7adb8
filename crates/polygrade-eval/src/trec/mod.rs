//! What the program trec_eval computes and prints, to the byte.
//!
//! trec_eval (Buckley, Soboroff; NIST) is the reference of the field. This is an implementation of its own of
//! the same measures, their names, parameters, order and output, in the two versions that are about:
//! [`Version::V9`] (9.0.x, which pytrec_eval wraps; scores in single precision, places of recall with 0.9
//! added) and [`Version::V10`] (scores in double precision, places rounded, judged topics that the run lacks
//! printed under `-c`). `docs/metrics.md` lists what is defined where trec_eval leaves it open.

mod average;
mod catalogue;
mod gain;
mod groups;
mod precision;
mod prefs;
mod ranked;
mod request;
mod set;
mod zscores;

use crate::columns::Faults;
use crate::qrels::{self, Judged, Qrels};
use crate::run::{self, Ranking, Run};
use catalogue::{Needs, Print, Sum, Value};
use polygrade_data::{At, Error, Problems, Result};
use ranked::{Ranked, View};
use rayon::prelude::*;
pub use request::Request;
use std::fmt::Write as _;
use std::path::Path;
use zscores::ZScores;

/// The least value that counts in a geometric mean.
const LEAST: f64 = 0.00001;

/// Whose figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// trec_eval 9.0.x.
    V9,
    /// trec_eval 10.
    #[default]
    V10,
}

/// The format of judgments (`-R`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `query-id iteration passage-id grade`.
    #[default]
    Qrels,
    /// The same with the judgment group for the iteration.
    QrelsGroups,
    /// `query-id group subgroup passage-id level`: preferences.
    Prefs,
    /// `query-id group passage-id level`: preferences.
    QrelsPrefs,
}

impl Format {
    /// Parses trec_eval's names: `qrels`, `qrels_jg`, `prefs`, `qrels_prefs`.
    pub fn parse(name: &str) -> Option<Format> {
        Some(match name {
            "qrels" => Format::Qrels,
            "qrels_jg" => Format::QrelsGroups,
            "prefs" => Format::Prefs,
            "qrels_prefs" => Format::QrelsPrefs,
            _ => return None,
        })
    }
}

/// trec_eval's options.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose figures.
    pub version: Version,
    /// Print every topic (`-q`).
    pub per_query: bool,
    /// Print the summary (not `-n`).
    pub summary: bool,
    /// Count judged topics that the run lacks (`-c`).
    pub complete: bool,
    /// The lowest grade that is relevant (`-l`).
    pub level: i64,
    /// Passages looked at in each ranking (`-M`).
    pub depth: usize,
    /// Take unjudged passages out of rankings (`-J`).
    pub judged_only: bool,
    /// Passages in the collection (`-N`), for `utility`.
    pub collection: i64,
    /// The format of judgments (`-R`).
    pub format: Format,
    /// What becomes of bad lines and of passages that come twice.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            version: Version::V10,
            per_query: false,
            summary: true,
            complete: false,
            level: 1,
            depth: usize::MAX,
            judged_only: false,
            collection: 0,
            format: Format::Qrels,
            faults: Faults::Strict,
        }
    }
}

/// What trec_eval would print, and what was passed over.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lines.
    pub text: String,
    /// Lines passed over under [`Faults::Lenient`].
    pub warnings: Problems,
    /// Judged topics that the run lacks, left out of the figures; none under `complete`.
    pub missing: usize,
    /// Judgments whose grade has a fraction, which is dropped.
    pub fractions: usize,
}

/// A topic ready for its measures.
enum Prepared {
    Ranked(Ranked),
    Groups(Vec<Ranked>),
    Prefs(prefs::Merged),
}

/// The judgments, by topic.
enum Judgments {
    Qrels(Qrels),
    Groups(Vec<(String, Vec<Judged>)>),
    Prefs(Vec<(String, prefs::Preferences)>),
}

impl Judgments {
    fn read(path: &Path, options: &Options) -> Result<(Judgments, Problems)> {
        let read = qrels::ReadOptions { faults: options.faults, no_remarks: options.version == Version::V9 };
        Ok(match options.format {
            Format::Qrels => {
                let (qrels, warnings) = Qrels::read(path, &read)?;
                (Judgments::Qrels(qrels), warnings)
            }
            Format::QrelsGroups => {
                let (grouped, warnings) = qrels::read_grouped(path, &read, true)?;
                let mut topics: Vec<(String, Vec<Judged>)> = Vec::new();
                for ((topic, _), judged) in grouped {
                    match topics.last_mut().filter(|(last, _)| *last == topic) {
                        Some((_, groups)) => groups.push(judged),
                        None => topics.push((topic, vec![judged])),
                    }
                }
                (Judgments::Groups(topics), warnings)
            }
            Format::Prefs | Format::QrelsPrefs => {
                let subgroups = options.format == Format::Prefs;
                let (topics, warnings) = prefs::read(path, &read, subgroups, options.version)?;
                (Judgments::Prefs(topics), warnings)
            }
        })
    }

    fn needs(&self) -> Needs {
        match self {
            Judgments::Qrels(_) => Needs::Qrels,
            Judgments::Groups(_) => Needs::Groups,
            Judgments::Prefs(_) => Needs::Prefs,
        }
    }

    fn topics(&self) -> Vec<&str> {
        match self {
            Judgments::Qrels(q) => q.iter().map(|(id, _)| id).collect(),
            Judgments::Groups(topics) => topics.iter().map(|(id, _)| id.as_str()).collect(),
            Judgments::Prefs(topics) => topics.iter().map(|(id, _)| id.as_str()).collect(),
        }
    }

    /// A topic with its list; says what is wrong with its judgments.
    fn prepare(
        &self,
        at: usize,
        topic: &str,
        ranking: Option<&Ranking>,
        view: &View,
    ) -> std::result::Result<Prepared, String> {
        Ok(match self {
            Judgments::Qrels(q) => {
                Prepared::Ranked(q.get(topic).map(|j| Ranked::new(j, ranking, view)).unwrap_or_default())
            }
            Judgments::Groups(topics) => {
                Prepared::Groups(topics[at].1.iter().map(|j| Ranked::new(j, ranking, view)).collect())
            }
            Judgments::Prefs(topics) => {
                Prepared::Prefs(prefs::Merged::new(topic, &topics[at].1, ranking, view)?)
            }
        })
    }

    /// Judgments above 0, in all topics.
    fn positive(&self) -> i64 {
        match self {
            Judgments::Qrels(q) => q.iter().map(|(_, j)| ranked::positive(j)).sum(),
            Judgments::Groups(t) => t.iter().flat_map(|(_, groups)| groups).map(ranked::positive).sum(),
            Judgments::Prefs(_) => 0,
        }
    }

    fn fractions(&self) -> usize {
        let count = |j: &Judged| j.grades().iter().filter(|g| g.fract() != 0.0).count();
        match self {
            Judgments::Qrels(q) => q.iter().map(|(_, j)| count(j)).sum(),
            Judgments::Groups(t) => t.iter().flat_map(|(_, groups)| groups).map(count).sum(),
            Judgments::Prefs(_) => 0,
        }
    }
}

/// The values of a topic in the order of the request's columns, and its lines.
struct Row {
    values: Vec<f64>,
    text: String,
}

/// Evaluates a run as trec_eval does: `qrels` and `run` are files, `zscores` that of `-Z`.
///
/// # Errors
/// Faults in the files; no topic with both judgments and a ranking; measures that the format of judgments
/// does not give.
pub fn evaluate(
    qrels: &Path,
    run: &Path,
    zscores: Option<&Path>,
    request: &Request,
    options: &Options,
) -> Result<Report> {
    let columns = request.columns(options.version)?;
    let read = run::ReadOptions {
        faults: options.faults,
        single: options.version == Version::V9,
        no_remarks: options.version == Version::V9,
    };
    let (judgments, ranked) = rayon::join(|| Judgments::read(qrels, options), || Run::read(run, &read));
    let (judgments, mut warnings) = judgments?;
    let (ranked, more) = ranked?;
    warnings.append(more);
    let zscores = zscores.map(ZScores::read).transpose()?;
    for column in &columns {
        let (needs, have) = (column.measure.needs, judgments.needs());
        if needs != Needs::Any && needs != have {
            let what = format!("{} needs judgments read with -R {}", column.measure.name, needs.format());
            return Err(Error::Usage(what));
        }
    }
    let all = judgments.topics();
    if all.is_empty() {
        let fix = "give the file of judgments first, then the run";
        return Err(Error::input(At::file(qrels), "holds no judgments", fix));
    }
    let topics: Vec<(usize, &str, Option<&Ranking>)> =
        all.iter().enumerate().map(|(at, id)| (at, *id, ranked.get(id))).collect();
    let missing = topics.iter().filter(|(_, _, ranking)| ranking.is_none()).count();
    // Version 10 evaluates a missing topic; version 9 only counts it.
    let shown =
        |ranking: &Option<&Ranking>| ranking.is_some() || options.complete && options.version == Version::V10;
    let topics: Vec<_> = topics.into_iter().filter(|(_, _, ranking)| shown(ranking)).collect();
    if topics.is_empty() {
        let fix = "query ids must be spelled as in the judgments";
        return Err(Error::input(At::file(run), "ranks no query that is judged", fix));
    }
    let view = View { level: options.level, depth: options.depth, judged_only: options.judged_only };
    let names = request::names(&columns);
    let row = |(at, topic, ranking): &(usize, &str, Option<&Ranking>)| -> Result<Row> {
        let prepared = judgments.prepare(*at, topic, *ranking, &view).map_err(|what| {
            Error::input(At::file(qrels), what, "give each pair of passages one preference in a group")
        })?;
        Ok(one(topic, &prepared, ranking.is_none(), &columns, &names, zscores.as_ref(), options))
    };
    let rows: Vec<Row> = topics.par_iter().map(row).collect::<Result<_>>()?;
    let mut text = String::new();
    rows.iter().for_each(|row| text.push_str(&row.text));
    if options.summary {
        let counted = if options.complete { all.len() } else { topics.len() };
        let positive = options.complete.then(|| judgments.positive());
        let whole = Whole { counted, rows: &rows, positive, zscores: zscores.is_some(), tag: &ranked.tag };
        summary(&mut text, &columns, &names, &whole);
    }
    Ok(Report {
        text,
        warnings,
        missing: if options.complete { 0 } else { missing },
        fractions: judgments.fractions(),
    })
}

/// One topic's values and lines.
fn one(
    topic: &str,
    prepared: &Prepared,
    absent: bool,
    columns: &[request::Column],
    names: &[String],
    zscores: Option<&ZScores>,
    options: &Options,
) -> Row {
    let (mut values, mut strings) = (Vec::with_capacity(names.len()), Vec::new());
    for column in columns {
        match column.value(prepared, options) {
            Value::Numbers(numbers) => values.extend(numbers),
            Value::Text(string) => {
                strings.push(string);
                values.push(0.0);
            }
        }
    }
    if absent {
        // What the stand-in for a missing list would claim.
        let claims =
            |name: &str| matches!(name, "num_ret" | "utility" | "rbp_resid") || name.starts_with("unj");
        values.iter_mut().zip(names).filter(|(_, n)| claims(n)).for_each(|(v, _)| *v = 0.0);
        if names.iter().any(|n| n == "relstring") {
            strings.iter_mut().for_each(String::clear);
        }
    }
    if let Some(z) = zscores {
        values.iter_mut().zip(names).for_each(|(v, name)| *v = z.convert(topic, name, *v));
    }
    let mut text = String::new();
    if options.per_query {
        let (mut at, mut strings) = (0, strings.iter());
        for column in columns {
            for name in &names[at..at + column.width()] {
                match column.measure.single {
                    Print::Nothing => {}
                    Print::Text => {
                        let string = strings.next().map_or("", String::as_str);
                        let _ = writeln!(text, "{name:<22}\t{topic}\t'{string}'");
                    }
                    kind => line(&mut text, name, topic, values[at], kind, zscores.is_some()),
                }
                at += 1;
            }
        }
    }
    Row { values, text }
}

/// All topics.
struct Whole<'a> {
    counted: usize,
    rows: &'a [Row],
    /// Relevant judgments of all topics, where missing ones count.
    positive: Option<i64>,
    zscores: bool,
    tag: &'a str,
}

fn summary(text: &mut String, columns: &[request::Column], names: &[String], whole: &Whole<'_>) {
    let n = whole.counted as f64;
    let mut at = 0;
    for column in columns {
        for name in &names[at..at + column.width()] {
            let sum = whole.rows.iter().fold(0.0, |sum, row| sum + row.values[at]);
            let value = match column.measure.sum {
                Sum::Mean => sum / n,
                Sum::Total => sum,
                Sum::Topics => n,
                Sum::Relevant => whole.positive.map_or(sum, |p| p as f64),
                Sum::Geometric => ((sum + (n - whole.rows.len() as f64) * LEAST.ln()) / n).exp(),
            };
            match column.measure.total {
                Print::Nothing => {}
                Print::Text => {
                    let _ = writeln!(text, "{name:<22}\tall\t{}", whole.tag);
                }
                kind => line(text, name, "all", value, kind, whole.zscores),
            }
            at += 1;
        }
    }
}

/// A line as C's `printf("%-22s\t%s\t%6.4f\n")` writes it, or `%ld` for counts.
fn line(text: &mut String, name: &str, topic: &str, value: f64, kind: Print, zscores: bool) {
    let z = if zscores { "Z" } else { "" };
    // Writing to a string cannot fail.
    let _ = match kind {
        Print::Count if !zscores => writeln!(text, "{name:<22}\t{topic}\t{}", value as i64),
        // What 0/0 is on the machines that trec_eval runs on.
        _ if value.is_nan() => writeln!(text, "{z}{name:<22}\t{topic}\t  -nan"),
        _ => writeln!(text, "{z}{name:<22}\t{topic}\t{value:6.4}"),
    };
}
