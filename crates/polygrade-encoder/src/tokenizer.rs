//! Tokenisers: loaded from a `tokenizer.json`, or trained on a collection with the `tokenizers` crate.
//!
//! Trained ones are byte-pair encodings over characters (Sennrich et al. 2016). Unigram was tried and refused:
//! its trainer gives another vocabulary each time (sums in the order of a hash map), and the ranking it gave
//! on collections/mini was no better (docs/results.md).

mod merged;

use merged::{Merged, damaged};
use polygrade_data::{At, Error, Result};
use polygrade_nn::bag::Bags;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    DecoderWrapper, Encoding, Model, ModelWrapper, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer, TokenizerBuilder, TokenizerImpl,
    TruncationParams,
};

/// The crate's pipeline from text to tokens, around a model.
type PipelineOf<M> =
    TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// The pipeline around either model.
#[derive(Debug, Clone)]
enum Pipeline {
    Library(Box<Tokenizer>),
    Merged(Arc<MergedPipeline>),
}

/// The pipeline around merges, and what [`TextTokenizer::to_json`] made of it: it is asked for each time that an encoder is
/// told from others.
#[derive(Debug)]
struct MergedPipeline {
    inner: PipelineOf<Merged>,
    json: OnceLock<String>,
}

impl Pipeline {
    /// As the crate's own tokeniser, which takes a while to make of merges.
    fn library(&self) -> Result<Cow<'_, Tokenizer>> {
        match self {
            Pipeline::Library(inner) => Ok(Cow::Borrowed(inner)),
            Pipeline::Merged(m) => library_of(m.inner.get_model()).map(Cow::Owned),
        }
    }

    /// All tokens with their ids, added ones included.
    fn vocabulary(&self) -> HashMap<String, u32> {
        match self {
            Pipeline::Library(inner) => inner.get_vocab(true),
            Pipeline::Merged(m) => m.inner.get_vocab(true),
        }
    }

    fn encode(&self, text: &str, specials: bool) -> Result<Encoding> {
        let encoding = match self {
            Pipeline::Library(inner) => inner.encode_fast(text, specials),
            Pipeline::Merged(m) => m.inner.encode_fast(text, specials),
        };
        encoding.map_err(|e| Error::Internal(format!("tokenising {text:?}: {e}")))
    }

    /// With the characters that each token stands for.
    fn encode_offsets(&self, text: &str) -> Result<Encoding> {
        let encoding = match self {
            Pipeline::Library(inner) => inner.encode_char_offsets(text, false),
            Pipeline::Merged(m) => m.inner.encode_char_offsets(text, false),
        };
        encoding.map_err(|e| Error::Internal(format!("tokenising {text:?}: {e}")))
    }
}

impl From<Tokenizer> for Pipeline {
    fn from(inner: Tokenizer) -> Self {
        Pipeline::Library(inner.into())
    }
}

/// A tokeniser with the rules by which texts become bags of tokens.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Pipeline,
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

/// What a byte-pair encoding of [`TextTokenizer::train`] is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merges {
    /// The characters that merges begin with.
    pub(crate) alphabet: String,
    /// The pairs of tokens that are merged, in order.
    pub(crate) pairs: Vec<[u32; 2]>,
    /// The places of pairs that make a token that an earlier one makes too.
    pub(crate) repeated: Vec<u32>,
}

/// Bytes of all tokens' texts at most: a hundred times those of a large vocabulary.
const TEXTS_MOST: usize = 1 << 28;

/// Token of what the vocabulary does not hold.
const UNKNOWN: &str = "[UNK]";

impl TextTokenizer {
    /// Without special tokens, cut only where `inner` cuts.
    fn plain(inner: impl Into<Pipeline>) -> Self {
        let (specials, lower_case, inner) = (false, false, inner.into());
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
        let mut tokenizer = TextTokenizer::load(path)?.uncut()?;
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
        let mut inner = tokenizer.inner.library()?.into_owned();
        inner.with_truncation(cut).map_err(|e| {
            let what = format!("cannot cut texts to {max_tokens:?} tokens: {e}");
            Error::input(At::file(path), what, "raise max_seq_length in sentence_bert_config.json")
        })?;
        tokenizer.inner = inner.into();
        Ok(TextTokenizer { max_tokens, specials: true, lower_case, ..tokenizer })
    }

