//! `polygrade calibrate`: a collection → the best threshold for each language and scenario, and a report.

use super::common::{Base, NewEncoder, langs};
use super::training::Training;
use crate::ui::{Ui, table};
use indicatif::ProgressBar;
use polygrade_calibrate::choose::Verdict;
use polygrade_calibrate::lab::Watch;
use polygrade_calibrate::outcome::{Cell, test_of};
use polygrade_calibrate::plan::{Equal, RaceSettings, Search};
use polygrade_calibrate::planted::Spec;
use polygrade_calibrate::{Alteration, Calibration, Made, Method, Plan, report, self_test};
use polygrade_data::{Collection, Error, Lang, Result, Split, io};
use polygrade_train::{LabelPolicies, Loss, Policy, Scenario, Settings};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade calibrate collections/mini --out runs/mini\n  \
    polygrade calibrate sts --scenario monolingual,mixture --grid 1,2,3,4,5 --seeds 5 --out runs/sts\n  \
    polygrade calibrate collections/mini --grid 1,2,3,0:2,all,bixse,cosent --search grid --out runs/all\n\n\
    A run that was stopped goes on where it was when the same command is given again.")]
pub(crate) struct Args {
    /// The collection, with judgments in train, dev and test
    #[arg(required_unless_present = "self_test")]
    collection: Option<PathBuf>,
    /// Folder of calibration.json, calibrated.toml, report.html and the finished arms
    #[arg(long, required_unless_present = "self_test")]
    out: Option<PathBuf>,
    /// Run the race on N generated collections whose best thresholds are known, and say whether it finds them
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "20", conflicts_with_all = ["collection", "out"])]
    self_test: Option<u64>,
    /// Scenarios, separated by commas; all that the collection allows unless given
    #[arg(long)]
    scenario: Option<String>,
    /// Languages, separated by commas; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// In the cross-lingual scenario, a model and a race for each of these pairs of languages, QUERIES:PASSAGES such as
    /// en:de,de:en, in place of one model for all; `each` for all pairs that are judged in train and dev
    #[arg(long, value_name = "PAIRS", value_delimiter = ',')]
    pairs: Vec<String>,
    /// Models for each method at most, with different seeds
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// What competes: thresholds (2), bands (0:2), soft:2, all (all thresholds at once), and graded losses (bixse,
    /// cosent …), separated by commas; every grade above 0 as a threshold unless given
    #[arg(long)]
    grid: Option<String>,
    #[command(flatten)]
    search: SearchArgs,
    /// Also train every method to the end on altered training judgments, and draw curves: a part of the data
    /// (queries:0.25, judgments:0.5) or noise (adjacent:0.2, uniform:0.1, confusion:FILE:1); several, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    study: Vec<String>,
    /// The method to which studies of data compare the others
    #[arg(long, value_name = "METHOD", default_value = "1")]
    default_tau: String,
    /// `static` for new encoders, or the folder of a model to go on from
    #[arg(long, default_value = "static")]
    encoder: String,
    #[command(flatten)]
    new: NewEncoder,
    #[command(flatten)]
    training: Training,
}

