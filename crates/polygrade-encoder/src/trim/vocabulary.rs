//! A `tokenizer.json` without some of its pieces. The `tokenizers` crate cannot take pieces out of a model, so this works
//! on the JSON; what the crate makes of it is compared with what was meant.

use crate::tokenizer::TextTokenizer;
use polygrade_data::{Error, Result};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

/// What sentencepiece writes for a space.
const SPACE: char = '▁';

/// The pieces of a tokeniser, and the `tokenizer.json` that they come from.
pub(super) struct Vocabulary {
    json: Value,
    /// By id; ids may have gaps.
    pieces: Vec<Option<String>>,
    /// What stands before a piece inside a word, and behind one at its end.
    prefix: String,
    suffix: String,
}

fn fault(what: &str) -> Error {
    Error::Usage(format!("this tokenizer.json cannot be trimmed: {what}"))
}

impl Vocabulary {
    pub(super) fn of(tokenizer: &TextTokenizer) -> Result<Self> {
        let json: Value = serde_json::from_str(&tokenizer.to_json()?)
            .map_err(|e| Error::Internal(format!("reading the tokeniser's own JSON: {e}")))?;
        let affix = |key: &str| json["model"][key].as_str().unwrap_or_default().to_owned();
        let (prefix, suffix) = (affix("continuing_subword_prefix"), affix("end_of_word_suffix"));
        Ok(Vocabulary { prefix, suffix, json, pieces: tokenizer.pieces() })
    }

    /// One above the highest id.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Number of pieces.
    pub(super) fn count(&self) -> usize {
        self.pieces.iter().flatten().count()
    }

    pub(super) fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize)?.as_deref()
    }

    fn model(&self) -> &Value {
        &self.json["model"]
    }

    fn ids(&self) -> impl Iterator<Item = (u32, &str)> {
        self.pieces.iter().enumerate().filter_map(|(id, p)| Some((id as u32, p.as_deref()?)))
    }

    pub(super) fn added(&self) -> Vec<u32> {
        let tokens = self.json["added_tokens"].as_array().into_iter().flatten();
        tokens.filter_map(|t| t["id"].as_u64()).map(|id| id as u32).collect()
    }

    /// The ids that every trimmed vocabulary needs: added tokens, those that are put around texts, bytes, and the piece
    /// with the lowest score, which a Unigram model derives the score of unknown characters from.
    pub(super) fn needed(&self) -> Result<Vec<u32>> {
        let mut out = self.added();
        let mut json = self.json["post_processor"].clone();
        around(&mut json, &mut |id| {
            out.push(id);
            Some(id)
        })?;
        let bytes = has_type(&self.json["pre_tokenizer"], "ByteLevel")
            || has_type(&self.json["normalizer"], "ByteLevel");
        if bytes {
            out.extend(self.ids().filter(|(_, p)| p.chars().nth(1).is_none()).map(|(id, _)| id));
        }
        if self.model()["byte_fallback"] == true {
            out.extend(self.ids().filter(|(_, p)| is_byte(p)).map(|(id, _)| id));
        }
        if let Some(list) = self.model()["vocab"].as_array() {
            let scores = list.iter().enumerate().filter_map(|(id, p)| Some((id, p[1].as_f64()?)));
            out.extend(scores.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(id, _)| id as u32));
        }
        out.sort_unstable();
        out.dedup();
        match out.iter().find(|id| self.piece(**id).is_none()) {
            Some(id) => Err(fault(&format!("it names the token {id}, which its vocabulary does not hold"))),
            None => Ok(out),
        }
    }

    /// For each piece that merges make, the pairs that it is made of.
    pub(super) fn parts(&self) -> Result<FxHashMap<u32, Vec<[u32; 2]>>> {
        let Some(merges) = self.model()["merges"].as_array() else { return Ok(FxHashMap::default()) };
        let id_of: FxHashMap<&str, u32> = self.ids().map(|(id, p)| (p, id)).collect();
        let mut out: FxHashMap<u32, Vec<[u32; 2]>> = FxHashMap::default();
        for merge in merges {
            let found = self.merge(merge).and_then(|[a, b, both]| {
                Some(([*id_of.get(a.as_str())?, *id_of.get(b.as_str())?], *id_of.get(both.as_str())?))
            });
            let (pair, both) = found.ok_or_else(|| fault(&format!("the merge {merge}")))?;
            out.entry(both).or_default().push(pair);
        }
        Ok(out)
    }

    /// The two sides of a merge and what it makes.
    fn merge(&self, merge: &Value) -> Option<[String; 3]> {
        let (a, b) = match merge {
            Value::String(text) => text.split_once(' ')?,
            pair => (pair[0].as_str()?, pair[1].as_str()?),
        };
        Some([
            a.to_owned(),
            b.to_owned(),
            format!("{a}{}", b.strip_prefix(self.prefix.as_str()).unwrap_or(b)),
        ])
    }

    /// A piece without what marks its place in the word.
    pub(super) fn core<'a>(&self, piece: &'a str) -> &'a str {
        let core = piece.strip_prefix(self.prefix.as_str()).unwrap_or(piece);
        let core = core.strip_prefix(SPACE).unwrap_or(core);
        let core = core.strip_suffix(self.suffix.as_str()).unwrap_or(core);
        if core.is_empty() { piece } else { core }
    }

    /// The pieces that are one character, with it.
    pub(super) fn letters(&self) -> impl Iterator<Item = (u32, char)> + '_ {
        self.ids().filter_map(|(id, piece)| {
            let mut chars = self.core(piece).chars();
            chars.next().filter(|_| chars.next().is_none()).map(|c| (id, c))
        })
    }

    /// The `tokenizer.json` of the pieces that `new` gives an id. They must be ascending and without gaps.
    pub(super) fn cut(&self, new: &[Option<u32>]) -> Result<Value> {
        let of = |id: u64| new.get(id as usize).copied().flatten();
        let mut json = self.json.clone();
        let model = &mut json["model"];
        match &mut model["vocab"] {
            Value::Object(map) => map.retain(|_, id| {
                let found = id.as_u64().and_then(of);
                *id = found.into();
                found.is_some()
            }),
            Value::Array(list) => {
                let mut id = 0;
                list.retain(|_| {
                    id += 1;
                    of(id - 1).is_some()
                });
            }
            _ => return Err(fault("its model has no vocabulary")),
        }
        if let Some(id) = model["unk_id"].as_u64() {
            model["unk_id"] = of(id).into();
        }
        if let Some(Value::Array(merges)) = model.get_mut("merges") {
            let id_of: FxHashMap<&str, u32> = self.ids().map(|(id, p)| (p, id)).collect();
            let kept =
                |piece: &String| id_of.get(piece.as_str()).is_some_and(|id| of(u64::from(*id)).is_some());
            merges.retain(|m| self.merge(m).is_some_and(|all| all.iter().all(kept)));
        }
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            token["id"] = token["id"].as_u64().and_then(of).into();
        }
        around(&mut json["post_processor"], &mut |id| of(u64::from(id)))?;
        Ok(json)
    }
}

