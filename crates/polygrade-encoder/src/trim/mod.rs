//! Trimming: an encoder without the pieces of its vocabulary that given texts do not use (Abdaoui et al. 2020, "Load
//! what you need: smaller versions of multilingual BERT").
//!
//! Kept are the pieces of the texts, all that is added to the vocabulary or put around texts, what byte-pair encodings
//! build the kept pieces from, and every character that a kept piece holds, so that words of the same alphabet can
//! still be spelt. Ids are numbered anew in their old order, and the rows of the token table gathered.
//!
//! Invariant: a text gets the tokens that it had, and so its vector to the last bit, if none of its tokens was cut.
//! WordPiece takes the longest piece, and fewer pieces leave it the longest. Of Unigram's ways through a word the best
//! one stays, as the score of unknown characters, that of the lowest piece less 10, does. Merges come in the order of
//! their ranks, and those that made the kept pieces are there.

mod vocabulary;

use crate::encoder::{Encoder, TextEncoder};
use crate::static_encoder::StaticEncoder;
use crate::tokenizer::TextTokenizer;
use crate::transformer_encoder::TransformerEncoder;
use crate::{Prompts, TextKind};
use polygrade_data::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::borrow::Cow;
use vocabulary::Vocabulary;

/// How often each piece of an encoder's vocabulary occurs in texts.
pub struct PieceCounts {
    tokenizer: TextTokenizer,
    prompts: Prompts,
    counts: Vec<u64>,
}

impl PieceCounts {
    /// None yet.
    pub fn new(encoder: &dyn TextEncoder) -> Result<Self> {
        // Texts are not cut: where a word is cut in two, its second half decides about the pieces of its first.
        let tokenizer = encoder.tokenizer().uncut()?;
        let counts = vec![0; tokenizer.vocab_size()];
        Ok(PieceCounts { tokenizer, prompts: encoder.prompts().clone(), counts })
    }

    /// Counts the pieces of texts, with the prompt of their kind before each.
    pub fn add(&mut self, texts: &[&str], kind: TextKind) -> Result<()> {
        let prompt = match kind {
            TextKind::Query => &self.prompts.query,
            TextKind::Passage => &self.prompts.passage,
        };
        let texts: Vec<Cow<str>> = texts
            .iter()
            .map(|t| if prompt.is_empty() { Cow::Borrowed(*t) } else { format!("{prompt}{t}").into() })
            .collect();
        for id in self.tokenizer.bags(&texts)?.tokens {
            self.counts[id as usize] += 1;
        }
        Ok(())
    }
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimSettings {
    /// Pieces that occur less often are cut; 1 keeps all that occur.
    pub min_count: u64,
    /// At most so many pieces stay, the most frequent.
    pub vocab_size: Option<usize>,
}

/// A trimmed encoder, and what became of the pieces.
pub struct Trimmed {
    /// The encoder.
    pub encoder: Encoder,
    /// Pieces of the vocabulary before and after.
    pub pieces: [usize; 2],
    /// Of the pieces, those that the texts use, before and after.
    pub used: [usize; 2],
    /// Tokens of the texts, and those among them whose piece is cut.
    pub tokens: [u64; 2],
    /// The new id of each old one.
    new_id: Vec<Option<u32>>,
}

impl Trimmed {
    /// Whether each text has other tokens in `new`, which is this encoder or what was loaded from where it was saved,
    /// than in the encoder `old` that was trimmed.
    pub fn changed(
        &self,
        old: &dyn TextEncoder,
        new: &dyn TextEncoder,
        texts: &[&str],
        kind: TextKind,
    ) -> Result<Vec<bool>> {
        let (before, after) = (old.tokenize(texts, kind)?, new.tokenize(texts, kind)?);
        let same = |i: usize| {
            let moved = before.get(i).iter().map(|id| self.new_id.get(*id as usize).copied().flatten());
            moved.eq(after.get(i).iter().map(|id| Some(*id)))
        };
        Ok((0..texts.len()).map(|i| !same(i)).collect())
    }
}

/// The pieces that stay.
struct Kept<'a> {
    vocabulary: &'a Vocabulary,
    parts: FxHashMap<u32, Vec<[u32; 2]>>,
    keep: Vec<bool>,
    count: usize,
}

impl Kept<'_> {
    fn has(&self, id: u32) -> bool {
        self.keep.get(id as usize).copied().unwrap_or(false)
    }

    /// A piece and what merges build it from, as far as it is not there yet; nothing where there is no such piece.
    fn missing(&self, id: u32) -> Vec<u32> {
        let (mut out, mut open, mut seen) = (Vec::new(), vec![id], FxHashSet::default());
        while let Some(id) = open.pop() {
            if self.has(id) || self.vocabulary.piece(id).is_none() || !seen.insert(id) {
                continue;
            }
            out.push(id);
            open.extend(self.parts.get(&id).into_iter().flatten().flatten());
        }
        out
    }

    fn add(&mut self, id: u32) {
        for id in self.missing(id) {
            self.keep[id as usize] = true;
            self.count += 1;
        }
    }
}