/// How the best method is looked for.
#[derive(clap::Args)]
#[command(next_help_heading = "Search")]
struct SearchArgs {
    /// race: all start on a small budget, and those that are significantly worse are dropped; grid: all are trained
    /// to the end with every seed
    #[arg(long, default_value = "race", value_parser = ["race", "grid"])]
    search: String,
    /// Training tokens of the race at most, as a share of the grid's [default: 0.45, 0.3 for six methods or more]
    #[arg(long, value_name = "SHARE")]
    budget: Option<f64>,
    /// Differences in nDCG@10 within ± this much are no difference
    #[arg(long, default_value_t = 0.005, value_name = "X")]
    margin: f64,
    /// Shares of the steps at which the race compares
    #[arg(long, default_value = "0.25,0.5,1", value_name = "SHARES", value_delimiter = ',')]
    rungs: Vec<f64>,
    /// Seeds of the race, as long as it has not come down to few methods
    #[arg(long, default_value_t = 2, value_name = "N")]
    race_seeds: usize,
    /// What methods are given equally much of: steps (more positives make more pairs), or pairs of query and positive
    /// (more positives make fewer steps)
    #[arg(long, default_value = "steps", value_parser = ["steps", "pairs"])]
    equal: String,
    /// Cross-fitting for few dev queries: the queries of train and dev in so many parts, each measured by models
    /// trained on the others; 0 never, auto: 5 where a language has fewer than 25 dev queries
    #[arg(long, default_value = "auto", value_name = "N")]
    folds: String,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    if let Some(seeds) = args.self_test {
        return self_test(seeds, ui);
    }
    let (Some(folder), Some(out)) = (&args.collection, &args.out) else {
        return Err(Error::Usage("a collection and --out are needed".into()));
    };
    let collection = Collection::load(folder)?;
    let base = args.new.base(&args.encoder, &collection)?;
    let plan = plan(&args, &collection, &base)?;
    let found = search(&collection, &plan, &base, out, ui)?;
    ui.result(&found, |c| {
        let (labels, report) = (out.join("calibrated.toml"), out.join("report.html"));
        format!("{}labels: {}\nreport: {}", text(c), labels.display(), report.display())
    })
}

/// Runs the plan and writes its three files to `out`.
fn search(collection: &Collection, plan: &Plan, base: &Base, out: &Path, ui: &Ui) -> Result<Calibration> {
    let started = Instant::now();
    plan.check(collection)?;
    ui.note(&format!(
        "{}: {} languages, {} methods, {} seeds, {} scenarios",
        collection.meta.name,
        plan.langs.len(),
        plan.grid.len(),
        plan.seeds.len(),
        plan.scenarios.len()
    ));
    if let Search::Race(race) = &plan.search
        && race.seeds.min(plan.seeds.len()) < 2
    {
        ui.note("one seed: intervals do not know how much chance is in a training");
    }
    if plan.folds > 0 {
        ui.note(&format!("few dev queries: cross-fitting in {} folds of train and dev", plan.folds));
    }
    let bar = Bar(ui.progress("models", 0));
    let encoder = |seed| base.encoder(seed);
    let results = polygrade_calibrate::run(collection, plan, &encoder, out, &bar)?;
    bar.0.finish_and_clear();
    if results.resumed > 0 {
        ui.note(&format!("{} measurements were there from an earlier run", results.resumed));
    }
    let made = made(plan, started.elapsed().as_secs_f64());
    let found = Calibration::new(collection, plan, &results, made)?;
    let head = format!(
        "Label policies that polygrade {} calibrated on {}.\nUse: polygrade train COLLECTION --labels THIS --scenario …",
        found.made.version, found.collection
    );
    io::write(&out.join("calibration.json"), found.to_json()?.as_bytes())?;
    io::write(&out.join("calibrated.toml"), found.policies().to_toml(&head)?.as_bytes())?;
    io::write(&out.join("report.html"), report::html(&found).as_bytes())?;
    Ok(found)
}

/// The labels that a race over all thresholds gives for one scenario, for `train --labels auto`. The race is kept in
/// `out`, as `calibrate` keeps it.
pub(super) fn auto(
    collection: &Collection,
    (base, encoder): (&Base, String),
    (scenario, langs): (Scenario, &[Lang]),
    settings: Settings,
    out: &Path,
    ui: &Ui,
) -> Result<LabelPolicies> {
    let grid = Plan::default_grid(collection, langs);
    let first = settings.seed;
    let plan = Plan {
        scenarios: vec![scenario],
        langs: langs.to_vec(),
        pairs: Vec::new(),
        default: grid.first().copied().unwrap_or(Method::Policy(Policy::Threshold(1.0))),
        seeds: (first..first.saturating_add(3)).collect(),
        search: Search::Race(RaceSettings::for_methods(grid.len())),
        grid,
        settings,
        level: 0.95,
        encoder,
        equal: Equal::Steps,
        folds: folds(collection, langs),
        studies: Vec::new(),
        teacher: None,
    };
    let found = search(collection, &plan, base, out, ui)?;
    ui.note(&text(&found));
    Ok(found.policies())
}

