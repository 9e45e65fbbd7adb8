//! What several verbs take or do.

use crate::ui::Ui;
use polygrade_data::{At, Collection, Error, Lang, Result, Split};
use polygrade_encoder::{Encoder, Init, NewStatic, NewStaticBase, Prompts, StaticEncoder, TokenWeights, hub};
use polygrade_nn::device::Precision;
use polygrade_train::{LabelPolicies, Policy, Scenario};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// A scenario by its name.
pub(crate) fn scenario(name: &str) -> Result<Scenario> {
    Scenario::parse(name)
        .ok_or_else(|| Error::Usage(format!("{name:?} is no scenario: monolingual, mixture, cross-lingual")))
}

/// What is a positive and what a negative.
#[derive(clap::Args, Clone)]
pub(crate) struct LabelArgs {
    /// Threshold: grades at or above it are positives; or a band LO:HI; soft:N, all, graded, which
    /// losses of grades mean unless told otherwise
    #[arg(long, value_name = "N", conflicts_with = "labels", allow_hyphen_values = true)]
    pub(crate) tau: Option<String>,
    /// Label policies in a file, such as a calibrated.toml; for train also `auto`: race the thresholds first, and leave
    /// the race in OUT.calibration
    #[arg(long, value_name = "FILE")]
    pub(crate) labels: Option<PathBuf>,
}

impl LabelArgs {
    /// The policies that `--tau` or `--labels` names.
    pub(crate) fn policies(&self) -> Result<LabelPolicies> {
        match (&self.tau, &self.labels) {
            (_, Some(file)) => LabelPolicies::load(file),
            (Some(tau), None) => Policy::parse(tau).map(LabelPolicies::uniform).ok_or_else(|| {
                Error::Usage(format!("--tau {tau:?}: expected 2, a band 0:2, soft:2, all or graded"))
            }),
            (None, None) => Err(Error::Usage("say what is a positive: --tau N, or --labels FILE".into())),
        }
    }
}

/// Says which rules of the policies fit nothing in the collection.
pub(crate) fn note_unmatched(policies: &LabelPolicies, collection: &Collection, ui: &Ui) {
    let unmatched = policies.unmatched(collection);
    if !unmatched.is_empty() {
        ui.note(&format!("label policies name what the collection lacks: {}", unmatched.join("; ")));
    }
}

/// Languages separated by commas, checked against the collection; all of its languages where none is given.
pub(crate) fn langs(text: Option<&str>, collection: &Collection) -> Result<Vec<Lang>> {
    let Some(text) = text else {
        return Ok(collection.langs());
    };
    if text.trim().is_empty() {
        return Err(Error::Usage("--langs names no language; leave it out for all".into()));
    }
    let mut langs: Vec<Lang> = text.split(',').map(|tag| one_lang(tag, collection)).collect::<Result<_>>()?;
    let mut seen = BTreeSet::new();
    langs.retain(|l| seen.insert(l.clone()));
    Ok(langs)
}

/// One of the collection's languages by its tag.
pub(crate) fn one_lang(tag: &str, collection: &Collection) -> Result<Lang> {
    let lang = Lang::parse(tag.trim()).ok_or_else(|| Error::Usage(format!("{tag:?} is no language tag")))?;
    let all = collection.langs();
    if all.contains(&lang) {
        return Ok(lang);
    }
    let have: Vec<&str> = all.iter().map(Lang::as_str).collect();
    Err(Error::Usage(format!("the collection has no texts in {lang}; it has {}", have.join(", "))))
}

/// How to make a static encoder from nothing.
#[derive(clap::Args, Clone)]
pub(crate) struct NewEncoder {
    /// Tokens in the vocabulary of a new static encoder
    #[arg(long, default_value_t = NewStatic::default().vocab_size, value_name = "N")]
    vocab_size: usize,
    /// Width of the vectors of a new static encoder
    #[arg(long, default_value_t = NewStatic::default().dim, value_name = "N")]
    dim: usize,
    /// Project vectors to this width
    #[arg(long, value_name = "N")]
    projection: Option<usize>,
    /// Weights of tokens before training
    #[arg(long, default_value = "idf", value_parser = ["idf", "sif", "equal"])]
    token_weights: String,
    /// Embeddings before training: from co-occurrence in the collection's texts, or random
    #[arg(long, default_value = "lsi", value_parser = ["lsi", "random"])]
    init: String,
    #[command(flatten)]
    options: ModelOptions,
}

