//! What several verbs take or do.

use polygrade_data::{Collection, Error, Lang, Result};
use polygrade_encoder::{NewStatic, StaticEncoder, TokenWeights, TokenizerKind};
use std::path::Path;

/// Languages separated by commas, checked against the collection; all of its languages where none is given.
pub(crate) fn langs(text: Option<&str>, collection: &Collection) -> Result<Vec<Lang>> {
    let all = collection.langs();
    let Some(text) = text else {
        return if all.is_empty() {
            Err(Error::Usage("no language has both queries and passages; see: polygrade profile".into()))
        } else {
            Ok(all)
        };
    };
    text.split(',')
        .map(|tag| {
            let lang = Lang::parse(tag.trim()).ok_or_else(|| Error::Usage(format!("{tag:?} is no language tag")))?;
            if all.contains(&lang) {
                return Ok(lang);
            }
            let have: Vec<&str> = all.iter().map(Lang::as_str).collect();
            Err(Error::Usage(format!("the collection has no queries and passages in {lang}; it has {}", have.join(", "))))
        })
        .collect()
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
    #[arg(long, default_value = "bpe", value_parser = ["bpe", "unigram"], hide = true)]
    tokenizer: String,
}

impl NewEncoder {
    pub(crate) fn settings(&self, seed: u64) -> Result<NewStatic> {
        if self.vocab_size < 2 || self.dim == 0 || self.projection == Some(0) {
            return Err(Error::Usage("--vocab-size must be 2 or more, --dim and --projection 1 or more".into()));
        }
        Ok(NewStatic {
            tokenizer: if self.tokenizer == "bpe" { TokenizerKind::Bpe } else { TokenizerKind::Unigram },
            vocab_size: self.vocab_size,
            dim: self.dim,
            projection: self.projection,
            weights: match self.token_weights.as_str() {
                "sif" => TokenWeights::Sif,
                "equal" => TokenWeights::Equal,
                _ => TokenWeights::Idf,
            },
            seed,
        })
    }

    /// A new encoder for the texts of a collection, or the one in a folder.
    pub(crate) fn make(&self, encoder: &str, collection: &Collection, seed: u64) -> Result<StaticEncoder> {
        if encoder != "static" {
            return StaticEncoder::load(Path::new(encoder));
        }
        let passages = collection.passages.iter().map(|p| p.full_text());
        let texts: Vec<_> = passages.collect();
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        StaticEncoder::new(&texts, &self.settings(seed)?)
    }
}
