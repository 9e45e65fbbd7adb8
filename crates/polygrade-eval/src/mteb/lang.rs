//! Language tags as mteb writes them: ISO 639-3 and ISO 15924, such as `eng-Latn`.

use polygrade_data::Lang;

/// (BCP 47, ISO 639-3, usual script) by ISO 639 and CLDR's likely subtags; of a macrolanguage its own code.
const LANGS: &[(&str, &str, &str)] = &[
    ("af", "afr", "Latn"),
    ("am", "amh", "Ethi"),
    ("ar", "ara", "Arab"),
    ("as", "asm", "Beng"),
    ("az", "aze", "Latn"),
    ("be", "bel", "Cyrl"),
    ("bg", "bul", "Cyrl"),
    ("bn", "ben", "Beng"),
    ("bo", "bod", "Tibt"),
    ("br", "bre", "Latn"),
    ("bs", "bos", "Latn"),
    ("ca", "cat", "Latn"),
    ("cs", "ces", "Latn"),
    ("cy", "cym", "Latn"),
    ("da", "dan", "Latn"),
    ("de", "deu", "Latn"),
    ("ee", "ewe", "Latn"),
    ("el", "ell", "Grek"),
    ("en", "eng", "Latn"),
    ("eo", "epo", "Latn"),
    ("es", "spa", "Latn"),
    ("et", "est", "Latn"),
    ("eu", "eus", "Latn"),
    ("fa", "fas", "Arab"),
    ("fi", "fin", "Latn"),
    ("fo", "fao", "Latn"),
    ("fr", "fra", "Latn"),
    ("ga", "gle", "Latn"),
    ("gl", "glg", "Latn"),
    ("gu", "guj", "Gujr"),
    ("ha", "hau", "Latn"),
    ("he", "heb", "Hebr"),
    ("hi", "hin", "Deva"),
    ("hr", "hrv", "Latn"),
    ("hu", "hun", "Latn"),
    ("hy", "hye", "Armn"),
    ("id", "ind", "Latn"),
    ("ig", "ibo", "Latn"),
    ("is", "isl", "Latn"),
    ("it", "ita", "Latn"),
    ("ja", "jpn", "Jpan"),
    ("jv", "jav", "Latn"),
    ("ka", "kat", "Geor"),
    ("kk", "kaz", "Cyrl"),
    ("km", "khm", "Khmr"),
    ("kn", "kan", "Knda"),
    ("ko", "kor", "Hang"),
    ("ku", "kur", "Latn"),
    ("ky", "kir", "Cyrl"),
    ("la", "lat", "Latn"),
    ("ln", "lin", "Latn"),
    ("lo", "lao", "Laoo"),
    ("lt", "lit", "Latn"),
    ("lv", "lav", "Latn"),
    ("mg", "mlg", "Latn"),
    ("mi", "mri", "Latn"),
    ("mk", "mkd", "Cyrl"),
    ("ml", "mal", "Mlym"),
    ("mn", "mon", "Cyrl"),
    ("mr", "mar", "Deva"),
    ("ms", "msa", "Latn"),
    ("mt", "mlt", "Latn"),
    ("my", "mya", "Mymr"),
    ("nb", "nob", "Latn"),
    ("ne", "nep", "Deva"),
    ("nl", "nld", "Latn"),
    ("nn", "nno", "Latn"),
    ("no", "nor", "Latn"),
    ("om", "orm", "Latn"),
    ("or", "ori", "Orya"),
    ("pa", "pan", "Guru"),
    ("pl", "pol", "Latn"),
    ("ps", "pus", "Arab"),
    ("pt", "por", "Latn"),
    ("ro", "ron", "Latn"),
    ("ru", "rus", "Cyrl"),
    ("rw", "kin", "Latn"),
    ("sd", "snd", "Arab"),
    ("si", "sin", "Sinh"),
    ("sk", "slk", "Latn"),
    ("sl", "slv", "Latn"),
    ("sn", "sna", "Latn"),
    ("so", "som", "Latn"),
    ("sq", "sqi", "Latn"),
    ("sr", "srp", "Cyrl"),
    ("su", "sun", "Latn"),
    ("sv", "swe", "Latn"),
    ("sw", "swa", "Latn"),
    ("ta", "tam", "Taml"),
    ("te", "tel", "Telu"),
    ("tg", "tgk", "Cyrl"),
    ("th", "tha", "Thai"),
    ("ti", "tir", "Ethi"),
    ("tk", "tuk", "Latn"),
    ("tl", "tgl", "Latn"),
    ("tr", "tur", "Latn"),
    ("ug", "uig", "Arab"),
    ("uk", "ukr", "Cyrl"),
    ("ur", "urd", "Arab"),
    ("uz", "uzb", "Latn"),
    ("vi", "vie", "Latn"),
    ("wo", "wol", "Latn"),
    ("xh", "xho", "Latn"),
    ("yi", "yid", "Hebr"),
    ("yo", "yor", "Latn"),
    ("zh", "zho", "Hans"),
    ("zu", "zul", "Latn"),
];