/// The encoder with the pieces that `counts` and `settings` leave.
pub fn trim(encoder: &Encoder, counts: &PieceCounts, settings: &TrimSettings) -> Result<Trimmed> {
    let vocabulary = Vocabulary::of(encoder.tokenizer())?;
    let mut kept = Kept {
        parts: vocabulary.parts()?,
        keep: vec![false; vocabulary.len()],
        vocabulary: &vocabulary,
        count: 0,
    };
    vocabulary.needed()?.into_iter().chain(encoder.tokenizer().unknown_id()).for_each(|id| kept.add(id));
    if let Encoder::Transformer(e) = encoder {
        e.reserved_ids().into_iter().for_each(|id| kept.add(id));
    }

    let count = |id: u32| counts.counts.get(id as usize).copied().unwrap_or(0);
    let least = settings.min_count.max(1);
    let mut used: Vec<u32> = (0..vocabulary.len() as u32).filter(|id| count(*id) >= least).collect();
    used.sort_by_key(|id| (std::cmp::Reverse(count(*id)), *id));
    if used.is_empty() {
        return Err(Error::Usage("the texts use no piece of the vocabulary often enough".into()));
    }
    let added: FxHashSet<u32> = vocabulary.added().into_iter().collect();
    let own = used.iter().filter(|id| !added.contains(id)).filter_map(|id| vocabulary.piece(*id));
    let alphabet: FxHashSet<char> = own.flat_map(|piece| vocabulary.core(piece).chars()).collect();
    for (id, _) in vocabulary.letters().filter(|(_, c)| alphabet.contains(c)) {
        kept.add(id);
    }
    if let Some(most) = settings.vocab_size.filter(|n| *n < kept.count) {
        let what = format!(
            "{most} pieces are too few: special tokens and single characters alone are {}; give more, or leave rare \
             characters out with a higher min-count",
            kept.count
        );
        return Err(Error::Usage(what));
    }
    let most = settings.vocab_size.unwrap_or(usize::MAX);
    for id in used {
        if kept.count + kept.missing(id).len() <= most {
            kept.add(id);
        }
    }

    let mut new_id = vec![None; vocabulary.len()];
    let rows: Vec<u32> = (0..vocabulary.len() as u32).filter(|id| kept.has(*id)).collect();
    rows.iter().enumerate().for_each(|(new, old)| new_id[*old as usize] = Some(new as u32));
    let all: Vec<u32> = (0..vocabulary.len() as u32).filter(|id| count(*id) > 0).collect();
    let gone = all.iter().filter(|id| !kept.has(**id));
    Ok(Trimmed {
        encoder: gathered(encoder, &vocabulary, &rows, &new_id)?,
        pieces: [vocabulary.count(), rows.len()],
        used: [all.len(), all.iter().filter(|id| kept.has(**id)).count()],
        tokens: [all.iter().map(|id| count(*id)).sum(), gone.map(|id| count(*id)).sum()],
        new_id,
    })
}

/// The encoder of some rows of the table.
fn gathered(encoder: &Encoder, all: &Vocabulary, rows: &[u32], new_id: &[Option<u32>]) -> Result<Encoder> {
    let json = all.cut(new_id)?;
    let old = encoder.tokenizer();
    let drop = old.drop.and_then(|id| new_id.get(id as usize).copied().flatten());
    let tokenizer = old.with_json(&json.to_string(), drop)?;
    let meant = rows.iter().map(|id| all.piece(*id));
    let found = tokenizer.pieces();
    if !meant.eq(found.iter().map(Option::as_deref)) {
        let what =
            "this tokenizer.json cannot be trimmed: its tokens would get other ids than their rows have";
        return Err(Error::Usage(what.into()));
    }
    Ok(match encoder {
        Encoder::Static(e) => StaticEncoder { tokenizer, ..e.with_tokens(rows) }.into(),
        Encoder::Transformer(e) => {
            let mut files = Vec::new();
            for (name, bytes) in e.tokenizer_files() {
                files.extend(vocabulary::file(name, bytes, &json, new_id)?.map(|bytes| (*name, bytes)));
            }
            e.with_rows(rows, tokenizer, files, |id| new_id.get(id as usize).copied().flatten()).into()
        }
    })
}

impl TransformerEncoder {
    /// The ids that `config.json` names. Where a text's positions begin behind that of padding, all ids up to it, so
    /// that it stays what it is.
    fn reserved_ids(&self) -> Vec<u32> {
        let entries = self.config().as_object().into_iter().flatten();
        let mut out: Vec<u32> = entries.filter(|(key, _)| is_id(key)).flat_map(|(_, v)| ids(v)).collect();
        if let polygrade_nn::transformer::Positions::Learned { first, .. } = self.spec().positions {
            out.extend(0..first as u32);
        }
        out
    }
}

/// Whether a key of `config.json` names a token.
pub(crate) fn is_id(key: &str) -> bool {
    key.ends_with("_token_id")
}

fn ids(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        value => one(value).into_iter().collect(),
    }
}