impl NewEncoder {
    /// In words, for the record.
    pub(crate) fn describe(&self) -> String {
        let projection = self.projection.map_or(String::new(), |p| format!(", projected to {p}"));
        let (vocab, dim) = (self.vocab_size, self.dim);
        format!("{vocab} tokens, {dim} wide{projection}, from {}, weights {}", self.init, self.token_weights)
    }

    fn settings(&self) -> Result<NewStatic> {
        let widths = [Some(self.dim), self.projection];
        if !(2..=10_000_000).contains(&self.vocab_size)
            || !widths.iter().flatten().all(|n| (1..=16_384).contains(n))
        {
            let what = "--vocab-size must be 2 to 10 million, --dim and --projection 1 to 16384";
            return Err(Error::Usage(what.into()));
        }
        Ok(NewStatic {
            vocab_size: self.vocab_size,
            dim: self.dim,
            projection: self.projection,
            weights: match self.token_weights.as_str() {
                "sif" => TokenWeights::Sif,
                "equal" => TokenWeights::Equal,
                _ => TokenWeights::Idf,
            },
            init: if self.init == "lsi" { Init::Lsi } else { Init::Random },
        })
    }

    /// What `--encoder` names: the base of new encoders for the collection's texts, or the model in a folder.
    pub(crate) fn base(&self, encoder: &str, collection: &Collection) -> Result<Base> {
        if encoder != "static" {
            return self.options.load(encoder).map(Base::Model);
        }
        let texts: Vec<_> = collection.passages.iter().map(|p| p.full_text()).collect();
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let base = NewStaticBase::new(&texts, &documents(collection), &self.settings()?)?;
        Ok(Base::New(Box::new(base)))
    }
}

/// Makes an encoder compute in a precision, by its name.
pub(crate) fn prepare(encoder: &mut Encoder, precision: &str) -> Result<()> {
    let of = |name| match name {
        "bf16" => Some(Precision::Bf16),
        "int8" => Some(Precision::Int8),
        "f32" => Some(Precision::F32),
        _ => None,
    };
    let of = of(precision)
        .ok_or_else(|| Error::Usage(format!("{precision:?} is no precision: f32, bf16, int8")))?;
    match encoder {
        Encoder::Transformer(e) => e.prepare(of),
        Encoder::Static(_) if precision != "f32" => {
            let what = "another precision than f32 is for transformers; a static model has no products";
            return Err(Error::Usage(what.into()));
        }
        Encoder::Static(_) => {}
    }
    Ok(())
}

/// What may be set beside a model.
#[derive(clap::Args, Clone, Default)]
pub(crate) struct ModelOptions {
    /// Put this before queries, in place of what the model says; E5 wants "query: "
    #[arg(long, value_name = "TEXT")]
    pub(crate) query_prompt: Option<String>,
    /// Put this before passages, in place of what the model says; E5 wants "passage: "
    #[arg(long, value_name = "TEXT")]
    pub(crate) passage_prompt: Option<String>,
    /// Cut vectors to their first N values (for Matryoshka models)
    #[arg(long, value_name = "N")]
    pub(crate) truncate_dim: Option<usize>,
}

/// A preference for the query's language.
#[derive(clap::Args, Clone)]
pub(crate) struct OwnLanguageBonus {
    /// Add this, from -2 to 2, to the cosine of passages in the query's language: among several languages, more than 0
    /// prefers that language, less than 0 the others
    #[arg(long, default_value_t = 0.0, value_name = "LAMBDA", value_parser = bonus, allow_hyphen_values = true)]
    pub(crate) own_language_bonus: f64,
}