    /// The same tokeniser as a transformer wants it: `[CLS]` before each text and `[SEP]` behind, `[PAD]` at hand, unknown
    /// tokens kept, texts cut to `max_tokens`.
    pub(crate) fn for_transformer(&self, max_tokens: usize) -> Result<Self> {
        let fault = |e: String| Error::Internal(format!("adding special tokens: {e}"));
        let mut inner = self.inner.library()?.into_owned();
        let special = ["[CLS]", "[SEP]", "[PAD]"].map(|t| tokenizers::AddedToken::from(t, true));
        inner.add_special_tokens(special).map_err(|e| fault(e.to_string()))?;
        let id = |token: &str| inner.token_to_id(token).unwrap_or_default();
        let around = TemplateProcessing::builder()
            .try_single("[CLS] $A [SEP]")
            .map_err(fault)?
            .try_pair("[CLS] $A [SEP] $B:1 [SEP]:1")
            .map_err(fault)?
            .special_tokens(vec![("[CLS]", id("[CLS]")), ("[SEP]", id("[SEP]"))])
            .build()
            .map_err(|e| fault(e.to_string()))?;
        inner.with_post_processor(Some(around));
        let cut = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        inner.with_truncation(Some(cut)).map_err(|e| fault(e.to_string()))?;
        Ok(TextTokenizer { max_tokens: Some(max_tokens), specials: true, ..TextTokenizer::plain(inner) })
    }

    /// The text of the unknown token, if the model has one.
    pub(crate) fn unknown(&self) -> Option<String> {
        let id = self.unknown_id()?;
        match &self.inner {
            Pipeline::Library(inner) => inner.id_to_token(id),
            Pipeline::Merged(m) => m.inner.id_to_token(id),
        }
    }