/// Other codes in mteb's results for languages that BCP 47 tags usually name by their macrolanguage.
const SAME: &[(&str, &str)] = &[
    ("arb", "ara"),
    ("azj", "aze"),
    ("cmn", "zho"),
    ("ekk", "est"),
    ("gaz", "orm"),
    ("khk", "mon"),
    ("als", "sqi"),
    ("lvs", "lav"),
    ("npi", "nep"),
    ("ory", "ori"),
    ("pbt", "pus"),
    ("pes", "fas"),
    ("plt", "mlg"),
    ("swh", "swa"),
    ("fil", "tgl"),
    ("uzn", "uzb"),
    ("ydd", "yid"),
    ("zsm", "msa"),
];

/// The tag in mteb's form: ISO 639-3, a dash, ISO 15924. The script is that of the tag, or the language's usual one;
/// Chinese in Taiwan, Hong Kong and Macao is `Hant`. A language that is not in the table keeps its own code, with the
/// script `Zyyy` (not determined) unless the tag has one.
pub fn code(lang: &Lang) -> String {
    let primary = lang.primary();
    let row = LANGS.iter().find(|(tag, iso3, _)| *tag == primary || *iso3 == primary);
    let mut rest = lang.as_str().split('-').skip(1);
    let script = rest.clone().find(|part| part.len() == 4 && part.bytes().all(|b| b.is_ascii_alphabetic()));
    let taiwan = primary == "zh" && rest.any(|part| matches!(part, "TW" | "HK" | "MO"));
    let usual = if taiwan { "Hant" } else { row.map_or("Zyyy", |(_, _, script)| script) };
    format!("{}-{}", row.map_or(primary, |(_, iso3, _)| iso3), script.unwrap_or(usual))
}

/// Whether two lists of codes name the same languages, whatever their order, repetitions, and the choice between a
/// macrolanguage and its main member (`cmn-Hans`, `zho-Hans`). `Zyyy` may be any script.
pub fn same(a: &[String], b: &[String]) -> bool {
    let parts = |code: &String| -> (String, String) {
        let (iso3, script) = code.split_once('-').unwrap_or((code, "Zyyy"));
        let iso3 = SAME.iter().find(|(member, _)| *member == iso3).map_or(iso3, |(_, whole)| whole);
        (iso3.to_owned(), script.to_owned())
    };
    let alike = |a: &String, b: &String| {
        let ((a, script_a), (b, script_b)) = (parts(a), parts(b));
        a == b && (script_a == script_b || script_a == "Zyyy" || script_b == "Zyyy")
    };
    a.iter().all(|x| b.iter().any(|y| alike(x, y))) && b.iter().all(|y| a.iter().any(|x| alike(x, y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_codes() {
        let of = |tag: &str| code(&Lang::parse(tag).unwrap());
        for (tag, want) in [
            ("en", "eng-Latn"),
            ("pt-BR", "por-Latn"),
            ("zh", "zho-Hans"),
            ("zh-Hant", "zho-Hant"),
            ("zh-TW", "zho-Hant"),
            ("sr-Latn", "srp-Latn"),
            ("eng", "eng-Latn"),
            ("ckb-Arab", "ckb-Arab"),
            ("yue", "yue-Zyyy"),
            ("und", "und-Zyyy"),
        ] {
            assert_eq!(of(tag), want);
        }
        let list = |codes: &[&str]| codes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        assert!(same(&list(&["eng-Latn", "cmn-Hans"]), &list(&["zho-Hans", "eng-Latn", "eng-Latn"])));
        assert!(!same(&list(&["eng-Latn"]), &list(&["eng-Latn", "deu-Latn"])));
        assert!(same(&list(&["yue-Zyyy"]), &list(&["yue-Hant"])));
        assert!(!same(&list(&["srp-Latn"]), &list(&["srp-Cyrl"])) && !same(&[], &list(&["eng-Latn"])));
        assert!(LANGS.windows(2).all(|w| w[0].0 < w[1].0), "sorted, no tag twice");
    }
}
