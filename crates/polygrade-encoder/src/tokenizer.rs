//! Tokenisers: loaded from a `tokenizer.json`, or trained on a collection with the `tokenizers` crate.
//!
//! Trained ones are byte-pair encodings over characters (Sennrich et al. 2016). Unigram was tried and refused:
//! its trainer gives another vocabulary each time (sums in the order of a hash map), and the ranking it gave
//! on collections/mini was no better (docs/results.md).

use polygrade_data::{At, Error, Result};
use polygrade_nn::bag::Bags;
use rayon::prelude::*;
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    Model, ModelWrapper, SplitDelimiterBehavior, Tokenizer, TokenizerBuilder, TruncationParams,
};

/// A tokeniser with the rules by which texts become bags of tokens.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    /// Token to leave out, model2vec's treatment of unknown words.
    pub drop: Option<u32>,
    /// Texts are cut to so many characters first, as model2vec does.
    pub max_chars: Option<usize>,
    /// And to so many tokens afterwards, special ones included.
    pub max_tokens: Option<usize>,
    /// Whether the special tokens that a transformer expects are put around texts.
    specials: bool,
    /// Whether texts are put in lower case first.
    lower_case: bool,
}

/// Token of what the vocabulary does not hold.
const UNKNOWN: &str = "[UNK]";

impl TextTokenizer {
    /// Without special tokens, cut only where `inner` cuts.
    fn plain(inner: Tokenizer) -> Self {
        let (specials, lower_case) = (false, false);
        TextTokenizer { inner, drop: None, max_chars: None, max_tokens: None, specials, lower_case }
    }

    /// Loads a `tokenizer.json`. Its truncation stays in force, its padding does not.
    pub fn load(path: &Path) -> Result<Self> {
        let fault = |e: tokenizers::Error| {
            let fix = "give the tokenizer.json that was saved with the model";
            Error::input(At::file(path), format!("is no tokeniser: {e}"), fix)
        };
        let text = polygrade_data::io::read_to_string(path)?;
        let mut inner: Tokenizer = text.parse().map_err(fault)?;
        inner.with_padding(None);
        Ok(TextTokenizer::plain(inner))
    }

    /// Loads the `tokenizer.json` of a transformer: with special tokens, cut to `max_tokens` whatever the file
    /// itself says.
    pub(crate) fn load_for_transformer(
        path: &Path,
        max_tokens: Option<usize>,
        lower_case: bool,
        rows: usize,
    ) -> Result<Self> {
        if !path.is_file() {
            let fix = "save it with the model: in Python, AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)";
            return Err(Error::input(At::file(path), "is missing", fix));
        }
        let mut tokenizer = TextTokenizer::load(path)?;
        tokenizer.without_truncation()?;
        // Of an empty text there are the special tokens, whose ids the file gives a second time.
        let specials = TextTokenizer { specials: true, ..tokenizer.clone() }.tokens("")?;
        if let Some(id) = specials.iter().find(|id| **id as usize >= rows) {
            let what =
                format!("puts the special token {id} around texts, and the model's table has {rows} rows");
            let fix = "use the tokenizer.json that was saved with the model";
            return Err(Error::input(At::file(path), what, fix));
        }
        if max_tokens.is_some_and(|n| n <= specials.len()) {
            let what = format!(
                "puts {} special tokens around texts, which are cut to {max_tokens:?}",
                specials.len()
            );
            let fix = "raise max_seq_length in sentence_bert_config.json, or max_position_embeddings in config.json";
            return Err(Error::input(At::file(path), what, fix));
        }
        let cut = max_tokens.map(|max_length| TruncationParams { max_length, ..TruncationParams::default() });
        tokenizer.inner.with_truncation(cut).map_err(|e| {
            let what = format!("cannot cut texts to {max_tokens:?} tokens: {e}");
            Error::input(At::file(path), what, "raise max_seq_length in sentence_bert_config.json")
        })?;
        Ok(TextTokenizer { max_tokens, specials: true, lower_case, ..tokenizer })
    }

    /// What decides about tokens besides the `tokenizer.json`, in words.
    pub(crate) fn settings(&self) -> String {
        format!("{:?} {:?} {} {}", self.max_chars, self.max_tokens, self.specials, self.lower_case)
    }

    /// Trains a tokeniser of `vocab_size` tokens on `texts`: NFKC, lower case, words by white space and
    /// punctuation. The same texts give the same tokeniser.
    pub fn train(vocab_size: usize, texts: &[&str]) -> Result<Self> {
        let fault = |e: tokenizers::Error| Error::Internal(format!("training the tokeniser: {e}"));
        let unknown = tokenizers::AddedToken::from(UNKNOWN, true);
        let model = BPE::builder().unk_token(UNKNOWN.into()).build().map_err(fault)?;
        let words = Sequence::new(vec![
            Metaspace::new('▁', PrependScheme::Always, true).into(),
            Punctuation::new(SplitDelimiterBehavior::Isolated).into(),
        ]);
        let mut inner: Tokenizer = TokenizerBuilder::new()
            .with_model(ModelWrapper::from(model))
            .with_normalizer(Some(Normalizers::new(vec![NFKC.into(), Lowercase.into()])))
            .with_pre_tokenizer(Some(words))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .with_decoder(None::<tokenizers::DecoderWrapper>)
            .build()
            .map_err(fault)?
            .into();
        let trainer =
            BpeTrainer::builder().vocab_size(vocab_size).min_frequency(2).special_tokens(vec![unknown]);
        let mut trainer: TrainerWrapper = trainer.show_progress(false).build().into();
        inner.train(&mut trainer, texts.iter()).map_err(fault)?;
        let mut tokenizer = TextTokenizer::plain(inner);
        // What is unknown says nothing.
        tokenizer.drop = tokenizer.unknown_id();
        Ok(tokenizer)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        // Ids may have gaps, and a table must hold the highest.
        let highest = self.inner.get_vocab(true).into_values().max();
        highest.map_or(0, |id| id as usize + 1)
    }

