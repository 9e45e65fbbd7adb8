//! A byte-pair encoding that is made of its merges alone.
//!
//! It gives the tokens that the `tokenizers` crate's own model gives ([`tokenizers::models::bpe::BPE`], whose order of merges
//! it follows, also where it is particular), but holds no text of any token in a map: that takes the crate's model four times
//! as long to build as all else in loading a compact model takes.

use super::{Merges, TEXTS_MOST, UNKNOWN};
use ahash::AHashMap;
use polygrade_data::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

/// The model.
#[derive(Debug, Clone)]
pub(super) struct Merged {
    pub(super) merges: Merges,
    texts: Texts,
    characters: AHashMap<char, u32>,
    /// By the pair, the rank of its merge and the token that it makes.
    pairs: AHashMap<[u32; 2], (u32, u32)>,
}

/// The tokens' texts, one after another: the unknown token, the characters, then what each merge first makes.
#[derive(Debug, Clone)]
pub(super) struct Texts {
    all: String,
    ends: Vec<u32>,
}

impl Texts {
    pub(super) fn of(merges: &Merges) -> Result<Self> {
        let (mut all, mut ends) = (Vec::from(UNKNOWN), vec![UNKNOWN.len() as u32]);
        all.reserve(8 * merges.pairs.len());
        ends.reserve(merges.pairs.len() + merges.alphabet.len());
        for c in merges.alphabet.chars() {
            all.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            ends.push(all.len() as u32);
        }
        let mut repeated = merges.repeated.iter().peekable();
        for (i, [a, b]) in merges.pairs.iter().enumerate() {
            if *a.max(b) as usize >= ends.len() {
                return Err(damaged("a merge joins tokens that are not there yet"));
            }
            if repeated.next_if(|at| **at as usize == i).is_none() {
                all.extend_from_within(place(&ends, *a));
                all.extend_from_within(place(&ends, *b));
                ends.push(all.len() as u32);
                // Damaged merges can double a token each time.
                if all.len() > TEXTS_MOST {
                    return Err(damaged("its tokens are too long"));
                }
            }
        }
        let all = String::from_utf8(all).map_err(|_| damaged("a token is no text"))?;
        Ok(Texts { all, ends })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, id: u32) -> &str {
        &self.all[place(&self.ends, id)]
    }

    fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        (0..self.len() as u32).map(|id| (self.get(id), id))
    }
}

fn place(ends: &[u32], id: u32) -> Range<usize> {
    let id = id as usize;
    let from = if id == 0 { 0 } else { ends[id - 1] };
    from as usize..ends[id] as usize
}

pub(super) fn damaged(what: &str) -> Error {
    Error::Usage(format!("the merges make no tokeniser: {what}"))
}

impl Merged {
    /// # Errors
    /// The merges are damaged.
    pub(super) fn new(merges: Merges) -> Result<Self> {
        let texts = Texts::of(&merges)?;
        // Ids follow the order of merges, but where a merge makes a token that is there already.
        let own_ids = || {
            let mut pairs = AHashMap::with_capacity(merges.pairs.len());
            let mut next = 1 + merges.alphabet.chars().count() as u32;
            let mut repeated = merges.repeated.iter().peekable();
            for (i, pair) in merges.pairs.iter().enumerate() {
                let own = repeated.next_if(|at| **at as usize == i).is_none();
                pairs.insert(*pair, (i as u32, if own { next } else { 0 }));
                next += u32::from(own);
            }
            pairs
        };
        let by_text = || {
            let mut ids = AHashMap::with_capacity(texts.len());
            ids.extend(texts.iter());
            ids
        };
        let (mut pairs, ids) = rayon::join(own_ids, by_text);
        if ids.len() != texts.len() {
            return Err(damaged("two tokens are alike"));
        }
        for at in &merges.repeated {
            let Some(pair) = merges.pairs.get(*at as usize) else {
                return Err(damaged("a merge that is said to repeat is not there"));
            };
            let whole = pair.map(|t| texts.get(t)).concat();
            let id = ids.get(whole.as_str()).ok_or_else(|| damaged("a merge repeats nothing"))?;
            // Of a pair that is there twice the last counts.
            if let Some(made) = pairs.get_mut(pair).filter(|made| made.0 == *at) {
                made.1 = *id;
            }
        }
        let characters = merges.alphabet.chars().zip(1..).collect();
        Ok(Merged { texts, characters, pairs, merges })
    }

    pub(super) fn texts(&self) -> &Texts {
        &self.texts
    }
}

/// A token on its way: where its neighbours are, and its length in bytes, 0 once it is part of the one before.
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
    len: u32,
}

const END: u32 = u32::MAX;

impl Model for Merged {
    type Trainer = BpeTrainer;

    fn tokenize(&self, word: &str) -> tokenizers::Result<Vec<Token>> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        for c in word.chars() {
            let at = symbols.len() as u32;
            let id = self.characters.get(&c).copied().unwrap_or(0);
            symbols.push(Symbol { id, prev: at.wrapping_sub(1), next: at + 1, len: c.len_utf8() as u32 });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = END;
        }
        // The lowest rank first, then the leftmost. A merge that another one came before is still here, and is told by the
        // token that it would make.
        let ranked =
            |pair: [u32; 2], at: u32| self.pairs.get(&pair).map(|(rank, id)| Reverse((*rank, at, *id)));
        let first = symbols.windows(2).zip(0..).filter_map(|(pair, at)| ranked([pair[0].id, pair[1].id], at));
        let mut waiting: BinaryHeap<_> = first.collect();
        while let Some(Reverse((_, at, id))) = waiting.pop() {
            let Symbol { next, len, id: left, prev } = symbols[at as usize];
            if len == 0 || next == END {
                continue;
            }
            let right = &mut symbols[next as usize];
            if self.pairs.get(&[left, right.id]).is_none_or(|made| made.1 != id) {
                continue;
            }
            let (after, taken) = (right.next, right.len);
            right.len = 0;
            symbols[at as usize] = Symbol { id, prev, next: after, len: len + taken };
            if after != END {
                symbols[after as usize].prev = at;
                waiting.extend(ranked([id, symbols[after as usize].id], at));
            }
            if prev != END {
                waiting.extend(ranked([symbols[prev as usize].id, id], prev));
            }
        }
        let mut from = 0;
        let left = symbols.into_iter().filter(|s| s.len > 0);
        let tokens = left.map(|s| {
            let span = (from, from + s.len as usize);
            from = span.1;
            // Nobody asks for a token's text.
            Token::new(s.id, String::new(), span)
        });
        Ok(tokens.collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.texts.iter().find(|(text, _)| *text == token).map(|(_, id)| id)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        ((id as usize) < self.texts.len()).then(|| self.texts.get(id).to_owned())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.texts.iter().map(|(text, id)| (text.to_owned(), id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.texts.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a model of merges is saved as the crate's own".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
