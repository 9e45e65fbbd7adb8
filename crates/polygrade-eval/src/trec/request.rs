//! What was asked for with `-m name` and `-m name.parameters`, and the names of the values.

use super::catalogue::{Definition, How, MEASURES, NICKNAMES, Value};
use super::gain::Pairs;
use super::{Options, Prepared, Version};
use polygrade_data::{Error, Result};

/// The measures asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Names of measures and of sets.
    names: Vec<String>,
    /// Measure and parameters; the first of a measure counts.
    parameters: Vec<(String, String)>,
}

/// A measure with its parameters.
pub(super) struct Column {
    pub(super) measure: &'static Definition,
    settings: Settings,
    /// The parameters as they were given.
    given: Option<String>,
}

enum Settings {
    None,
    Cutoffs(Vec<i64>),
    Numbers(Vec<f64>),
    Pairs(Pairs),
}

impl Request {
    /// Names as `-m` takes them: `map`, `P.5,10`, `ndcg.1=3,2=9`, `official`, `all_trec`, `set`, `prefs`,
    /// `all_prefs`, `qrels_jg`. Without any, `official`.
    ///
    /// # Errors
    /// A name is of no measure, or has a period with nothing after it.
    pub fn parse<S: AsRef<str>>(measures: &[S]) -> Result<Request> {
        let mut request = Request::default();
        for text in measures.iter().map(AsRef::as_ref) {
            let name = match text.split_once('.') {
                Some((_, "")) => {
                    return Err(Error::Usage(format!("-m {text}: no parameters after the period")));
                }
                Some((name, parameters)) => {
                    request.parameters.push((name.to_owned(), parameters.to_owned()));
                    name
                }
                None => text,
            };
            let known = MEASURES.iter().map(|m| m.name).chain(NICKNAMES.iter().map(|(n, _)| *n));
            if !known.clone().any(|n| n == name) {
                let all = known.collect::<Vec<_>>().join(", ");
                return Err(Error::Usage(format!("{name:?} is no measure of trec_eval; it has {all}")));
            }
            request.names.push(name.to_owned());
        }
        if request.names.is_empty() {
            request.names.push("official".to_owned());
        }
        Ok(request)
    }

    /// The measures in the order of output.
    pub(super) fn columns(&self, version: Version) -> Result<Vec<Column>> {
        let named = |m: &Definition| {
            let sets = NICKNAMES.iter().filter(|(n, _)| self.names.iter().any(|name| name == n));
            let direct = self.names.iter().any(|n| n == m.name);
            if direct && version == Version::V9 && !m.old {
                return Err(Error::Usage(format!("trec_eval 9 has no measure {}", m.name)));
            }
            let in_set = sets.into_iter().any(|(_, of)| of.contains(&m.name));
            Ok(direct || in_set && (m.old || version == Version::V10))
        };
        let mut out = Vec::new();
        for measure in MEASURES {
            if named(measure)? {
                let given = self.parameters.iter().find(|(n, _)| n == measure.name).map(|(_, p)| p.as_str());
                out.push(Column::new(measure, given, version)?);
            }
        }
        Ok(out)
    }
}

impl Column {
    fn new(measure: &'static Definition, given: Option<&str>, version: Version) -> Result<Column> {
        let fault = |what: &str| {
            let given = given.unwrap_or_default();
            Error::Usage(format!("-m {}.{given}: {what}", measure.name))
        };
        let settings = match measure.how {
            How::Cutoffs(default, _) | How::GroupCutoffs(default, _) => {
                let mut cutoffs = given.map_or(default.to_vec(), |g| g.split(',').map(whole).collect());
                cutoffs.sort_unstable();
                if cutoffs[0] <= 0 {
                    return Err(fault("cutoffs must be 1 or more"));
                }
                if cutoffs.windows(2).any(|w| w[0] == w[1]) {
                    return Err(fault("a cutoff comes twice"));
                }
                Settings::Cutoffs(cutoffs)
            }
            How::Points(default, _) | How::GroupPoints(default, _) => {
                let mut points = given.map_or(default.to_vec(), |g| g.split(',').map(real).collect());
                points.sort_by(f64::total_cmp);
                if points.windows(2).any(|w| w[0] == w[1]) {
                    return Err(fault("a point comes twice"));
                }
                Settings::Numbers(points)
            }
            How::Numbers(default, _) | How::Text(default) => {
                let numbers: Vec<f64> = given.map_or(default.to_vec(), |g| g.split(',').map(real).collect());
                if measure.name == "utility" && numbers.len() != 4 {
                    return Err(fault("takes four numbers"));
                }
                Settings::Numbers(numbers)
            }
            How::Pairs(_) => {
                let mut pairs = Pairs::default();
                for pair in given.into_iter().flat_map(|g| g.split(',')) {
                    let Some((name, value)) = pair.split_once('=').filter(|(_, v)| !v.contains('=')) else {
                        return Err(fault("takes level=gain, separated by commas"));
                    };
                    let digits = name.strip_prefix(['-', '+']).unwrap_or(name);
                    let is_whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                    if is_whole || version == Version::V9 {
                        pairs.gains.push((whole(name), real(value)));
                    } else {
                        pairs.named.push((name.to_owned(), real(value)));
                    }
                }
                Settings::Pairs(pairs)
            }
            _ => Settings::None,
        };
        Ok(Column { measure, settings, given: given.map(str::to_owned) })
    }