    /// The id of a token.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        match &self.inner {
            Pipeline::Library(inner) => inner.token_to_id(token),
            Pipeline::Merged(m) => m.inner.token_to_id(token),
        }
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
        let mut inner: Tokenizer = around(ModelWrapper::from(model))?.into();
        let trainer =
            BpeTrainer::builder().vocab_size(vocab_size).min_frequency(2).special_tokens(vec![unknown]);
        let mut trainer: TrainerWrapper = trainer.show_progress(false).build().into();
        inner.train(&mut trainer, texts.iter()).map_err(fault)?;
        Ok(TextTokenizer::plain(inner).without_unknown())
    }

    /// For each token the two that a byte-pair encoding joins to make it; `None` for what is not made so, and for all tokens
    /// of other tokenisers.
    pub fn parts(&self) -> Vec<Option<[u32; 2]>> {
        let mut out = vec![None; self.vocab_size()];
        if let (Ok(merges), Ok(inner)) = (self.merges(), self.inner.library()) {
            for pair in merges.pairs {
                let whole = pair.map(|t| inner.id_to_token(t).unwrap_or_default()).concat();
                if let Some(id) = inner.token_to_id(&whole) {
                    out[id as usize].get_or_insert(pair);
                }
            }
        }
        out
    }

    /// What [`TextTokenizer::train`] made the tokeniser of. Another tokeniser is refused.
    pub(crate) fn merges(&self) -> Result<Merges> {
        let refused =
            || Error::Usage("only tokenisers that polygrade trained are written in the compact form".into());
        let inner = match &self.inner {
            Pipeline::Merged(m) => return Ok(m.inner.get_model().merges.clone()),
            Pipeline::Library(inner) => inner,
        };
        let ModelWrapper::BPE(model) = inner.get_model() else { return Err(refused()) };
        let json = serde_json::to_value(model).map_err(|e| Error::Internal(e.to_string()))?;
        let id = |token: &serde_json::Value| model.token_to_id(token.as_str()?);
        let pairs = json.get("merges").and_then(|m| m.as_array()).ok_or_else(refused)?;
        let pair = |p: &serde_json::Value| Some([id(p.get(0)?)?, id(p.get(1)?)?]);
        let pairs: Vec<[u32; 2]> = pairs.iter().map(pair).collect::<Option<_>>().ok_or_else(refused)?;
        let alphabet = (1..).map_while(|id| model.id_to_token(id)).take_while(|t| t.chars().count() == 1);
        let alphabet: String = alphabet.collect();
        let mut next = 1 + alphabet.chars().count() as u32;
        let mut repeated = Vec::new();
        for (i, pair) in pairs.iter().enumerate() {
            let whole = pair.map(|t| model.id_to_token(t).unwrap_or_default()).concat();
            match model.token_to_id(&whole).ok_or_else(refused)? {
                id if id == next => next += 1,
                _ => repeated.push(i as u32),
            }
        }
        let merges = Merges { alphabet, pairs, repeated };
        let same = TextTokenizer::from_merges(merges.clone())?;
        if same.to_json()? == self.to_json()? { Ok(merges) } else { Err(refused()) }
    }

    /// The tokeniser of such merges: the unknown token, the characters, then what each merge first makes.
    pub(crate) fn from_merges(merges: Merges) -> Result<Self> {
        let mut inner = around(Merged::new(merges)?)?;
        let unknown = tokenizers::AddedToken::from(UNKNOWN, true);
        inner.add_special_tokens([unknown]).map_err(|e| damaged(&e.to_string()))?;
        let merged = MergedPipeline { inner, json: OnceLock::new() };
        Ok(TextTokenizer::plain(Pipeline::Merged(Arc::new(merged))).without_unknown())
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        if let Pipeline::Merged(m) = &self.inner {
            return m.inner.get_vocab_size(true);
        }
        // Ids may have gaps, and a table must hold the highest.
        let highest = self.inner.vocabulary().into_values().max();
        highest.map_or(0, |id| id as usize + 1)
    }

    /// The id of the unknown token, if the model has one.
    pub fn unknown_id(&self) -> Option<u32> {
        let inner = match &self.inner {
            Pipeline::Merged(_) => return Some(0),
            Pipeline::Library(inner) => inner,
        };
        match inner.get_model() {
            ModelWrapper::BPE(m) => m.unk_token.as_ref().and_then(|t| m.token_to_id(t)),
            ModelWrapper::WordPiece(m) => m.token_to_id(&m.unk_token),
            ModelWrapper::WordLevel(m) => m.token_to_id(&m.unk_token),
            ModelWrapper::Unigram(m) => {
                let json = serde_json::to_value(m).ok()?;
                json.get("unk_id")?.as_u64().map(|id| id as u32)
            }
        }
    }

    /// Leaves unknown tokens out: what is unknown says nothing.
    #[must_use]
    pub fn without_unknown(mut self) -> Self {
        self.drop = self.unknown_id();
        self
    }

    /// How many tokens texts have, and which share of their characters, white space aside, known tokens cover.
    pub fn coverage<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<(usize, f64)> {
        let unknown_id = self.unknown_id();
        let one = |text: &S| -> Result<(usize, usize, usize)> {
            let text = text.as_ref();
            let encoding = self.inner.encode_offsets(text)?;
            let mut unknown = vec![false; text.chars().count()];
            for (id, (from, to)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
                if Some(*id) == unknown_id {
                    let to = (*to).min(unknown.len());
                    unknown[*from..to].fill(true);
                }
            }
            let written = || text.chars().zip(&unknown).filter(|(c, _)| !c.is_whitespace());
            let known = written().filter(|(_, unknown)| !**unknown).count();
            Ok((encoding.len(), written().count(), known))
        };
        let sums = texts
            .par_iter()
            .map(one)
            .try_reduce(|| (0, 0, 0), |a, b| Ok((a.0 + b.0, a.1 + b.1, a.2 + b.2)))?;
        Ok((sums.0, sums.2 as f64 / sums.1.max(1) as f64))
    }

    /// The lengths in characters of all tokens.
    pub(crate) fn token_lengths(&self) -> Vec<usize> {
        self.inner.vocabulary().into_keys().map(|t| t.chars().count()).collect()
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
        let encoding = self.inner.encode(text, self.specials)?;
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
        self.inner.vocabulary().into_iter().for_each(|(piece, id)| out[id as usize] = Some(piece));
        out
    }

    /// Another `tokenizer.json` under the same rules.
    pub(crate) fn with_json(&self, json: &str, drop: Option<u32>) -> Result<Self> {
        let inner: Tokenizer =
            json.parse().map_err(|e| Error::Internal(format!("reading a changed tokeniser: {e}")))?;
        Ok(TextTokenizer { inner: inner.into(), drop, ..self.clone() })
    }

    /// The same tokeniser without its limit of tokens, whoever set it.
    pub(crate) fn uncut(&self) -> Result<Self> {
        let mut inner = self.inner.library()?.into_owned();
        inner.with_truncation(None).map_err(|e| Error::Internal(e.to_string()))?;
        Ok(TextTokenizer { max_tokens: None, inner: inner.into(), ..self.clone() })
    }

    /// As the text of a `tokenizer.json`, without padding, cut where this tokeniser cuts by tokens.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        match (&self.inner, self.max_tokens) {
            (Pipeline::Merged(m), None) => {
                if let Some(json) = m.json.get() {
                    return Ok(json.clone());
                }
                let json = self.written()?;
                Ok(m.json.get_or_init(|| json).clone())
            }
            _ => self.written(),
        }
    }

    fn written(&self) -> Result<String> {
        let mut plain = self.inner.library()?.into_owned();
        plain.with_padding(None);
        if let Some(max_length) = self.max_tokens {
            let cut = TruncationParams { max_length, ..TruncationParams::default() };
            plain.with_truncation(Some(cut)).map_err(|e| Error::Internal(e.to_string()))?;
        }
        plain.to_string(true).map_err(|e| Error::Internal(format!("writing the tokeniser: {e}")))
    }
}

