//! The records of a collection: passages, queries, judgments, and what the collection says of itself.

use crate::lang::Lang;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// A passage of the corpus (`corpus.jsonl`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passage {
    /// Unique within the corpus.
    #[serde(rename = "_id")]
    pub id: String,
    /// Optional title, put before the text when it is encoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text.
    pub text: String,
    /// Its language.
    pub lang: Lang,
    /// Joins passages that are translations of one another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Passage {
    /// Title and text as one string, as encoders and BM25 see it.
    pub fn full_text(&self) -> std::borrow::Cow<'_, str> {
        match &self.title {
            Some(t) if !t.is_empty() => format!("{t} {}", self.text).into(),
            _ => self.text.as_str().into(),
        }
    }

    /// What judgments are shared by: the group, or the passage itself.
    pub fn unit(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.id)
    }
}

/// A query (`queries.jsonl`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Query {
    /// Unique among the queries.
    #[serde(rename = "_id")]
    pub id: String,
    /// The text.
    pub text: String,
    /// Its language.
    pub lang: Lang,
    /// Joins queries that are translations of one another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Query {
    /// What judgments are shared by: the group, or the query itself.
    pub fn unit(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.id)
    }
}

/// One line of `corpus.jsonl` or `queries.jsonl` as it stands in the file: BEIR's, with or without languages.
#[derive(Debug, Deserialize)]
pub struct RawText {
    /// `_id`; a number is taken as its digits.
    #[serde(rename = "_id", alias = "id", alias = "docid", deserialize_with = "text_or_number")]
    pub id: String,
    /// The title, if any.
    #[serde(default)]
    pub title: Option<String>,
    /// The text.
    #[serde(alias = "contents", alias = "document_text", alias = "query_text")]
    pub text: String,
    /// The language tag, unchecked.
    #[serde(default)]
    pub lang: Option<String>,
    /// The group of translations.
    #[serde(default, deserialize_with = "opt_text_or_number")]
    pub group: Option<String>,
    /// BEIR's place for further fields.
    #[serde(default)]
    pub metadata: Option<RawMetadata>,
}

/// What BEIR's `metadata` may say of language and group.
#[derive(Debug, Default, Deserialize)]
pub struct RawMetadata {
    /// The language tag, unchecked.
    #[serde(default)]
    pub lang: Option<String>,
    /// The group of translations.
    #[serde(default, deserialize_with = "opt_text_or_number")]
    pub group: Option<String>,
}

impl RawText {
    /// A text without title or group.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        RawText { id: id.into(), title: None, text: text.into(), lang: None, group: None, metadata: None }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Int(i64),
    Big(u64),
}

impl TextOrNumber {
    fn into_string(self) -> String {
        match self {
            TextOrNumber::Text(s) => s,
            TextOrNumber::Int(n) => n.to_string(),
            TextOrNumber::Big(n) => n.to_string(),
        }
    }
}

/// Deserialises an id that some tools write as a number.
pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(TextOrNumber::deserialize(d)?.into_string())
}

fn opt_text_or_number<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<TextOrNumber>::deserialize(d)?.map(TextOrNumber::into_string))
}

/// A list of ids that some tools write as numbers.
pub(crate) fn texts_or_numbers<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<TextOrNumber>::deserialize(d)?.into_iter().map(TextOrNumber::into_string).collect())
}

/// Who gave a judgment, and where it comes from, where the files say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// The annotator: a person or a language model.
    pub annotator: Option<&'a str>,
    /// The source: a data set, a campaign, a prompt.
    pub source: Option<&'a str>,
}

impl Origin<'_> {
    /// Whether nothing is known.
    pub fn is_none(&self) -> bool {
        *self == Origin::default()
    }
}

/// Which part of the judgments: to train on, to choose by, to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For choosing settings; never for reporting.
    Dev,
    /// For reporting, once.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Dev, Split::Test];

    /// `train`, `dev` or `test`.
    pub fn name(self) -> &'static str {
        ["train", "dev", "test"][self as usize]
    }

    /// Parses a name; the field's other names for dev (`validation`, `val`, `valid`, `trial`) are taken.
    pub fn parse(name: &str) -> Option<Split> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "dev" | "validation" | "valid" | "val" | "trial" => Some(Split::Dev),
            "test" | "eval" => Some(Split::Test),
            _ => None,
        }
    }
}

/// What a collection says of itself (`collection.toml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// A short name.
    pub name: String,
    /// The licence of the texts and judgments, or `unknown`.
    #[serde(default = "unknown")]
    pub licence: String,
    /// Where it comes from.
    #[serde(default = "unknown")]
    pub source: String,
    /// The scale of its grades.
    pub grades: Scale,
}

fn unknown() -> String {
    "unknown".into()
}

/// The scale of the grades: 0 to `max`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The highest grade, G.
    pub max: f32,
    /// How grades were replaced on import, before they were moved to begin at 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub map: Vec<String>,
    /// The meaning of each grade, in words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meaning: BTreeMap<String, String>,
}

impl Scale {
    /// The scale 0..`max` without words.
    pub fn up_to(max: f32) -> Self {
        Scale { max, map: Vec::new(), meaning: BTreeMap::new() }
    }

    /// Whether `grade` lies on it.
    pub fn holds(&self, grade: f32) -> bool {
        grade >= 0.0 && grade <= self.max
    }
}