    /// The id of the unknown token, if the model has one.
    pub fn unknown_id(&self) -> Option<u32> {
        match self.inner.get_model() {
            ModelWrapper::BPE(m) => m.unk_token.as_ref().and_then(|t| m.token_to_id(t)),
            ModelWrapper::WordPiece(m) => m.token_to_id(&m.unk_token),
            ModelWrapper::WordLevel(m) => m.token_to_id(&m.unk_token),
            ModelWrapper::Unigram(m) => {
                let json = serde_json::to_value(m).ok()?;
                json.get("unk_id")?.as_u64().map(|id| id as u32)
            }
        }
    }

    /// The lengths in characters of all tokens.
    pub(crate) fn token_lengths(&self) -> Vec<usize> {
        self.inner.get_vocab(true).into_keys().map(|t| t.chars().count()).collect()
    }

    /// The token ids of a text.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let text = match self.max_chars.and_then(|n| text.char_indices().nth(n)) {
            Some((end, _)) => &text[..end],
            None => text,
        };
        let lower: String;
        let text = if self.lower_case {
            lower = text.to_lowercase();
            &lower
        } else {
            text
        };
        let encoding = self.inner.encode_fast(text, self.specials);
        let encoding = encoding.map_err(|e| Error::Internal(format!("tokenising {text:?}: {e}")))?;
        let mut ids = encoding.get_ids().to_vec();
        if !self.specials {
            ids.truncate(self.max_tokens.unwrap_or(usize::MAX));
        }
        ids.retain(|id| Some(*id) != self.drop);
        Ok(ids)
    }

    /// The bags of many texts, in order; rayon's threads share the work.
    pub fn bags<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Bags> {
        let tokens: Vec<Vec<u32>> =
            texts.par_iter().map(|t| self.tokens(t.as_ref())).collect::<Result<_>>()?;
        let mut bags = Bags::new();
        tokens.iter().for_each(|t| bags.push(t));
        Ok(bags)
    }

    /// The tokens by their ids, added ones included.
    pub(crate) fn pieces(&self) -> Vec<Option<String>> {
        let mut out = vec![None; self.vocab_size()];
        self.inner.get_vocab(true).into_iter().for_each(|(piece, id)| out[id as usize] = Some(piece));
        out
    }

    /// Another `tokenizer.json` under the same rules.
    pub(crate) fn with_json(&self, json: &str, drop: Option<u32>) -> Result<Self> {
        let inner = json.parse().map_err(|e| Error::Internal(format!("reading a changed tokeniser: {e}")))?;
        Ok(TextTokenizer { inner, drop, ..self.clone() })
    }

    /// The same tokeniser without its limit of tokens.
    pub(crate) fn uncut(&self) -> Result<Self> {
        let mut uncut = TextTokenizer { max_tokens: None, ..self.clone() };
        uncut.without_truncation()?;
        Ok(uncut)
    }

    /// As the text of a `tokenizer.json`, without padding, cut where this tokeniser cuts by tokens.
    pub(crate) fn to_json(&self) -> Result<String> {
        let mut plain = self.inner.clone();
        plain.with_padding(None);
        if let Some(max_length) = self.max_tokens {
            let cut = TruncationParams { max_length, ..TruncationParams::default() };
            plain.with_truncation(Some(cut)).map_err(|e| Error::Internal(e.to_string()))?;
        }
        plain.to_string(true).map_err(|e| Error::Internal(format!("writing the tokeniser: {e}")))
    }

    /// Switches the `tokenizer.json`'s own truncation off.
    pub(crate) fn without_truncation(&mut self) -> Result<()> {
        self.inner.with_truncation(None).map(|_| ()).map_err(|e| Error::Internal(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<&'static str> {
        vec![
            "how high should my desk be for typing without shoulder pain",
            "is a standing desk really healthier than sitting all day",
            "wie hoch sollte mein Schreibtisch sein, damit die Schulter nicht schmerzt",
            "โต๊ะทำงานควรสูงเท่าไร เพื่อไม่ให้ปวดไหล่",
            "打字时桌子应该多高才不会肩膀疼",
        ]
    }

    #[test]
    fn training_is_repeatable_and_ids_fit_the_vocabulary() {
        let train = || TextTokenizer::train(300, &texts()).unwrap();
        let (a, b) = (train(), train());
        assert_eq!(a.to_json().unwrap(), b.to_json().unwrap());
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(one.install(train).to_json().unwrap(), a.to_json().unwrap(), "at one thread");
        for text in texts() {
            let ids = a.tokens(text).unwrap();
            assert!(!ids.is_empty() && ids.iter().all(|&i| (i as usize) < a.vocab_size()));
            assert!(!ids.contains(&a.unknown_id().unwrap()), "{text} holds unknown tokens");
        }
        assert!(a.tokens("").unwrap().is_empty());
        assert!(!a.tokens("Ω desk").unwrap().contains(&a.unknown_id().unwrap()));
    }
}
