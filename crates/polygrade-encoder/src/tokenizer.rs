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
        let mut inner = TextTokenizer::around(model)?;
        let trainer =
            BpeTrainer::builder().vocab_size(vocab_size).min_frequency(2).special_tokens(vec![unknown]);
        let mut trainer: TrainerWrapper = trainer.show_progress(false).build().into();
        inner.train(&mut trainer, texts.iter()).map_err(fault)?;
        Ok(TextTokenizer::plain(inner).without_unknown())
    }

    /// A byte-pair encoding with the rules by which texts are normalised and cut into words.
    fn around(model: BPE) -> Result<Tokenizer> {
        let words = Sequence::new(vec![
            Metaspace::new('▁', PrependScheme::Always, true).into(),
            Punctuation::new(SplitDelimiterBehavior::Isolated).into(),
        ]);
        let built = TokenizerBuilder::new()
            .with_model(ModelWrapper::from(model))
            .with_normalizer(Some(Normalizers::new(vec![NFKC.into(), Lowercase.into()])))
            .with_pre_tokenizer(Some(words))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .with_decoder(None::<tokenizers::DecoderWrapper>)
            .build();
        Ok(built.map_err(|e| Error::Internal(format!("making the tokeniser: {e}")))?.into())
    }

    /// For each token the two that a byte-pair encoding joins to make it; `None` for what is not made so, and for all tokens
    /// of other tokenisers.
    pub fn parts(&self) -> Vec<Option<[u32; 2]>> {
        let mut out = vec![None; self.vocab_size()];
        if let Ok(merges) = self.merges() {
            for pair in merges.pairs {
                let whole = pair.map(|t| self.inner.id_to_token(t).unwrap_or_default()).concat();
                if let Some(id) = self.inner.token_to_id(&whole) {
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
        let ModelWrapper::BPE(model) = self.inner.get_model() else { return Err(refused()) };
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
        let (same, _) = TextTokenizer::from_merges(&merges)?;
        if same.to_json()? == self.to_json()? { Ok(merges) } else { Err(refused()) }
    }

    /// The tokeniser of such merges, and the number of its tokens: the unknown token, the characters, then what each merge
    /// first makes.
    pub(crate) fn from_merges(merges: &Merges) -> Result<(Self, usize)> {
        let damaged = |what: &str| Error::Usage(format!("the merges make no tokeniser: {what}"));
        // The tokens' texts, one after another, and where each ends.
        let (mut texts, mut ends) = (Vec::from(UNKNOWN), vec![UNKNOWN.len()]);
        for c in merges.alphabet.chars() {
            texts.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            ends.push(texts.len());
        }
        let place = |ends: &[usize], id: u32| {
            let id = id as usize;
            let from = if id == 0 { 0 } else { ends[id - 1] };
            from..ends[id]
        };
        let mut repeated = merges.repeated.iter().peekable();
        for (i, [a, b]) in merges.pairs.iter().enumerate() {
            if *a.max(b) as usize >= ends.len() {
                return Err(damaged("a merge joins tokens that are not there yet"));
            }
            if repeated.next_if(|at| **at as usize == i).is_none() {
                texts.extend_from_within(place(&ends, *a));
                texts.extend_from_within(place(&ends, *b));
                ends.push(texts.len());
                // Damaged merges can double a token each time.
                if texts.len() > TEXTS_MOST {
                    return Err(damaged("its tokens are too long"));
                }
            }
        }
        let texts = String::from_utf8(texts).map_err(|_| damaged("a token is no text"))?;
        let text = |id: u32| texts[place(&ends, id)].to_owned();
        let tokens = ends.len();
        // Half of the time of loading each, before the model's own maps.
        let (vocab, pairs): (ahash::AHashMap<String, u32>, Vec<(String, String)>) = rayon::join(
            || {
                let mut vocab = ahash::AHashMap::with_capacity(tokens);
                vocab.extend((0..tokens as u32).map(|id| (text(id), id)));
                vocab
            },
            || merges.pairs.iter().map(|[a, b]| (text(*a), text(*b))).collect(),
        );
        if vocab.len() != tokens {
            return Err(damaged("two tokens are alike"));
        }
        let model = BPE::builder().vocab_and_merges(vocab, pairs).unk_token(UNKNOWN.into()).build();
        let mut inner = TextTokenizer::around(model.map_err(|e| damaged(&e.to_string()))?)?;
        let unknown = tokenizers::AddedToken::from(UNKNOWN, true);
        inner.add_special_tokens([unknown]).map_err(|e| damaged(&e.to_string()))?;
        Ok((TextTokenizer::plain(inner).without_unknown(), tokens))
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
            let encoding = self.inner.encode_char_offsets(text, false);
            let encoding = encoding.map_err(|e| Error::Internal(format!("tokenising {text:?}: {e}")))?;
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
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
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
    fn merges_make_the_tokeniser_again() {
        // a, b, c are 1 to 3; "abc" is made twice, in two ways.
        let merges =
            Merges { alphabet: "abc".into(), pairs: vec![[1, 2], [4, 3], [2, 3], [1, 6]], repeated: vec![3] };
        let (tokenizer, tokens) = TextTokenizer::from_merges(&merges).unwrap();
        assert_eq!((tokens, tokenizer.vocab_size()), (7, 7));
        assert_eq!(tokenizer.merges().unwrap(), merges);

        let refused = |pairs: Vec<[u32; 2]>, repeated: Vec<u32>| {
            let merges = Merges { alphabet: "abc".into(), pairs, repeated };
            TextTokenizer::from_merges(&merges).unwrap_err().to_string()
        };
        assert!(refused(vec![[1, 4]], vec![]).contains("not there yet"));
        assert!(refused(vec![[1, 2], [1, 2]], vec![]).contains("alike"));
        assert!(refused((0..64).map(|i| [3 + i; 2]).collect(), vec![]).contains("too long"));
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