    /// How many values it has.
    pub(super) fn width(&self) -> usize {
        match (&self.settings, self.measure.how) {
            (Settings::Cutoffs(c), _) => c.len(),
            (Settings::Numbers(n), How::Points(..) | How::GroupPoints(..)) => n.len(),
            _ => 1,
        }
    }

    fn names(&self) -> Vec<String> {
        let name = self.measure.name;
        match (&self.settings, self.measure.how) {
            (Settings::Cutoffs(cutoffs), _) => cutoffs.iter().map(|c| format!("{name}_{c}")).collect(),
            (Settings::Numbers(points), How::Points(..) | How::GroupPoints(..)) => {
                // trec_eval has room for eight characters.
                points.iter().map(|p| format!("{name}_{:.8}", format!("{p:.2}"))).collect()
            }
            (Settings::None, _) => vec![name.to_owned()],
            _ => vec![self.given.as_ref().map_or(name.to_owned(), |given| format!("{name}_{given}"))],
        }
    }

    /// Its values for a topic.
    pub(super) fn value(&self, topic: &Prepared, options: &Options) -> Value {
        let numbers = match (self.measure.how, &self.settings, topic) {
            (How::Plain(of), _, Prepared::Ranked(r)) => vec![of(r)],
            (How::Cutoffs(_, of), Settings::Cutoffs(c), Prepared::Ranked(r)) => of(r, c),
            (How::Points(_, of), Settings::Numbers(p), Prepared::Ranked(r)) => of(r, p, options.version),
            (How::Numbers(_, of), Settings::Numbers(n), Prepared::Ranked(r)) => vec![of(r, n, options)],
            (How::Pairs(of), Settings::Pairs(p), Prepared::Ranked(r)) => vec![of(r, p)],
            (How::Groups(of), _, Prepared::Groups(g)) => vec![of(g)],
            (How::GroupCutoffs(_, of), Settings::Cutoffs(c), Prepared::Groups(g)) => of(g, c),
            (How::GroupPoints(_, of), Settings::Numbers(p), Prepared::Groups(g)) => of(g, p),
            (How::Prefs(of), _, Prepared::Prefs(m)) => vec![of(m)],
            (How::Text(_), Settings::Numbers(n), Prepared::Ranked(r)) => {
                let sign = |v: &i64| match *v {
                    -1 => '-',
                    -2 => '.',
                    v if v > 9 => '>',
                    v => char::from_digit(v as u32, 10).unwrap_or('<'),
                };
                return Value::Text(r.values.iter().take(n[0] as usize).map(sign).collect());
            }
            // A number of topics is 1 for each.
            (How::Nothing, ..) => vec![1.0],
            _ => vec![0.0; self.width()],
        };
        Value::Numbers(numbers)
    }
}

/// The names of all values.
pub(super) fn names(columns: &[Column]) -> Vec<String> {
    columns.iter().flat_map(Column::names).collect()
}

/// The whole number at the beginning of a text, 0 where there is none (C's `atol`).
fn whole(text: &str) -> i64 {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    let value = digits.fold(0i64, |v, b| v.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    if negative { -value } else { value }
}

/// The number at the beginning of a text, 0 where there is none (C's `atof`).
fn real(text: &str) -> f64 {
    let text = text.trim_start();
    let ends = (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
    ends.filter_map(|end| text[..end].parse::<f64>().ok()).find(|v| v.is_finite()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let wholes = [("12", 12), ("-3x", -3), ("+7", 7), ("23.4", 23), ("x", 0), ("", 0)];
        assert!(wholes.iter().all(|(t, v)| whole(t) == *v));
        let reals = [(".25", 0.25), ("1e2,", 100.0), ("-1.5x", -1.5), ("", 0.0), (".", 0.0), ("é", 0.0)];
        assert!(reals.iter().all(|(t, v)| real(t) == *v));
    }

    #[test]
    fn faults_in_requests_are_usage() {
        for bad in ["nonsense", "P.", "map_", "rbp_resid."] {
            assert!(matches!(Request::parse(&[bad]), Err(Error::Usage(_))), "{bad}");
        }
        for bad in ["P.0", "P.5,5", "P.-1", "iprec_at_recall.1,1", "ndcg.1", "ndcg.1=2=3", "utility.1,2"] {
            let request = Request::parse(&[bad]).unwrap();
            assert!(matches!(request.columns(Version::V10), Err(Error::Usage(_))), "{bad}");
        }
        let rbp = Request::parse(&["rbp"]).unwrap();
        assert!(rbp.columns(Version::V9).is_err() && rbp.columns(Version::V10).is_ok());
    }
}
