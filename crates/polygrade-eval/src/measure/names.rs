//! Names of metrics as ir_measures writes them: `name(parameter=value, …)@cutoff`.

use super::{Gains, MAX_GAINS, Measure, RbpGain};
use polygrade_data::{Error, Result};
use std::fmt;

/// The parameters of a name, each to be taken once.
struct Parameters<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Parameters<'a> {
    /// Cuts `key=value, key=value`; commas inside braces and quotes are part of a value.
    fn parse(text: &'a str) -> Option<Self> {
        let (mut out, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0, false);
        for (i, b) in text.bytes().chain([b',']).enumerate() {
            match b {
                b'{' if !quoted => depth += 1,
                b'}' if !quoted => depth -= 1,
                b'\'' | b'"' => quoted = !quoted,
                b',' if i == text.len() || depth == 0 && !quoted => {
                    let (key, value) = text[start..i].split_once('=')?;
                    out.push((key.trim(), value.trim()));
                    start = i + 1;
                }
                _ => {}
            }
        }
        Some(Parameters(out))
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(k, _)| *k == key)?;
        Some(self.0.remove(at).1)
    }

    /// A number, or `default` where it is not given; `None` where it is none.
    fn number(&mut self, key: &str, default: f64) -> Option<f64> {
        match self.text(key) {
            None => Some(default),
            Some(text) => text.parse::<f64>().ok().filter(|v| v.is_finite()),
        }
    }

    fn rel(&mut self) -> Option<f32> {
        self.number("rel", 1.0).map(|v| v as f32)
    }

    fn persistence(&mut self, default: f64) -> Option<f64> {
        self.number("p", default).filter(|p| (0.0..1.0).contains(p) && *p > 0.0)
    }

    fn flag(&mut self, key: &str, default: bool) -> Option<bool> {
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None => Some(default),
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => None,
        }
    }

    /// `dcg='exp-log2'` or `gains={grade:gain, …}` or neither.
    fn gains(&mut self) -> Option<Option<Gains>> {
        let dcg = self.text("dcg").map(|t| t.trim_matches(['\'', '"']));
        let gains = self.text("gains");
        match (dcg, gains.map(|t| t.trim_matches(['\'', '"']))) {
            (None | Some("log2"), None | Some("linear")) => Some(None),
            (Some("exp-log2"), None) | (None, Some("exp")) => Some(Some(Gains::Exponential)),
            (None | Some("log2"), Some(map)) => {
                let map = map.strip_prefix('{')?.strip_suffix('}')?;
                let (mut pairs, mut n) = ([(0.0, 0.0); MAX_GAINS], 0);
                for pair in map.split(',') {
                    let (grade, gain) = pair.split_once(':')?;
                    let parse = |t: &str| t.trim().parse::<f32>().ok().filter(|v| v.is_finite());
                    *pairs.get_mut(n)? = (parse(grade)?, parse(gain)?);
                    n += 1;
                }
                Some(Some(Gains::Map(pairs, n)))
            }
            _ => None,
        }
    }
}

impl Measure {
    /// The metrics of these names in their order, each once however often and in whatever spelling it is named;
    /// `default` where there are no names.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that [`Measure::parse`] does not know.
    pub fn parse_all(names: &[String], default: &[Measure]) -> Result<Vec<Measure>> {
        if names.is_empty() {
            return Ok(default.to_vec());
        }
        let mut measures: Vec<Measure> = Vec::new();
        for name in names {
            let what = || {
                Error::Usage(format!(
                    "{name:?} is no metric, such as {}; all are in docs/metrics.md",
                    Measure::EXAMPLES
                ))
            };
            let measure = Measure::parse(name).ok_or_else(what)?;
            // Output goes by the name, so that is what must not come twice.
            if measures.iter().all(|m| m.to_string() != measure.to_string()) {
                measures.push(measure);
            }
        }
        Ok(measures)
    }

    /// Names to show to someone who asked for a metric that is none.
    pub const EXAMPLES: &str = "nDCG@10, nDCG(dcg='exp-log2')@10, nDCG(gains={1:1,2:3,3:7})@10, P@5, P(rel=2)@5, \
        R@100, RR, RR@10, AP, AP@100, Success@1, Rprec, Bpref, infAP, IPrec@0.2, ERR(max=3)@20, RBP(p=0.8), \
        RBPres(p=0.8), Compat(p=0.95), Judged@10, Holes@10, SetP, SetR, SetF(beta=1), SetAP, SetRelP, NumQ, NumRet, \
        NumRel, NumRelRet";