fn plan(args: &Args, collection: &Collection, base: &Base) -> Result<Plan> {
    let langs = langs(args.langs.as_deref(), collection)?;
    let scenarios: Vec<Scenario> = match &args.scenario {
        Some(names) => names
            .split(',')
            .map(|n| {
                let scenario = Scenario::parse(n.trim());
                scenario.ok_or_else(|| {
                    Error::Usage(format!("{n:?} is no scenario: monolingual, mixture, cross-lingual"))
                })
            })
            .collect::<Result<_>>()?,
        None => possible(collection, &langs),
    };
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|s| scenarios.contains(s)).collect();
    let mut grid = match &args.grid {
        Some(text) => text
            .split(',')
            .map(|p| {
                Method::parse(p).ok_or_else(|| {
                    let what = format!(
                        "--grid {p:?}: expected thresholds and bands such as 1,2,3,0:2, or soft:2, all, bixse, cosent …"
                    );
                    Error::Usage(what)
                })
            })
            .collect::<Result<_>>()?,
        None => Plan::default_grid(collection, &langs),
    };
    // Thresholds first, from low to high, then bands, then the others: the order of the charts.
    grid.sort_by(|a: &Method, b: &Method| {
        a.order().partial_cmp(&b.order()).unwrap_or(std::cmp::Ordering::Equal)
    });
    grid.dedup();
    if !(1..=1000).contains(&args.seeds) {
        return Err(Error::Usage("--seeds must be 1 to 1000".into()));
    }
    let first = args.training.seed;
    let mut settings = args.training.settings(base)?;
    settings.negatives = args.training.negative_settings.load(collection, &langs)?;
    if settings.align.is_some() {
        return Err(Error::Usage("--align is for train; calibrate compares labels and losses".into()));
    }
    if settings.loss.name != Loss::InfoNce {
        return Err(Error::Usage(
            "--loss is for train; calibrate compares the losses that --grid names".into(),
        ));
    }
    let teacher = args.training.loss.teacher(collection)?;
    let own = &args.search;
    let search = match own.search.as_str() {
        "grid" => Search::Grid,
        _ => Search::Race(RaceSettings {
            rungs: own.rungs.clone(),
            seeds: own.race_seeds,
            margin: own.margin,
            budget: own.budget.unwrap_or(RaceSettings::for_methods(grid.len()).budget),
        }),
    };
    let folds = match own.folds.as_str() {
        "auto" => folds(collection, &langs),
        n => n
            .parse()
            .ok()
            .filter(|n| *n <= 100)
            .ok_or_else(|| Error::Usage(format!("--folds {n:?}: expected auto, 0, or 2 to 100")))?,
    };
    Ok(Plan {
        scenarios,
        pairs: pairs(&args.pairs, collection, &langs)?,
        langs,
        seeds: (first..first.saturating_add(args.seeds)).collect(),
        settings,
        teacher,
        level: 0.95,
        encoder: describe(&args.encoder, &args.new, base),
        search,
        equal: if own.equal == "pairs" { Equal::Pairs } else { Equal::Steps },
        folds,
        studies: args.study.iter().map(|s| Alteration::parse(s)).collect::<Result<_>>()?,
        default: Method::parse(&args.default_tau)
            .filter(|m| args.study.is_empty() || grid.contains(m))
            .ok_or_else(|| {
                Error::Usage(format!("--default-tau {:?} is not in the grid", args.default_tau))
            })?,
        grid,
    })
}

