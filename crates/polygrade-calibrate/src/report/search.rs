//! How the search went: the race of each scenario, what it cost, and whether the guess made before it was right.

use super::{cell_name, lang_name, list};
use crate::outcome::{ALL, Calibration};
use crate::plan::Method;
use crate::race::{End, Race};
use polygrade_eval::html::{escape, signed};
use polygrade_train::Scenario;
use std::fmt::Write;

/// The races of a scenario; nothing where the full grid was run.
pub(super) fn races(c: &Calibration, scenario: Scenario) -> String {
    let races: Vec<&Race> = c.search.races.iter().filter(|r| r.scenario == scenario).collect();
    if races.is_empty() {
        return String::new();
    }
    let sum = |of: fn(&Race) -> u64| races.iter().map(|r| of(r)).sum::<u64>() as f64;
    let (own, grid) = (sum(|r| r.tokens), sum(|r| r.grid_tokens));
    let cost = if grid > 0.0 {
        format!(
            "It took {:.1} million training tokens, {:.0} % of what the full grid takes.",
            own / 1e6,
            100.0 * own / grid
        )
    } else {
        "Nothing differed, so nothing was trained for it.".into()
    };
    let mut out = format!(
        "<h3>How the race went</h3>\n<p class=\"note\">At each rung all that are left are compared in pairs, as they stand then; \
         those that are significantly worse than another leave (families of {:.0} %, over rungs and pairs). {cost}</p>\n\
         <div class=\"wide\"><table><thead><tr><th>{}</th>",
        c.level * 100.0,
        if races.len() > 1 { "queries in" } else { "model" }
    );
    for method in &c.grid {
        let _ = write!(out, "<th>{}</th>", escape(&method.title()));
    }
    out += "<th>ended</th></tr></thead><tbody>\n";
    for race in races {
        let cell = match &race.part.lang {
            None => c.overall(scenario),
            Some(lang) => c.parts(scenario).find(|x| {
                let passages = race.part.passage_lang.as_ref();
                x.query_lang == lang.as_str() && passages.is_none_or(|p| x.passage_lang == p.as_str())
            }),
        };
        let _ = write!(out, "<tr><td>{}</td>", escape(&cell.map_or_else(String::new, cell_name)));
        for method in 0..c.grid.len() {
            let left = race
                .rounds
                .iter()
                .find_map(|round| round.dropped.iter().find(|d| d.worse == method).map(|d| (round, d)));
            let _ = match left {
                Some((round, d)) => write!(
                    out,
                    "<td title=\"{} than {}, p = {:.2e}\">out at {:.0} %<small>{}</small></td>",
                    signed(d.difference),
                    escape(&c.grid[d.than].title()),
                    d.p,
                    round.share * 100.0,
                    signed(d.difference)
                ),
                None => write!(out, "<td class=\"best\">left</td>"),
            };
        }
        let (share, passes, seeds) =
            race.rounds.last().map_or((0.0, 0.0, 0), |r| (r.share, r.passes, r.seeds));
        let lead = match cell.and_then(|x| Some((x, x.runner_up?))) {
            Some((x, second)) if race.survivors.len() > 1 => format!(
                "<small>{} over {}: {} [{}, {}]</small>",
                escape(&x.tau_best.title()),
                escape(&second.title()),
                signed(x.difference),
                signed(x.ci[0]),
                signed(x.ci[1])
            ),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "<td>{}, at {:.0} % of the steps ({passes:.1} passes over the data) with {seeds} seeds{lead}</td></tr>",
            end(race.end),
            share * 100.0
        );
    }
    out + "</tbody></table></div>\n"
}

fn end(end: End) -> &'static str {
    match end {
        End::One => "one is left",
        End::Equivalent => "the rest are equivalent",
        End::Budget => "budget spent, cannot be told apart",
        End::Complete => "all done, cannot be told apart",
    }
}

/// What became of the guess.
pub(super) fn prior(c: &Calibration, scenario: Scenario) -> String {
    let rows: Vec<_> = c.prior.iter().filter(|p| p.scenario == scenario).collect();
    let Some(first) = rows.iter().find(|p| p.query_lang == ALL).or(rows.first()) else {
        return String::new();
    };
    let verdict = match first.right {
        Some(true) => "It was not ruled out",
        Some(false) => "It was wrong",
        None => "Nothing was found to compare it with",
    };
    let own: Vec<_> = rows.iter().filter(|p| p.query_lang != ALL && p.right.is_some()).collect();
    let right = own.iter().filter(|p| p.right == Some(true)).count();
    let by_lang = if own.is_empty() {
        String::new()
    } else {
        format!("; by language it was not ruled out in {right} of {}", own.len())
    };
    format!(
        "<p class=\"note\">Guess before training, from the grades alone: {} ({}). {verdict}{by_lang}.</p>\n",
        escape(&first.policy.title()),
        escape(&first.reason)
    )
}

/// Whether one model with several thresholds was worth it.
pub(super) fn per_language(c: &Calibration, scenario: Scenario) -> String {
    let Some(found) = c.per_language.get(&scenario) else { return String::new() };
    let rules: Vec<String> = found
        .policies
        .rules
        .iter()
        .map(|r| {
            let lang = r.query_lang.as_ref().map_or(ALL, |l| l.as_str());
            format!("{}: {}", lang_name(lang), Method::Policy(r.policy).title())
        })
        .collect();
    format!(
        "<p class=\"note\">One model with thresholds of their own ({}; else {}) is {} [{}, {}] against the best single one on \
         dev{}: {}.</p>\n",
        escape(&rules.join(", ")),
        list(&[Method::Policy(found.policies.default)]),
        signed(found.over_single.mean),
        signed(found.over_single.low),
        signed(found.over_single.high),
        if found.p < 0.001 { ", p &lt; .001".to_owned() } else { format!(", p = {:.3}", found.p) },
        if found.chosen { "chosen" } else { "not chosen" }
    )
}
