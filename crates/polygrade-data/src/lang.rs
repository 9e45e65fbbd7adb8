//! Language tags (BCP 47) and the detection of a text's language.

use std::fmt;

/// A language tag in its usual case, such as `en`, `pt-BR` or `zh-Hant`; `und` is "not known".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lang(String);

impl Lang {
    /// The tag of an unknown language.
    pub fn unknown() -> Self {
        Lang("und".into())
    }

    /// Parses a tag: a language of two or three letters, then optional script, region and variants.
    /// `_` is taken as `-`, and the case is put right. `None` where it is no tag.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.replace('_', "-");
        let mut out = String::with_capacity(text.len());
        for (i, part) in text.split('-').enumerate() {
            let alpha = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphabetic());
            let alnum = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
            if i == 0 {
                if !alpha || !(2..=3).contains(&part.len()) {
                    return None;
                }
                out.push_str(&part.to_ascii_lowercase());
                continue;
            }
            if !alnum || part.len() > 8 {
                return None;
            }
            out.push('-');
            match part.len() {
                4 if alpha => {
                    out.push_str(&part[..1].to_ascii_uppercase());
                    out.push_str(&part[1..].to_ascii_lowercase());
                }
                2 if alpha => out.push_str(&part.to_ascii_uppercase()),
                _ => out.push_str(&part.to_ascii_lowercase()),
            }
        }
        Some(Lang(out))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The language alone, without script or region.
    pub fn primary(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }

    /// With the language in two letters where ISO 639-1 has them and corpora often do not use them: `deu` is `de`, and
    /// `cmn`, `zho` and `zh` are one.
    #[must_use]
    pub fn short(&self) -> Lang {
        let primary = self.primary();
        let macro_language =
            [("zho", "zh"), ("swa", "sw"), ("swh", "sw"), ("arb", "ar"), ("fas", "fa"), ("msa", "ms")];
        let mut table = ISO3_TO_TAG.iter().chain(&macro_language);
        match table.find(|(iso3, _)| *iso3 == primary) {
            Some((_, tag)) => Lang(format!("{tag}{}", &self.0[primary.len()..])),
            None => self.clone(),
        }
    }

    /// The place of the language among `langs`; regions and scripts make no difference unless one of these has them.
    pub fn place_in(&self, langs: &[Lang]) -> Option<usize> {
        let exact = langs.iter().position(|l| l == self);
        exact.or_else(|| langs.iter().position(|l| l.as_str() == self.primary()))
    }

    /// Whether words are not separated by spaces in this language.
    pub fn is_unspaced(&self) -> bool {
        matches!(self.primary(), "zh" | "ja" | "th" | "lo" | "km" | "my" | "bo" | "yue" | "wuu")
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Lang {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Lang {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Lang::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no language tag")))
    }
}

/// Two-letter tags of the languages that [`detect`] knows under other (ISO 639-3) names.
const ISO3_TO_TAG: &[(&str, &str)] = &[
    ("epo", "eo"),
    ("eng", "en"),
    ("rus", "ru"),
    ("cmn", "zh"),
    ("spa", "es"),
    ("por", "pt"),
    ("ita", "it"),
    ("ben", "bn"),
    ("fra", "fr"),
    ("deu", "de"),
    ("ukr", "uk"),
    ("kat", "ka"),
    ("ara", "ar"),
    ("hin", "hi"),
    ("jpn", "ja"),
    ("heb", "he"),
    ("yid", "yi"),
    ("pol", "pl"),
    ("amh", "am"),
    ("jav", "jv"),
    ("kor", "ko"),
    ("nob", "nb"),
    ("dan", "da"),
    ("swe", "sv"),
    ("fin", "fi"),
    ("tur", "tr"),
    ("nld", "nl"),
    ("hun", "hu"),
    ("ces", "cs"),
    ("ell", "el"),
    ("bul", "bg"),
    ("bel", "be"),
    ("mar", "mr"),
    ("kan", "kn"),
    ("ron", "ro"),
    ("slv", "sl"),
    ("hrv", "hr"),
    ("srp", "sr"),
    ("mkd", "mk"),
    ("lit", "lt"),
    ("lav", "lv"),
    ("est", "et"),
    ("tam", "ta"),
    ("vie", "vi"),
    ("urd", "ur"),
    ("tha", "th"),
    ("guj", "gu"),
    ("uzb", "uz"),
    ("pan", "pa"),
    ("aze", "az"),
    ("ind", "id"),
    ("tel", "te"),
    ("pes", "fa"),
    ("mal", "ml"),
    ("ori", "or"),
    ("mya", "my"),
    ("nep", "ne"),
    ("sin", "si"),
    ("khm", "km"),
    ("tuk", "tk"),
    ("aka", "ak"),
    ("zul", "zu"),
    ("sna", "sn"),
    ("afr", "af"),
    ("lat", "la"),
    ("slk", "sk"),
    ("cat", "ca"),
    ("tgl", "tl"),
    ("hye", "hy"),
    ("cym", "cy"),
];

fn tag_of(lang: whatlang::Lang) -> &'static str {
    let code = lang.code();
    ISO3_TO_TAG.iter().find(|(iso3, _)| *iso3 == code).map_or(code, |(_, tag)| tag)
}

/// Whether [`detect`] can answer with this language at all. Swahili, for one, it cannot.
pub fn detectable(lang: &Lang) -> bool {
    ISO3_TO_TAG.iter().any(|(_, tag)| *tag == lang.primary())
}

/// The language of a text, where the detector (whatlang: scripts and trigrams) is sure of it.
pub fn detect(text: &str) -> Option<Lang> {
    let info = whatlang::detect(text)?;
    if info.is_reliable() { Lang::parse(tag_of(info.lang())) } else { None }
}

/// The most likely language of a text among `langs`, however short the text; `None` where none of them can be
/// detected.
pub fn detect_among<'a>(text: &str, langs: impl Iterator<Item = &'a Lang>) -> Option<Lang> {
    let langs: Vec<&Lang> = langs.collect();
    let all = whatlang::Lang::all().iter().copied();
    let allowed: Vec<_> = all.filter(|l| langs.iter().any(|x| x.primary() == tag_of(*l))).collect();
    let found = tag_of(whatlang::Detector::with_allowlist(allowed).detect_lang(text)?);
    langs.into_iter().find(|l| l.primary() == found).cloned()
}

/// The detected language where it contradicts the declared one. Languages that cannot be detected are never
/// contradicted by another language of the same script family: only a sure answer counts.
pub fn disagrees(declared: &Lang, text: &str) -> Option<Lang> {
    if !detectable(declared) {
        return None;
    }
    detect(text).filter(|found| found.primary() != declared.primary())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_put_in_their_usual_case() {
        let ok = |a: &str| Lang::parse(a).unwrap().to_string();
        assert_eq!(ok("EN"), "en");
        assert_eq!(ok("pt_br"), "pt-BR");
        assert_eq!(ok("ZH-hant-tw"), "zh-Hant-TW");
        for bad in ["", "e", "english", "en-", "e1", "en-abcdefghi", "日本"] {
            assert_eq!(Lang::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn detection_is_used_only_where_it_can_be_right() {
        let en = Lang::parse("en").unwrap();
        let german = "Der Tisch sollte so hoch sein, dass die Ellenbogen einen rechten Winkel bilden.";
        assert_eq!(disagrees(&en, german).map(|l| l.to_string()), Some("de".into()));
        assert_eq!(disagrees(&Lang::parse("de").unwrap(), german), None);
        assert_eq!(disagrees(&Lang::parse("sw").unwrap(), german), None);
    }
}