/// The pairs of languages that `--pairs` asks for.
fn pairs(asked: &[String], collection: &Collection, langs: &[Lang]) -> Result<Vec<(Lang, Lang)>> {
    if asked.iter().any(|p| p.trim() == "each") {
        let judged = |split: Split| {
            let graded = collection.graded(split);
            let mut out = BTreeSet::new();
            for &q in graded.queries() {
                let query = &collection.queries[q as usize].lang;
                let relevant = graded.judged(q).filter(|(_, grade)| *grade > 0.0);
                out.extend(relevant.map(|(p, _)| (query, &collection.passages[p as usize].lang)));
            }
            out
        };
        let (train, dev) = (judged(Split::Train), judged(Split::Dev));
        let all = langs.iter().flat_map(|q| langs.iter().map(move |p| (q, p)));
        let both = all.filter(|pair| pair.0 != pair.1 && train.contains(pair) && dev.contains(pair));
        let found: Vec<(Lang, Lang)> = both.map(|(q, p)| (q.clone(), p.clone())).collect();
        let none = "--pairs each: no pair of languages has a relevant passage both in train and in dev";
        return if found.is_empty() { Err(Error::Usage(none.into())) } else { Ok(found) };
    }
    let mut out = Vec::new();
    for text in asked {
        let parse = || {
            Some(text.split_once(':')?)
                .and_then(|(q, p)| Some((Lang::parse(q.trim())?, Lang::parse(p.trim())?)))
        };
        let pair = parse().ok_or_else(|| {
            Error::Usage(format!("--pairs {text:?}: expected QUERIES:PASSAGES such as en:de, or each"))
        })?;
        if !out.contains(&pair) {
            out.push(pair);
        }
    }
    Ok(out)
}

/// Races on collections of planted truth.
fn self_test(seeds: u64, ui: &Ui) -> Result<()> {
    let dir = tempfile::tempdir().map_err(|e| Error::io(&std::env::temp_dir(), e))?;
    let bar = Bar(ui.progress("collections", seeds));
    let found = self_test::run(seeds, &Spec::default(), dir.path(), &bar)?;
    bar.0.finish_and_clear();
    ui.result(&found, |f| {
        let list = |m: &[Method]| m.iter().map(Method::to_string).collect::<Vec<_>>().join(" ");
        let row = |c: &self_test::Found| {
            vec![
                c.seed.to_string(),
                c.lang.clone(),
                c.planted.map_or("none".into(), |m| m.to_string()),
                if c.visible { "yes" } else { "no" }.into(),
                list(&c.left),
                list(&c.grid_left),
                if c.falsely_certain { "yes" } else { "" }.into(),
            ]
        };
        let head =
            ["seed", "language", "planted τ", "visible", "race leaves", "grid leaves", "falsely certain"];
        format!(
            "{}\nplanted threshold named in {:.1} % of {} cells where it can be seen (90 % promised)\n\
             false certainty in {:.1} % of {} cells (at most 5 % promised); {} of the {} where nothing was planted\n\
             answer among those that the full grid leaves: {:.1} %, at {:.0} % of its training tokens\n{}",
            table(&head, &f.cells.iter().map(row).collect::<Vec<_>>()),
            100.0 * f.named,
            f.visible,
            100.0 * f.falsely_certain,
            f.cells.len(),
            f.false_in_null,
            f.null,
            100.0 * f.agrees_with_grid,
            100.0 * f.cost,
            if f.passed { "passed" } else { "FAILED" }
        )
    })?;
    if found.passed { Ok(()) } else { Err(Error::Internal("the race does not keep its promises".into())) }
}

/// What training starts from, in words.
pub(super) fn describe(encoder: &str, new: &NewEncoder, base: &Base) -> String {
    match encoder {
        "static" => format!("new static encoder, {}", new.describe()),
        dir => format!("{dir}, weights {:016x}", base.encoder(0).fingerprint()),
    }
}

/// Folds where a language has too few dev queries to tell anything.
fn folds(collection: &Collection, langs: &[Lang]) -> u32 {
    let dev = collection.graded(Split::Dev);
    let of =
        |lang: &Lang| dev.queries().iter().filter(|q| collection.queries[**q as usize].lang == *lang).count();
    let fewest = langs.iter().map(of).filter(|n| *n > 0).min().unwrap_or(0);
    if (1..25).contains(&fewest) { 5 } else { 0 }
}