/// Cosines are no further apart than 2; a larger number would only cost the scores their digits.
fn bonus(text: &str) -> std::result::Result<f64, String> {
    let number = text.trim().parse().ok().filter(|x: &f64| x.abs() <= 2.0);
    number.ok_or_else(|| "expected a number from -2 to 2, such as 0.1".into())
}

/// The folder of the model that a folder or a name on the hub names.
pub(crate) fn folder(model: &str) -> Result<PathBuf> {
    // Downloads take minutes: each file is named when it begins.
    let mut last = String::new();
    hub::Hub::from_env().resolve(model, &mut |file, _, size| {
        if file != last {
            let size = size.map_or(String::new(), |n| format!(", {} MiB", n >> 20));
            eprintln!("fetching {file}{size}");
            last = file.to_owned();
        }
    })
}

impl ModelOptions {
    /// Loads the model that a folder, a name on the hub or `pocket` names, with these options.
    pub(crate) fn load(&self, model: &str) -> Result<Encoder> {
        let path = std::path::Path::new(model);
        // A folder of that name is what is meant where there is one.
        let mut encoder = if model == polygrade_pocket::NAME && !path.is_dir() {
            polygrade_pocket::encoder()?.into()
        } else if path.is_file() {
            let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
            StaticEncoder::from_compact(&bytes)
                .map_err(|e| {
                    let fix = "give the folder of a model, or a file of polygrade model compact";
                    Error::input(At::file(path), e.to_string(), fix)
                })?
                .into()
        } else {
            Encoder::load(&folder(model)?)?
        };
        let mut prompts = encoder.prompts().clone();
        if let Some(text) = &self.query_prompt {
            prompts.query.clone_from(text);
        }
        if let Some(text) = &self.passage_prompt {
            prompts.passage.clone_from(text);
        }
        if let Encoder::Transformer(e) = &encoder
            && !e.modules().include_prompt
            && prompts != Prompts::default()
        {
            let what =
                "the model pools without the tokens of its prompt (include_prompt), which is not computed";
            return Err(Error::Usage(what.into()));
        }
        encoder.set_prompts(prompts);
        if let Some(n) = self.truncate_dim {
            if !(1..=encoder.dim()).contains(&n) {
                let what = format!("--truncate-dim must be 1 to {}, the width of the vectors", encoder.dim());
                return Err(Error::Usage(what));
            }
            match &mut encoder {
                Encoder::Transformer(e) => e.truncate(n),
                Encoder::Static(_) => {
                    return Err(Error::Usage("--truncate-dim is for transformers".into()));
                }
            }
        }
        Ok(encoder)
    }
}

/// What training starts from.
pub(crate) enum Base {
    /// New encoders, one a seed.
    New(Box<NewStaticBase>),
    /// One encoder, whatever the seed.
    Model(Encoder),
}

impl Base {
    pub(crate) fn encoder(&self, seed: u64) -> Encoder {
        match self {
            Base::New(base) => base.encoder(seed).into(),
            Base::Model(encoder) => encoder.clone(),
        }
    }
}

/// The documents that co-occurrence is counted in: translations are joined where training may know of them,
/// that is where a passage is judged in train; everything else stands alone, so that no knowledge of which
/// dev and test passages are translations of one another reaches the embeddings.
fn documents(collection: &Collection) -> Vec<u32> {
    let graded = collection.graded(Split::Train);
    let mut known = vec![false; collection.passages.len()];
    graded.queries().iter().flat_map(|&q| graded.judged(q)).for_each(|(p, _)| known[p as usize] = true);
    let mut numbers: HashMap<(bool, u32), u32> = HashMap::new();
    (0..collection.passages.len() as u32)
        .map(|p| {
            let next = numbers.len() as u32;
            let key = if known[p as usize] { (true, graded.passage_unit(p)) } else { (false, p) };
            *numbers.entry(key).or_insert(next)
        })
        .collect()
}
