//! `polygrade calibrate`: a collection → the best threshold for each language and scenario, and a report.

use super::common::{Base, NewEncoder, langs};
use super::training::Training;
use crate::ui::{Ui, table};
use indicatif::ProgressBar;
use polygrade_calibrate::arms::Watch;
use polygrade_calibrate::outcome::{ALL, Cell, test_of};
use polygrade_calibrate::{Calibration, Made, Plan, report};
use polygrade_data::{Collection, Error, Lang, Result, io};
use polygrade_train::{Policy, Scenario};
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade calibrate collections/mini --out runs/mini\n  \
    polygrade calibrate sts --scenario monolingual,mixture --grid 1,2,3,4,5 --seeds 5 --out runs/sts\n\n\
    A run that was stopped goes on where it was when the same command is given again.")]
pub(crate) struct Args {
    /// The collection, with judgments in train, dev and test
    collection: PathBuf,
    /// Folder of calibration.json, calibrated.toml, report.html and the finished arms
    #[arg(long)]
    out: PathBuf,
    /// Scenarios, separated by commas; all that the collection allows unless given
    #[arg(long)]
    scenario: Option<String>,
    /// Languages, separated by commas; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// Models for each threshold, with different seeds
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Thresholds and bands to try, such as 1,2,3,0:2; every grade above 0 unless given
    #[arg(long)]
    grid: Option<String>,
    /// `static` for new encoders, or the folder of a model to go on from
    #[arg(long, default_value = "static")]
    encoder: String,
    #[command(flatten)]
    new: NewEncoder,
    #[command(flatten)]
    training: Training,
}

pub(crate) fn run(args: Args, ui: &Ui) -> Result<()> {
    let started = Instant::now();
    let collection = Collection::load(&args.collection)?;
    let base = args.new.base(&args.encoder, &collection)?;
    let plan = plan(&args, &collection, &base)?;
    plan.check(&collection)?;
    ui.note(&format!(
        "{}: {} languages, {} policies, {} seeds, {} scenarios",
        collection.meta.name,
        plan.langs.len(),
        plan.grid.len(),
        plan.seeds.len(),
        plan.scenarios.len()
    ));
    let bar = Bar(ui.progress("models", 0));
    let results = polygrade_calibrate::run(&collection, &plan, &|seed| base.encoder(seed), &args.out, &bar)?;
    bar.0.finish_and_clear();
    if results.resumed > 0 {
        ui.note(&format!("{} models were there from an earlier run", results.resumed));
    }
    let made = made(&plan, started.elapsed().as_secs_f64());
    let found = Calibration::new(&collection, &plan, &results, made)?;

    let head = format!(
        "Label policies that polygrade {} calibrated on {}.\nUse: polygrade train COLLECTION --labels THIS --scenario …",
        found.made.version, found.collection
    );
    let report = args.out.join("report.html");
    io::write(&args.out.join("calibration.json"), found.to_json()?.as_bytes())?;
    io::write(&args.out.join("calibrated.toml"), found.policies().to_toml(&head)?.as_bytes())?;
    io::write(&report, report::html(&found).as_bytes())?;
    ui.result(&found, |c| {
        format!(
            "{}labels: {}\nreport: {}",
            text(c),
            args.out.join("calibrated.toml").display(),
            report.display()
        )
    })
}

fn plan(args: &Args, collection: &Collection, base: &Base) -> Result<Plan> {
    let langs = langs(args.langs.as_deref(), collection)?;
    let scenarios = match &args.scenario {
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
    let grid = match &args.grid {
        Some(text) => text
            .split(',')
            .map(|p| {
                let fault =
                    || Error::Usage(format!("--grid {p:?}: expected thresholds and bands such as 1,2,3,0:2"));
                Policy::parse(p).ok_or_else(fault)
            })
            .collect::<Result<_>>()?,
        None => Plan::default_grid(collection, &langs),
    };
    let mut unique: Vec<Policy> = Vec::new();
    grid.into_iter().for_each(|p: Policy| {
        if !unique.contains(&p) {
            unique.push(p)
        }
    });
    // Thresholds first, from low to high, then bands: the order of the charts.
    unique.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
    let grid = unique;
    if !(1..=1000).contains(&args.seeds) {
        return Err(Error::Usage("--seeds must be 1 to 1000".into()));
    }
    let first = args.training.seed;
    Ok(Plan {
        scenarios,
        langs,
        grid,
        seeds: (first..first.saturating_add(args.seeds)).collect(),
        settings: args.training.settings(&base.encoder(first))?,
        level: 0.95,
        encoder: match args.encoder.as_str() {
            "static" => format!("new static encoder, {}", args.new.describe()),
            dir => format!("{dir}, weights {:016x}", base.encoder(0).fingerprint()),
        },
    })
}

fn order(policy: &Policy) -> (u8, f32, f32) {
    match *policy {
        Policy::Threshold(t) => (0, t, t),
        Policy::Band { lo, hi } => (1, hi, lo),
        Policy::Soft(t) => (2, t, t),
        Policy::AllThresholds => (3, 0.0, 0.0),
        Policy::Graded => (4, 0.0, 0.0),
    }
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
    fn total(&self, arms: usize) {
        self.0.set_length(arms as u64);
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
            let rivals: Vec<String> = cell.tau_equivalent.iter().map(Policy::to_string).collect();
            let mean = |p: &Policy| cell.policies.iter().find(|r| r.policy == *p).map_or(0.0, |r| r.mean);
            let test = test_of(c, scenario, &cell.query_lang);
            let value =
                |system: &str| test.get(system).map_or("–".to_owned(), |r| format!("{:.3}", r.mean));
            vec![
                cell.query_lang.clone(),
                cell.tau_best.to_string(),
                format!("{:.3}", mean(&cell.tau_best)),
                rivals.join(" "),
                cell.tau_chosen.to_string(),
                value("calibrated"),
                value("untrained"),
                value("bm25"),
            ]
        };
        let (all, langs): (Vec<&Cell>, Vec<&Cell>) =
            c.cells.iter().filter(|x| x.scenario == scenario).partition(|x| x.query_lang == ALL);
        let rows: Vec<Vec<String>> = langs.into_iter().chain(all).map(row).collect();
        out += &format!("{} ({} on dev; on test at the end)\n", scenario.name(), c.metric);
        let head = ["queries in", "best τ", "dev", "as good", "chosen", "calibrated", "untrained", "BM25"];
        out += &table(&head, &rows);
        out.push('\n');
    }
    out
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
