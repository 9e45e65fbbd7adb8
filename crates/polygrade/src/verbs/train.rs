//! `polygrade train`: a collection and a label policy → a model.

use super::common::{Base, LabelArgs, NewEncoder, langs, note_unmatched, scenario};
use super::select::{ADAPTER, Best, Selection};
use super::training::{HeadArgs, Training};
use crate::ui::Ui;
use polygrade_data::io::{self, AtomicDir};
use polygrade_data::{Collection, Error, Lang, Result, Split};
use polygrade_encoder::FrozenEncoder;
use polygrade_encoder::checkpoint::Dtype;
use polygrade_eval::{Measure, Pool};
use polygrade_train::evaluate::{evaluate, queries_in};
use polygrade_train::examples::Added;
use polygrade_train::{
    Examples, LabelPolicies, Loss, Parallel, Policy, Scenario, Settings, TeacherScores, TokenizedCollection,
    Trainer,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    polygrade train collections/mini --tau 2 --out model\n  \
    polygrade train collections/mini --loss bixse --out graded\n  \
    polygrade train collections/mini --labels runs/mini/calibrated.toml --scenario monolingual --langs sw --out sw\n  \
    polygrade train collections/mini --tau 2 --align jsd=1 --out aligned\n  \
    polygrade train collections/mini --tau 2 --encoder intfloat/multilingual-e5-small --freeze-encoder --out adapted")]
pub(crate) struct Args {
    /// The collection
    collection: PathBuf,
    /// Folder of the model; with --scenario monolingual one folder a language in it
    #[arg(long)]
    out: PathBuf,
    /// `static` for a new one, or a model to go on from: its folder, or its name on the Hugging Face hub
    #[arg(long, default_value = "static")]
    encoder: String,
    // `graded` where a loss of grades is asked for and nothing said; `--labels auto` races first.
    #[command(flatten)]
    labels: LabelArgs,
    /// Languages, separated by commas; all unless given
    #[arg(long)]
    langs: Option<String>,
    /// Languages of the queries to train on and to measure on dev, among --langs; all of them unless given. With
    /// --scenario cross-lingual --langs en,de, `en` makes a model for queries in English and passages in German
    #[arg(long)]
    query_langs: Option<String>,
    /// monolingual, mixture or cross-lingual
    #[arg(long, default_value = "mixture")]
    scenario: String,
    #[command(flatten)]
    new: NewEncoder,
    #[command(flatten)]
    training: Training,
    #[command(flatten)]
    head: HeadArgs,
    #[command(flatten)]
    selection: Selection,
    /// Write a checkpoint every so many steps
    #[arg(long, default_value_t = 500, value_name = "STEPS")]
    save_steps: u64,
}

#[derive(Serialize)]
struct Trained {
    out: String,
    langs: Vec<Lang>,
    queries: usize,
    queries_without_positive: usize,
    steps: u64,
    /// The step whose model was kept.
    kept_step: u64,
    last_loss: f64,
    /// What became of the hard negatives; `null` without a file of them.
    hard_negatives: Option<Added>,
    /// Negatives that a mask dropped from the batches of this run, all in all.
    masked: usize,
    /// `null` where no dev query is judged.
    dev_ndcg_10: Option<f64>,
    seconds: f64,
}

pub(crate) fn run(mut args: Args, ui: &Ui) -> Result<()> {
    // Without a slash at the end, which would put the checkpoint inside.
    args.out = args.out.components().collect();
    let scenario = scenario(&args.scenario)?;
    let policies = match (&args.labels.tau, &args.labels.labels) {
        (None, None) if args.training.loss.loss.is_graded() => Some(LabelPolicies::uniform(Policy::Graded)),
        (None, Some(file)) if file.as_os_str() == "auto" => None,
        _ => Some(args.labels.policies()?),
    };
    let collection = Collection::load(&args.collection)?;
    let langs = langs(args.langs.as_deref(), &collection)?;
    if scenario != Scenario::Mixture && args.training.is_hybrid()? {
        return Err(Error::Usage("--batches hybrid is for the mixture".into()));
    }
    if scenario == Scenario::CrossLingual && langs.len() < 2 {
        return Err(Error::Usage("the cross-lingual scenario needs two languages or more".into()));
    }
    let query_langs = args.query_langs.as_ref().map(|l| self::langs(Some(l), &collection)).transpose()?;
    if let Some(other) = query_langs.iter().flatten().find(|l| !langs.contains(l)) {
        return Err(Error::Usage(format!("--query-langs {other}: it is not among the languages of --langs")));
    }
    let several = scenario == Scenario::Monolingual && langs.len() > 1;
    if several && query_langs.is_some() {
        return Err(Error::Usage("--query-langs is for one model of several languages".into()));
    }
    if !several {
        check_free(&args.out)?;
    }
    let base = args.new.base(&args.encoder, &collection)?;
    let mut settings = match args.head.is_wanted() {
        true => {
            let encoder = base.encoder(args.training.seed);
            args.training.settings_over(&encoder, Settings::for_head(&encoder))?
        }
        false => args.training.settings(&base)?,
    };
    settings.negatives = args.training.negative_settings.load(&collection, &langs)?;
    let policies = match policies {
        Some(policies) => policies,
        None if query_langs.is_some() => {
            let what = "--labels auto races all queries; for --query-langs calibrate first, with --pairs";
            return Err(Error::Usage(what.into()));
        }
        None => auto(&args, &collection, &base, (scenario, &langs), &settings, ui)?,
    };
    note_unmatched(&policies, &collection, ui);
    for (lang, _) in &settings.loss.lang_temperatures {
        if !collection.queries.iter().any(|q| q.lang == *lang) {
            ui.note(&format!("--lang-temperature {lang}: no query is in this language"));
        }
    }
    let mut done = Vec::new();
    let encoder = base.encoder(settings.seed);
    let texts = TokenizedCollection::new(&collection, &*encoder)?;
    let align = &args.training.align;
    let frozen = match args.head.is_wanted() {
        true => {
            ui.note("computing the vectors of the collection's texts");
            Some(args.head.freeze(encoder.clone(), (&collection, &texts), &langs, &settings)?)
        }
        false => None,
    };
    let parallel = align.parallel(&collection, &langs, (scenario, &policies), &*encoder, ui)?;
    drop(encoder);
    let teacher = args.training.loss.teacher(&collection)?;
    let job = Job {
        args: &args,
        collection: &collection,
        base,
        texts,
        frozen,
        parallel,
        scenario,
        query_langs,
        policies,
        settings,
        teacher,
    };
    if several {
        for lang in langs {
            let out = args.out.join(lang.as_str());
            done.extend(job.train(&[lang], &out, true, ui)?);
        }
        if done.is_empty() {
            ui.note("nothing was left to train");
        }
    } else {
        done.extend(job.train(&langs, &args.out, false, ui)?);
    }
    ui.result(&done, |done| {
        let line = |t: &Trained| {
            let (n, s, loss, dev) = (t.queries, t.steps, t.last_loss, t.dev_ndcg_10);
            let dev = dev.map_or("–".into(), |d| format!("{d:.4}"));
            let masked =
                if t.masked > 0 { format!("{} negatives masked, ", t.masked) } else { String::new() };
            format!("{}: {n} queries, {s} steps, {masked}last loss {loss:.3}, dev nDCG@10 {dev}", t.out)
        };
        done.iter().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// The labels of a race, which is kept beside the model.
fn auto(
    args: &Args,
    collection: &Collection,
    base: &Base,
    (scenario, langs): (Scenario, &[Lang]),
    settings: &Settings,
    ui: &Ui,
) -> Result<LabelPolicies> {
    if args.head.is_wanted() {
        let what = "--labels auto races encoders, not heads; calibrate first, then give its calibrated.toml";
        return Err(Error::Usage(what.into()));
    }
    if settings.align.is_some() || settings.loss.name != Loss::InfoNce {
        let what = "--labels auto races thresholds under InfoNCE alone; calibrate first, then give its calibrated.toml";
        return Err(Error::Usage(what.into()));
    }
    let mut out = args.out.as_os_str().to_owned();
    out.push(".calibration");
    let encoder = super::calibrate::describe(&args.encoder, &args.new, base);
    let at = (scenario, langs);
    super::calibrate::auto(collection, (base, encoder), at, settings.clone(), Path::new(&out), ui)
}

fn check_free(out: &Path) -> Result<()> {
    if out.exists() && out.read_dir().map_err(|e| Error::io(out, e))?.next().is_some() {
        return Err(Error::Usage(format!("{} exists and is not empty; choose another --out", out.display())));
    }
    Ok(())
}

/// The file in a model's folder that says which run made it.
const RUN_FILE: &str = "training.txt";

/// What the models of one command share.
struct Job<'a> {
    args: &'a Args,
    collection: &'a Collection,
    base: Base,
    texts: TokenizedCollection,
    /// The encoder under a head, and the texts as it knows them.
    frozen: Option<(FrozenEncoder, TokenizedCollection)>,
    parallel: Option<Parallel>,
    scenario: Scenario,
    query_langs: Option<Vec<Lang>>,
    policies: LabelPolicies,
    settings: Settings,
    teacher: Option<Arc<TeacherScores>>,
}

impl Job<'_> {
    /// Trains one model. As one of `several`, a language without a training query is passed over, and so is a
    /// model that this very run has made before.
    fn train(&self, langs: &[Lang], out: &Path, several: bool, ui: &Ui) -> Result<Option<Trained>> {
        let Job { args, collection, base, texts, frozen, parallel, policies, settings, teacher, .. } = self;
        let texts = frozen.as_ref().map_or(texts, |(_, texts)| texts);
        let scenario = self.scenario;
        let asking = self.query_langs.as_deref().unwrap_or(langs);
        let pair = match (scenario, asking, langs) {
            (Scenario::CrossLingual, [query], [a, b]) => Some((query, if a == query { b } else { a })),
            (Scenario::Monolingual | Scenario::Mixture, _, [one]) => Some((one, one)),
            _ => None,
        };
        let asked = settings.loss.name == Loss::InfoNce;
        let settings = &match policies.loss_of(scenario, pair).filter(|_| asked) {
            Some(loss) => settings.with_loss(loss),
            None => settings.clone(),
        };
        let started = Instant::now();
        let asks = |q: u32| asking.contains(&collection.queries[q as usize].lang);
        let graded = collection.graded(Split::Train).for_queries(asks);
        let mut examples =
            Examples::for_batches(collection, &graded, scenario, langs, policies, &settings.batches);
        if let Some(teacher) = teacher {
            examples.set_teacher(teacher.clone());
            let (pairs, without) = examples.without_teacher();
            if without > 0 {
                ui.note(&format!("{without} of {pairs} pairs have no teacher's score and are left out"));
            }
        }
        if examples.is_empty() && settings.align.is_none_or(|a| a.retrieval > 0.0) {
            if several {
                let lang = langs.first().map_or("", Lang::as_str);
                ui.note(&format!("{lang}: no training query has a positive under this policy; passed over"));
                return Ok(None);
            }
            let what =
                "no training query has a positive under this policy; see: polygrade profile, or lower --tau";
            return Err(Error::Usage(what.into()));
        }
        let hard_negatives = settings.negatives.hard.as_ref().map(|h| examples.add_negatives(collection, h));
        if let Some(a) = hard_negatives {
            ui.note(&format!(
                "hard negatives: {} used; {} refused, as the policy calls them positives or leaves them out; {} judged \
                 negatives already; {} of queries that are not trained on",
                a.pairs, a.refused, a.judged, a.unused
            ));
        }
        let mut trainer = match frozen {
            Some((frozen, _)) => {
                Trainer::with_head(frozen.clone(), &examples, texts, settings.clone(), true)?
            }
            None => Trainer::with_parallel(
                base.encoder(settings.seed),
                &examples,
                texts,
                settings.clone(),
                parallel.as_ref(),
                true,
            )?,
        };
        let identity = format!("{}, {:?}", trainer.identity(), args.selection);
        if several && std::fs::read_to_string(out.join(RUN_FILE)).is_ok_and(|t| t == identity) {
            ui.note(&format!("{} is there already", out.display()));
            return Ok(None);
        }
        check_free(out)?;

        let mut checkpoint = out.as_os_str().to_owned();
        checkpoint.push(".checkpoint");
        let checkpoint = PathBuf::from(checkpoint);
        if checkpoint.exists() {
            trainer.resume(&checkpoint)?;
            ui.note(&format!("going on from {} at step {}", checkpoint.display(), trainer.done()));
        }
        let mut best = Best::open(&args.selection, out, trainer.done() == 0)?;
        let bar = ui.progress("training", trainer.total());
        let (mut pairs, mut masked, mut last_loss) = (0, 0, 0.0);
        while let Some(report) = trainer.next_step() {
            report.check()?;
            pairs += report.pairs;
            masked += report.masked;
            last_loss = report.loss;
            bar.set_position(report.step);
            let speed = pairs as f64 / started.elapsed().as_secs_f64();
            bar.set_message(format!("loss {last_loss:.3}, {speed:.0} pairs/s,"));
            if best.is_due(report.step, trainer.total()) {
                let value = match frozen {
                    Some(_) => dev(collection, texts, trainer.encoder(), (scenario, langs, asking)),
                    None => dev(collection, texts, &*trainer.snapshot(), (scenario, langs, asking)),
                };
                let Some(value) = value else {
                    let what =
                        "--eval-steps needs judged queries in dev, and there are none in these languages";
                    return Err(Error::Usage(what.into()));
                };
                let stop = best.see(report.step, value, &trainer)?;
                ui.note(&format!("step {}: nDCG@10 on dev {value:.4}", report.step));
                if stop {
                    break;
                }
            }
            // Behind the measuring, so that a run that goes on from here has it already.
            if args.save_steps > 0
                && report.step.is_multiple_of(args.save_steps)
                && report.step < trainer.total()
            {
                trainer.save_checkpoint(&checkpoint)?;
            }
        }
        bar.finish_and_clear();

        let started_from = match args.encoder.as_str() {
            "static" => format!("a new static encoder, {}", args.new.describe()),
            dir => dir.to_owned(),
        } + &frozen.as_ref().map_or(String::new(), |_| args.head.describe());
        // A saved model does not know texts by their numbers.
        let measured = frozen.as_ref().map(|_| {
            best.value().or_else(|| dev(collection, texts, trainer.encoder(), (scenario, langs, asking)))
        });
        let steps = trainer.done();
        let new = AtomicDir::create(out)?;
        let (encoder, kept_step) = match best.take()? {
            Some((encoder, step)) => (encoder, step),
            None => {
                trainer.save_adapter(
                    &new.path().join(ADAPTER),
                    "Adapters of the model in the folder above.\n",
                )?;
                (trainer.into_encoder(), steps)
            }
        };
        if !encoder.is_finite() {
            return Err(Error::Usage(
                "training ended in values that are no numbers: lower the learning rates".into(),
            ));
        }
        let dev_ndcg_10 =
            measured.unwrap_or_else(|| dev(collection, texts, &*encoder, (scenario, langs, asking)));
        let card = card(
            collection,
            scenario,
            langs,
            policies,
            settings,
            (encoder.kind(), &started_from),
            dev_ndcg_10,
        );
        encoder.write_into(new.path(), &card, Dtype::F32)?;
        io::write(&new.path().join(RUN_FILE), identity.as_bytes())?;
        best.move_adapter(new.path())?;
        new.commit()?;
        if checkpoint.exists() {
            std::fs::remove_file(&checkpoint).map_err(|e| Error::io(&checkpoint, e))?;
        }
        best.remove()?;
        Ok(Some(Trained {
            out: out.display().to_string(),
            langs: langs.to_vec(),
            queries: examples.len(),
            queries_without_positive: examples.without_positive(),
            steps,
            kept_step,
            last_loss,
            hard_negatives,
            masked,
            dev_ndcg_10,
            seconds: started.elapsed().as_secs_f64(),
        }))
    }
}

/// Mean nDCG@10 on dev: own language, or every other language for the cross-lingual scenario.
fn dev(
    collection: &Collection,
    texts: &TokenizedCollection,
    encoder: &dyn polygrade_encoder::TextEncoder,
    (scenario, langs, asking): (Scenario, &[Lang], &[Lang]),
) -> Option<f64> {
    let graded = collection.graded(Split::Dev);
    let queries = queries_in(collection, &graded, asking);
    let measure = Measure::Ndcg(Some(10));
    let pools: Vec<Pool> = match scenario {
        Scenario::CrossLingual => langs.iter().map(|l| Pool::Langs(vec![l.clone()])).collect(),
        _ => vec![Pool::Same],
    };
    let (mut sum, mut n) = (0.0, 0);
    for (rankings, pool) in
        evaluate(encoder, collection, texts, &queries, &pools, 10, true).iter().zip(&pools)
    {
        let values = rankings.values(&measure, collection, &graded, pool);
        for (q, v) in rankings.queries.iter().zip(values) {
            let lang = &collection.queries[*q as usize].lang;
            if scenario != Scenario::CrossLingual || !pool.holds(lang, lang) {
                (sum, n) = (sum + v, n + 1);
            }
        }
    }
    (n > 0).then(|| sum / f64::from(n))
}

fn card(
    collection: &Collection,
    scenario: Scenario,
    langs: &[Lang],
    policies: &LabelPolicies,
    settings: &Settings,
    (kind, encoder): (&str, &str),
    dev: Option<f64>,
) -> String {
    let (kind, title) = match kind {
        "static" => ("static-embeddings", "Static encoder".to_owned()),
        kind => (kind, format!("{kind} encoder")),
    };
    let tags: Vec<&str> = langs.iter().map(Lang::as_str).collect();
    let policy = policies.to_toml("").unwrap_or_default();
    let dev = dev.map_or("not measured".into(), |d| format!("{d:.4}"));
    let meta = &collection.meta;
    format!(
        "---\nlanguage: [{}]\nlicense: other\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n\
         tags: [sentence-transformers, {kind}, polygrade]\n---\n\n# {title} trained on {}\n\n\
         Made by polygrade {}. Scenario: {}. Languages: {}.\n\nData: {} ({}), licence {}.\n\n\
         nDCG@10 on dev: {dev} (graded, linear gains{}).\n\n## Label policy\n\n```toml\n{policy}```\n\n\
         ## Settings\n\nTraining started from: {encoder}.\n\n```text\n{settings:#?}\n```\n\n## Use\n\n```sh\npolygrade search MODEL COLLECTION \"a query\"\n```\n\n\
         ```python\nfrom sentence_transformers import SentenceTransformer\nmodel = SentenceTransformer(\"MODEL\")\n```\n",
        tags.join(", "),
        meta.name,
        env!("CARGO_PKG_VERSION"),
        scenario.name(),
        tags.join(", "),
        meta.name,
        meta.source,
        meta.licence,
        if scenario == Scenario::CrossLingual {
            "; mean over pools in each other language"
        } else {
            ", own-language pool"
        },
    )
}