    /// Parses ir_measures' names: `nDCG@10`, `P(rel=2)@5`, `R@100`, `RR`, `AP`, `Success@1`, `Judged@10`; see
    /// [`Measure::EXAMPLES`]. `MRR`, `MAP`, `Recall` and `Precision` are taken too. Case does not matter.
    pub fn parse(text: &str) -> Option<Measure> {
        let text = text.trim();
        // The cutoff stands last, after the parameters.
        let (head, at) = match text.rsplit_once('@') {
            Some((head, at)) => (head, Some(at)),
            None => (text, None),
        };
        let (name, mut given) = match head.split_once('(') {
            Some((name, rest)) => (name, Parameters::parse(rest.strip_suffix(')')?)?),
            None => (head, Parameters(Vec::new())),
        };
        let name = name.to_ascii_lowercase();
        if name == "iprec" {
            let recall = at?.parse::<f64>().ok().filter(|r| (0.0..=1.0).contains(r))?;
            let measure = Measure::InterpolatedPrecision(recall, given.rel()?);
            return given.0.is_empty().then_some(measure);
        }
        let cut = match at {
            Some(at) => Some(at.parse::<usize>().ok().filter(|k| *k > 0)?),
            None => None,
        };
        let measure = match (name.as_str(), cut) {
            ("ndcg", cut) => match given.gains()? {
                None => Measure::Ndcg(cut),
                Some(gains) => Measure::NdcgWith(cut, gains),
            },
            ("p" | "precision", Some(k)) => Measure::Precision(k, given.rel()?),
            ("r" | "recall", Some(k)) => Measure::Recall(k, given.rel()?),
            ("rr" | "mrr", cut) => Measure::ReciprocalRank(cut, given.rel()?),
            ("ap" | "map", None) => Measure::AveragePrecision(given.rel()?),
            ("ap" | "map", Some(k)) => Measure::AveragePrecisionCut(k, given.rel()?),
            ("success", Some(k)) => Measure::Success(k, given.rel()?),
            ("judged", Some(k)) => Measure::Judged(k),
            ("holes", Some(k)) => Measure::Holes(k),
            ("rprec", None) => Measure::RPrecision(given.rel()?),
            ("bpref", None) => Measure::Bpref(given.rel()?),
            ("infap", None) => Measure::InferredAp(given.rel()?),
            ("err", cut) => {
                let max = given.number("max", 4.0).filter(|m| *m > 0.0 && *m <= 64.0)?;
                Measure::ExpectedReciprocalRank(cut, max as f32)
            }
            ("rbp", cut) => {
                let p = given.persistence(0.8)?;
                let gain = match given.text("max") {
                    Some(max) => {
                        RbpGain::Graded(max.parse().ok().filter(|m: &f32| *m > 0.0 && m.is_finite())?)
                    }
                    None => RbpGain::Relevant(given.rel()?),
                };
                Measure::RankBiasedPrecision { p, gain, cut }
            }
            ("rbpres", cut) => Measure::RbpResidual { p: given.persistence(0.8)?, cut },
            ("compat", None) => {
                Measure::Compatibility(given.persistence(0.95)?, given.flag("normalize", true)?)
            }
            ("setp", None) if given.flag("relative", false)? => Measure::SetRelativePrecision(given.rel()?),
            ("setp", None) => Measure::SetPrecision(given.rel()?),
            ("setrelp", None) => Measure::SetRelativePrecision(given.rel()?),
            ("setr", None) => Measure::SetRecall(given.rel()?),
            ("setf", None) => {
                let beta = given.number("beta", 1.0).filter(|b| *b >= 0.0)?;
                Measure::SetF(given.rel()?, beta)
            }
            ("setap", None) => Measure::SetAp(given.rel()?),
            ("numret", None) => match given.text("rel") {
                None => Measure::NumRet,
                Some(rel) => Measure::NumRelRet(rel.parse().ok().filter(|r: &f32| r.is_finite())?),
            },
            ("numrel", None) => Measure::NumRel(given.rel()?),
            ("numrelret", None) => Measure::NumRelRet(given.rel()?),
            ("numq", None) => Measure::NumQ,
            _ => return None,
        };
        given.0.is_empty().then_some(measure)
    }
}

