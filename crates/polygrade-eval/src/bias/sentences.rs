//! What the measures of bias say, in plain sentences: one list for each query language.

use super::Bias;
use crate::cluster::Estimate;
use crate::evaluation::{Settings, Values};
use crate::html::english_name;
use polygrade_data::Lang;
use std::collections::BTreeMap;

/// A language as a sentence calls it.
pub(crate) fn name(tag: &str) -> &str {
    english_name(tag).unwrap_or(tag)
}

fn share(i: &Estimate) -> String {
    format!("{:.0} %{}", i.mean, i.range(|x| format!("{x:.0}")))
}

/// A share of the pool: no more digits than it needs.
fn part(x: f64) -> String {
    format!("{x:.1}").trim_end_matches(".0").to_owned() + " %"
}

fn number(x: f64) -> String {
    if x < 10.0 { format!("{x:.1}") } else { format!("{x:.0}") }
}

fn range(i: &Estimate) -> String {
    number(i.mean) + &i.range(number)
}

/// `even`: every query has as many relevant passages in one language of its pool as in another.
pub(crate) fn of(
    by_lang: &BTreeMap<String, Values<Estimate>>,
    sizes: &BTreeMap<Lang, BTreeMap<Lang, usize>>,
    settings: &Settings,
    even: bool,
) -> Vec<String> {
    let mut out = Vec::new();
    for (lang, values) in by_lang {
        if let Some(pool) = sizes.iter().find(|(l, _)| l.as_str() == lang).map(|(_, pool)| pool) {
            out.extend(of_lang(lang, values, pool, settings.k, even));
        }
    }
    out
}

fn of_lang(
    lang: &str,
    values: &Values<Estimate>,
    pool: &BTreeMap<Lang, usize>,
    k: usize,
    even: bool,
) -> Vec<String> {
    let get = |m: &Bias| values.get(&m.to_string());
    let size: usize = pool.values().sum();
    let of_pool = |l: &Lang| 100.0 * pool[l] as f64 / size as f64;
    let own = name(lang);
    let mut out = Vec::new();
    if let (Some(complete), Some(max)) = (get(&Bias::Complete(k)), get(&Bias::MaxR)) {
        out.push(format!(
            "{own} queries: for {} all relevant passages, in whatever language, are in the top {k}; the last of them \
             stands at rank {} of {size} on average.",
            share(complete),
            range(max)
        ));
    }
    if let Some(first) = get(&Bias::PreferenceOwn) {
        let equal = if even {
            format!("; without a preference it would be {}", part(100.0 / pool.len() as f64))
        } else {
            String::new()
        };
        out.push(format!(
            "{own} queries: the first relevant passage is in {own} for {}{equal}.",
            share(first)
        ));
    }
    let inclined = pool.keys().filter_map(|l| Some((l, get(&Bias::Inclination(l.clone(), k))?)));
    match inclined.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean)) {
        Some((_, i)) if i.high.is_some_and(|high| high < 0.5) => out.push(format!(
            "{own} queries: hardly any passage in another language that is not relevant stands above the right {own} one \
             in the top {k}."
        )),
        Some((other, i)) => out.push(format!(
            "{own} queries: of what stands above the right {own} passage in the top {k}, {} is {other_name} and not \
             relevant (0 % where nothing stands above); {other_name} makes up {} of the pool.",
            share(i),
            part(of_pool(other)),
            other_name = name(other.as_str()),
        )),
        None => {}
    }
    if let Some(gap) = get(&Bias::RankGap) {
        let deeper = gap.mean >= 0.0;
        let times = |x: f64| number(if deeper { x } else { -x }.exp2());
        let range = gap.ends().map_or(String::new(), |(low, high)| {
            let (low, high) = if deeper { (low, high) } else { (high, low) };
            format!(" [{}, {}]", times(low), times(high))
        });
        out.push(format!(
            "{own} queries: the relevant passage in {own} stands {}{range} times as {} as its translations.",
            times(gap.mean),
            if deeper { "deep" } else { "high" }
        ));
    }
    let shares = pool.keys().filter_map(|l| Some((l, get(&Bias::Share(l.clone(), k))?)));
    let over = |(l, i): &(&Lang, &Estimate)| i.mean - of_pool(l);
    if let Some((most, i)) = shares.max_by(|a, b| over(a).total_cmp(&over(b))) {
        out.push(format!(
            "{own} queries: {} fills {} of the top {k} and makes up {} of the pool.",
            name(most.as_str()),
            share(i),
            part(of_pool(most))
        ));
    }
    out
}