fn is_byte(piece: &str) -> bool {
    let hex = piece.strip_prefix("<0x").and_then(|p| p.strip_suffix('>'));
    hex.is_some_and(|h| h.len() == 2 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether a component, or one that it is a sequence of, is of a type.
fn has_type(component: &Value, kind: &str) -> bool {
    let inner = ["normalizers", "pretokenizers"].iter().filter_map(|key| component[*key].as_array());
    component["type"] == kind || inner.flatten().any(|c| has_type(c, kind))
}

/// Puts other ids in place of those that a post-processor puts around texts.
fn around(processor: &mut Value, change: &mut dyn FnMut(u32) -> Option<u32>) -> Result<()> {
    let mut one = |id: &mut Value| {
        let changed = id.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(&mut *change);
        *id = changed.ok_or_else(|| fault(&format!("it puts the token {id} around texts")))?.into();
        Ok(())
    };
    match processor["type"].as_str() {
        Some("TemplateProcessing") => {
            let tokens = processor["special_tokens"].as_object_mut();
            let ids = tokens.into_iter().flatten().filter_map(|(_, t)| t["ids"].as_array_mut());
            ids.flatten().try_for_each(one)
        }
        Some("BertProcessing" | "RobertaProcessing") => {
            let mut ids = ["sep", "cls"].iter();
            ids.try_for_each(|key| {
                processor.get_mut(*key).and_then(|t| t.get_mut(1)).map_or(Ok(()), &mut one)
            })
        }
        Some("Sequence") => {
            let all = processor["processors"].as_array_mut().into_iter().flatten();
            all.into_iter().try_for_each(|p| around(p, change))
        }
        _ => Ok(()),
    }
}

/// A model's file beside `tokenizer.json`, for the pieces that `new` gives an id: `None` where it cannot be made.
/// `json` is the trimmed `tokenizer.json`.
pub(super) fn file(name: &str, bytes: &[u8], json: &Value, new: &[Option<u32>]) -> Result<Option<Vec<u8>>> {
    let model = &json["model"];
    let by_id = || {
        let map = model["vocab"].as_object()?;
        let mut all: Vec<_> = map.iter().map(|(piece, id)| (id.as_u64(), piece.as_str())).collect();
        all.sort_unstable();
        Some(all.into_iter().map(|(_, piece)| format!("{piece}\n")).collect::<String>())
    };
    let read = || -> Result<Value> {
        serde_json::from_slice(bytes).map_err(|e| fault(&format!("{name} beside it is not valid JSON: {e}")))
    };
    let of = |id: u64| new.get(id as usize).copied().flatten();
    let text = match name {
        "vocab.txt" => by_id(),
        "vocab.json" => model["vocab"].is_object().then(|| format!("{}\n", model["vocab"])),
        "merges.txt" => model["merges"].as_array().map(|merges| {
            let line = |m: &Value| match m {
                Value::String(text) => format!("{text}\n"),
                m => format!("{} {}\n", m[0].as_str().unwrap_or_default(), m[1].as_str().unwrap_or_default()),
            };
            std::iter::once("#version: 0.2\n".to_owned()).chain(merges.iter().map(line)).collect()
        }),
        "added_tokens.json" => {
            let mut tokens = read()?;
            if let Some(map) = tokens.as_object_mut() {
                map.retain(|_, id| {
                    *id = id.as_u64().and_then(of).into();
                    !id.is_null()
                });
            }
            Some(format!("{tokens:#}\n"))
        }
        "tokenizer_config.json" => {
            let mut config = read()?;
            if let Some(old) = config["added_tokens_decoder"].as_object() {
                let renamed = old.iter().filter_map(|(id, token)| {
                    Some((id.parse().ok().and_then(of)?.to_string(), token.clone()))
                });
                config["added_tokens_decoder"] = json!(renamed.collect::<serde_json::Map<_, _>>());
            } else if let Some(map) = config.as_object_mut() {
                map.remove("added_tokens_decoder");
            }
            Some(format!("{config:#}\n"))
        }
        // A sentencepiece model holds all pieces; tokenizer.json says the same.
        name if name.ends_with(".model") => None,
        _ => return Ok(Some(bytes.to_vec())),
    };
    Ok(text.map(String::into_bytes))
}