/// With one language there is no mixture, and without judged translations nothing crosses languages.
fn possible(collection: &Collection, langs: &[Lang]) -> Vec<Scenario> {
    let graded = collection.graded(polygrade_data::Split::Train);
    let meets = |scenario: Scenario| {
        graded.queries().iter().any(|&q| {
            let lang = &collection.queries[q as usize].lang;
            graded
                .judged(q)
                .any(|(p, g)| g > 0.0 && scenario.pairs(lang, &collection.passages[p as usize].lang))
        })
    };
    let possible = |s: &Scenario| meets(*s) && (langs.len() > 1 || *s == Scenario::Monolingual);
    Scenario::ALL.into_iter().filter(possible).collect()
}

fn made(plan: &Plan, seconds: f64) -> Made {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400);
    let quote = |a: String| if a.contains([' ', '\'', '"']) { format!("{a:?}") } else { a };
    let command = std::env::args_os()
        .skip(1)
        .map(|a| quote(a.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ");
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok();
    let cpu = cpu.as_deref().and_then(|t| t.lines().find(|l| l.starts_with("model name"))?.split_once(": "));
    Made {
        command: format!("polygrade {command}"),
        version: env!("CARGO_PKG_VERSION").into(),
        encoder: plan.encoder.clone(),
        settings: format!("{:?}", plan.settings),
        date: date(days),
        seconds,
        threads: rayon::current_num_threads(),
        machine: format!(
            "{}, {} {}",
            cpu.map_or("unknown processor", |c| c.1),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    }
}

/// The date of a day since 1970 (Howard Hinnant's civil_from_days).
fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

struct Bar(ProgressBar);

impl Watch for Bar {
    fn total(&self, rungs: usize) {
        self.0.set_length(rungs as u64);
    }
    fn done(&self, arm: &str) {
        self.0.inc(1);
        self.0.set_message(format!("{arm},"));
    }
}

fn text(c: &Calibration) -> String {
    let mut out = String::new();
    let scenarios: Vec<Scenario> =
        Scenario::ALL.into_iter().filter(|s| c.cells.iter().any(|x| x.scenario == *s)).collect();
    for scenario in scenarios {
        let row = |cell: &Cell| {
            let rivals = match cell.tau_equivalent.as_slice() {
                many if many.len() > 6 => format!("{} of {}", many.len(), c.grid.len()),
                few => few.iter().map(Method::to_string).collect::<Vec<_>>().join(" "),
            };
            let mean = |p: &Method| cell.policies.iter().find(|r| r.policy == *p).map_or(0.0, |r| r.mean);
            let test = test_of(c, cell);
            let value =
                |system: &str| test.get(system).map_or("–".to_owned(), |r| format!("{:.3}", r.mean));
            vec![
                cell.name(),
                cell.tau_best.to_string(),
                format!("{:.3}", mean(&cell.tau_best)),
                rivals,
                match cell.verdict {
                    Verdict::Settled => "settled",
                    Verdict::Equivalent => "equivalent",
                    Verdict::Open => "open",
                }
                .to_owned(),
                cell.tau_chosen.to_string(),
                value("calibrated"),
                value("untrained"),
                value("bm25"),
            ]
        };
        let rows: Vec<Vec<String>> = c.parts(scenario).chain(c.overall(scenario)).map(row).collect();
        out += &format!("{} ({} on dev; on test at the end)\n", scenario.name(), c.metric);
        let head =
            ["queries in", "best", "dev", "as good", "verdict", "chosen", "calibrated", "untrained", "BM25"];
        out += &table(&head, &rows);
        out.push('\n');
    }
    out + &cost(c)
}

/// What the search cost.
fn cost(c: &Calibration) -> String {
    let (own, grid) = (c.search.tokens as f64 / 1e6, c.search.grid_tokens as f64 / 1e6);
    match c.search.kind {
        "race" if grid > 0.0 => format!(
            "race: {own:.2} million training tokens, {:.0} % of the full grid's {grid:.2} million; {:.2} million with all \
             that was trained for the final models\n",
            100.0 * own / grid,
            c.search.total_tokens as f64 / 1e6
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(20_783), "2026-11-26");
    }
}