impl fmt::Display for Gains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gains::Exponential => write!(f, "dcg='exp-log2'"),
            Gains::Map(pairs, n) => {
                write!(f, "gains={{")?;
                for (i, (grade, gain)) in pairs[..*n].iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    write!(f, "{comma}{grade}:{gain}")?;
                }
                write!(f, "}}")
            }
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rel = |r: f32| if r == 1.0 { String::new() } else { format!("(rel={r})") };
        let at = |cut: Option<usize>| cut.map_or(String::new(), |k| format!("@{k}"));
        let rel_too = |r: f32| if r == 1.0 { String::new() } else { format!(",rel={r}") };
        match *self {
            Measure::Ndcg(cut) => write!(f, "nDCG{}", at(cut)),
            Measure::NdcgWith(cut, gains) => write!(f, "nDCG({gains}){}", at(cut)),
            Measure::Precision(k, r) => write!(f, "P{}@{k}", rel(r)),
            Measure::Recall(k, r) => write!(f, "R{}@{k}", rel(r)),
            Measure::ReciprocalRank(cut, r) => write!(f, "RR{}{}", rel(r), at(cut)),
            Measure::AveragePrecision(r) => write!(f, "AP{}", rel(r)),
            Measure::AveragePrecisionCut(k, r) => write!(f, "AP{}@{k}", rel(r)),
            Measure::Success(k, r) => write!(f, "Success{}@{k}", rel(r)),
            Measure::Judged(k) => write!(f, "Judged@{k}"),
            Measure::Holes(k) => write!(f, "Holes@{k}"),
            Measure::RPrecision(r) => write!(f, "Rprec{}", rel(r)),
            Measure::Bpref(r) => write!(f, "Bpref{}", rel(r)),
            Measure::InferredAp(r) => write!(f, "infAP{}", rel(r)),
            Measure::InterpolatedPrecision(recall, r) => write!(f, "IPrec{}@{recall}", rel(r)),
            Measure::ExpectedReciprocalRank(cut, max) => {
                let max = if max == 4.0 { String::new() } else { format!("(max={max})") };
                write!(f, "ERR{max}{}", at(cut))
            }
            Measure::RankBiasedPrecision { p, gain, cut } => {
                let gain = match gain {
                    RbpGain::Relevant(r) => rel_too(r),
                    RbpGain::Graded(max) => format!(",max={max}"),
                };
                write!(f, "RBP(p={p}{gain}){}", at(cut))
            }
            Measure::RbpResidual { p, cut } => write!(f, "RBPres(p={p}){}", at(cut)),
            Measure::Compatibility(p, true) => write!(f, "Compat(p={p})"),
            Measure::Compatibility(p, false) => write!(f, "Compat(p={p},normalize=False)"),
            Measure::SetPrecision(r) => write!(f, "SetP{}", rel(r)),
            Measure::SetRelativePrecision(r) => write!(f, "SetRelP{}", rel(r)),
            Measure::SetRecall(r) => write!(f, "SetR{}", rel(r)),
            Measure::SetF(r, 1.0) => write!(f, "SetF{}", rel(r)),
            Measure::SetF(r, beta) => write!(f, "SetF(beta={beta}{})", rel_too(r)),
            Measure::SetAp(r) => write!(f, "SetAP{}", rel(r)),
            Measure::NumRet => write!(f, "NumRet"),
            Measure::NumRel(r) => write!(f, "NumRel{}", rel(r)),
            Measure::NumRelRet(r) => write!(f, "NumRelRet{}", rel(r)),
            Measure::NumQ => write!(f, "NumQ"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "nDCG@10",
            "nDCG",
            "nDCG(dcg='exp-log2')@10",
            "nDCG(gains={0:0,1:1,2:3,3:7})@10",
            "P@5",
            "P(rel=2)@5",
            "R@100",
            "RR",
            "RR@10",
            "RR(rel=3)@10",
            "AP",
            "AP@100",
            "AP(rel=2)",
            "Success@1",
            "Judged@10",
            "Holes@10",
            "Rprec",
            "Bpref(rel=2)",
            "infAP",
            "IPrec@0.1",
            "ERR@20",
            "ERR(max=3)",
            "RBP(p=0.8)",
            "RBP(p=0.5,rel=2)@10",
            "RBP(p=0.5,max=3)",
            "RBPres(p=0.9)",
            "Compat(p=0.95)",
            "Compat(p=0.8,normalize=False)",
            "SetP",
            "SetRelP",
            "SetR(rel=2)",
            "SetF",
            "SetF(beta=2,rel=3)",
            "SetAP",
            "NumRet",
            "NumRel",
            "NumRelRet",
            "NumQ",
        ] {
            assert_eq!(Measure::parse(name).unwrap().to_string(), name);
        }
        for bad in [
            "",
            "nDCG@0",
            "nDCG@x",
            "nDCG@-1",
            "P",
            "nDCG(rel=2)@10",
            "P(rel=)@5",
            "P(rel=NaN)@5",
            "P(rel=1,rel=2)@5",
            "IPrec",
            "IPrec@2",
            "RBP(p=1)",
            "nDCG(gains={})",
            "nDCG(gains={1})",
            "Compat(normalize=maybe)",
            "bpref@3",
            "nonsense",
            "P(",
            "P)@5",
            "P('@5",
        ] {
            assert_eq!(Measure::parse(bad), None, "{bad}");
        }
        assert_eq!(Measure::parse("MRR@10"), Measure::parse("rr@10"));
        assert_eq!(Measure::parse("nDCG(gains='exp')@10"), Measure::parse("NDCG(dcg=\"exp-log2\")@10"));
        let examples = Measure::EXAMPLES.split(", ").filter(|e| !e.is_empty());
        assert!(examples.clone().count() > 20 && examples.into_iter().all(|e| Measure::parse(e).is_some()));
    }

    #[test]
    fn many_names_are_metrics_once_each() {
        let all = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            Measure::parse_all(&names, &[Measure::NumQ])
        };
        assert_eq!(all(&[]).unwrap(), [Measure::NumQ]);
        let want = [Measure::AveragePrecision(1.0), Measure::Ndcg(Some(10))];
        assert_eq!(all(&["AP", "nDCG@10", "map", " AP "]).unwrap(), want);
        let e = all(&["AP", "foo"]).unwrap_err();
        assert!(matches!(e, Error::Usage(_)) && e.to_string().contains("foo"), "{e}");
    }
}