/// A byte-pair encoding with the rules by which texts are normalised and cut into words.
fn around<M: Model>(model: M) -> Result<PipelineOf<M>> {
    let words = Sequence::new(vec![
        Metaspace::new('▁', PrependScheme::Always, true).into(),
        Punctuation::new(SplitDelimiterBehavior::Isolated).into(),
    ]);
    let built = TokenizerBuilder::new()
        .with_model(model)
        .with_normalizer(Some(Normalizers::new(vec![NFKC.into(), Lowercase.into()]).into()))
        .with_pre_tokenizer(Some(words.into()))
        .with_post_processor(None)
        .with_decoder(None)
        .build();
    built.map_err(|e| Error::Internal(format!("making the tokeniser: {e}")))
}

/// The crate's tokeniser of such merges.
fn library_of(merged: &Merged) -> Result<Tokenizer> {
    let texts = merged.texts();
    let text = |id: u32| texts.get(id).to_owned();
    let mut vocab = ahash::AHashMap::with_capacity(texts.len());
    vocab.extend((0..texts.len() as u32).map(|id| (text(id), id)));
    let pairs = merged.merges.pairs.iter().map(|[a, b]| (text(*a), text(*b))).collect();
    let model = BPE::builder().vocab_and_merges(vocab, pairs).unk_token(UNKNOWN.into()).build();
    let model = ModelWrapper::from(model.map_err(|e| damaged(&e.to_string()))?);
    let mut inner: Tokenizer = around(model)?.into();
    let unknown = tokenizers::AddedToken::from(UNKNOWN, true);
    inner.add_special_tokens([unknown]).map_err(|e| damaged(&e.to_string()))?;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygrade_nn::rng::CounterRng;

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
    fn merges_make_the_tokeniser_again() {
        // a, b, c are 1 to 3; "abc" is made twice, in two ways.
        let merges =
            Merges { alphabet: "abc".into(), pairs: vec![[1, 2], [4, 3], [2, 3], [1, 6]], repeated: vec![3] };
        let tokenizer = TextTokenizer::from_merges(merges.clone()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 7);
        assert_eq!(tokenizer.merges().unwrap(), merges);

        let refused = |pairs: Vec<[u32; 2]>, repeated: Vec<u32>| {
            let merges = Merges { alphabet: "abc".into(), pairs, repeated };
            TextTokenizer::from_merges(merges).unwrap_err().to_string()
        };
        assert!(refused(vec![[1, 4]], vec![]).contains("not there yet"));
        assert!(refused(vec![[1, 2], [1, 2]], vec![]).contains("alike"));
        assert!(refused((0..64).map(|i| [3 + i; 2]).collect(), vec![]).contains("too long"));
    }

    /// Merges at random, among them such as make a token that is there already.
    fn random_merges(rng: &CounterRng) -> Merges {
        let alphabet = "ab▁";
        let mut texts: Vec<String> = alphabet.chars().map(String::from).collect();
        texts.insert(0, UNKNOWN.into());
        let mut out = Merges { alphabet: alphabet.into(), pairs: Vec::new(), repeated: Vec::new() };
        for i in 0..300 {
            let pair = [2 * i, 2 * i + 1].map(|n| 1 + rng.below(n, texts.len().min(16) - 1) as u32);
            let whole = pair.map(|t| texts[t as usize].as_str()).concat();
            match texts.contains(&whole) {
                _ if out.pairs.contains(&pair) => continue,
                true => out.repeated.push(out.pairs.len() as u32),
                false => texts.push(whole),
            }
            out.pairs.push(pair);
        }
        out
    }

    #[test]
    fn merges_give_the_tokens_of_the_crate() {
        let words = |rng: &CounterRng| -> String {
            let letters: Vec<char> = "aaaabb ,Ω".chars().collect();
            let length = 1 + rng.below(0, 1 << rng.below(1, 9));
            (0..length as u64).map(|i| letters[rng.below(2 + i, letters.len())]).collect()
        };
        for seed in 0..20 {
            let rng = CounterRng::new(seed);
            let merges = random_merges(&rng);
            assert!(!merges.repeated.is_empty());
            let merged = TextTokenizer::from_merges(merges).unwrap();
            let library = merged.inner.library().unwrap().into_owned();
            let library = TextTokenizer::plain(library).without_unknown();
            assert_eq!(merged.to_json().unwrap(), library.to_json().unwrap());
            assert_eq!(
                (merged.vocab_size(), merged.unknown_id()),
                (library.vocab_size(), library.unknown_id())
            );
            assert_eq!(merged.pieces(), library.pieces());
            let texts: Vec<String> = (0..200).map(|i| words(&rng.fork(1 + i))).collect();
            let odd = ["", " ", "[UNK] a[UNK]b", "aΩb ΩΩ", "AB\u{fb01}\u{ff21}"].map(String::from);
            for text in texts.iter().chain(&odd) {
                assert_eq!(merged.tokens(text).unwrap(), library.tokens(text).unwrap(), "{text:?}");
                let both = [&merged, &library].map(|t| {
                    let encoding = t.inner.encode_offsets(text).unwrap();
                    (encoding.get_ids().to_vec(), encoding.get_offsets().to_vec())
                });
                assert_eq!(both[0], both[1], "{text:?}");
            }
            let covered = [&merged, &library].map(|t| t.coverage(&texts).unwrap());
            assert_eq!(covered[0], covered[1]);
        }
    }

    #[test]
    fn merges_of_a_trained_tokeniser_give_its_tokens() {
        let library = TextTokenizer::train(300, &texts()).unwrap();
        let merged = TextTokenizer::from_merges(library.merges().unwrap()).unwrap();
        assert!(matches!(library.inner, Pipeline::Library(_)) && matches!(merged.inner, Pipeline::Merged(_)));
        assert_eq!(merged.to_json().unwrap(), library.to_json().unwrap());
        assert_eq!(merged.parts(), library.parts());
        for text in texts() {
            assert_eq!(merged.tokens(text).unwrap(), library.tokens(text).unwrap());
        }
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
