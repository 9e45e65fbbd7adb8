//! Preference judgments and their measures (`prefs_*`).
//!
//! A line `query-id group subgroup passage-id level` says how a judgment group sees a passage; within a
//! subgroup a passage of a higher level is preferred to one of a lower. A group of one subgroup is a list of
//! equivalence classes, a group of several an array of preferences, closed under transitivity. Preferences
//! are *fulfilled* where the list has the preferred passage first; *ret* counts those with both retrieved,
//! *imp* those implied by one being retrieved, and *notoccur* those with neither.
//!
//! Passages have numbers: the judged ones of the list by rank, then the others by id. Unlike everywhere else,
//! equal scores are in ascending order of ids here, as in trec_eval.

use super::Version;
use super::ranked::View;
use crate::columns::{self, Topics};
use crate::qrels::ReadOptions;
use crate::run::Ranking;
use polygrade_data::{At, Problems, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// The lines of one query.
#[derive(Debug, Clone, Default)]
pub(super) struct Preferences {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    group: String,
    subgroup: String,
    passage: String,
    level: f64,
}

/// Reads `prefs` (five columns) or `qrels_prefs` (four: no subgroup). By query id in the order of bytes.
pub(super) fn read(
    path: &Path,
    options: &ReadOptions,
    subgroups: bool,
    version: Version,
) -> Result<(Vec<(String, Preferences)>, Problems)> {
    let (mut problems, mut topics) = (Problems::default(), Topics::<Preferences>::default());
    let wanted = if subgroups { 5 } else { 4 };
    columns::read(path, &mut problems, |problems, columns| {
        if !options.no_remarks && columns.is_remark() {
            return;
        }
        let fix = if subgroups {
            "write query-id group subgroup passage-id level"
        } else {
            "write query-id group passage-id level"
        };
        if columns.count != wanted {
            let what = format!("has {} columns, expected {wanted}", columns.count.min(columns::COLUMNS));
            return problems.push(At::line(path, columns.line), what, fix);
        }
        let level = columns.get(wanted - 1);
        match level.parse::<f64>() {
            Ok(level) if level.is_finite() => topics.of(columns.get(0)).lines.push(Line {
                group: columns.get(1).to_owned(),
                subgroup: if subgroups { columns.get(2).to_owned() } else { "0".to_owned() },
                passage: columns.get(wanted - 2).to_owned(),
                level: if version == Version::V9 { f64::from(level as f32) } else { level },
            }),
            _ => problems.push(At::line(path, columns.line), format!("has {level:?} for a level"), fix),
        }
    })?;
    let warnings = options.faults.settle(problems)?;
    let mut topics = topics.all;
    topics.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((topics, warnings))
}

/// What one judgment group prefers.
#[derive(Debug, Clone)]
enum Form {
    /// Levels, descending, with the numbers of their passages, ascending.
    Classes(Vec<(f64, Vec<usize>)>),
    /// `[i][j]`: i is preferred to j. The level of each passage, where it has one.
    Array(Vec<Vec<bool>>, Vec<Option<f64>>),
}

/// A judgment group's preferences and their counts.
#[derive(Debug, Clone)]
pub(super) struct Group {
    form: Form,
    fulfilled_ret: i64,
    possible_ret: i64,
    fulfilled_imp: i64,
    possible_imp: i64,
    possible_notoccur: i64,
    nonrel: i64,
    nonrel_ret: i64,
    rel: i64,
    rel_ret: i64,
}

/// A topic with its list merged in.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged {
    groups: Vec<Group>,
    /// Number of passages, and of those that are retrieved.
    judged: usize,
    retrieved: usize,
    /// `[i][j]`: in how many groups i is preferred to j.
    counts: Vec<Vec<u32>>,
}

impl Merged {
    pub(super) fn new(
        query: &str,
        prefs: &Preferences,
        ranking: Option<&Ranking>,
        view: &View,
    ) -> std::result::Result<Merged, String> {
        let mut numbers: BTreeMap<&str, Option<usize>> =
            prefs.lines.iter().map(|l| (l.passage.as_str(), None)).collect();
        let mut list: Vec<(&str, f64)> = ranking.into_iter().flat_map(Ranking::iter).collect();
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let mut retrieved = 0;
        for (passage, _) in list.into_iter().take(view.depth) {
            if let Some(number) = numbers.get_mut(passage) {
                *number = Some(retrieved);
                retrieved += 1;
            }
        }
        let mut next = retrieved;
        for number in numbers.values_mut().filter(|n| n.is_none()) {
            *number = Some(next);
            next += 1;
        }
        let number = |l: &Line| numbers.get(l.passage.as_str()).copied().flatten().unwrap_or(0);
        let mut lines: Vec<(&Line, usize)> = prefs.lines.iter().map(|l| (l, number(l))).collect();
        lines.sort_by(|(a, i), (b, j)| {
            let names = (&a.group, &a.subgroup).cmp(&(&b.group, &b.subgroup));
            names.then(b.level.total_cmp(&a.level)).then(i.cmp(j))
        });
        let mut merged =
            Merged { judged: next, retrieved, counts: vec![vec![0; next]; next], groups: Vec::new() };
        for lines in lines.chunk_by(|(a, _), (b, _)| a.group == b.group) {
            let fault = |what: String| {
                let group = &lines[0].0.group;
                format!("has preferences of query {query:?}, group {group:?}, that do not fit: {what}")
            };
            let one = lines.iter().all(|(l, _)| l.subgroup == lines[0].0.subgroup);
            let form = if one { classes(lines) } else { array(lines, next) };
            let group = merged.count(form.map_err(fault)?);
            merged.groups.push(group);
        }
        Ok(merged)
    }

    /// Counts a group's preferences, and notes them in `counts`.
    fn count(&mut self, form: Form) -> Group {
        let mut g = Group {
            form,
            fulfilled_ret: 0,
            possible_ret: 0,
            fulfilled_imp: 0,
            possible_imp: 0,
            possible_notoccur: 0,
            nonrel: 0,
            nonrel_ret: 0,
            rel: 0,
            rel_ret: 0,
        };
        let n = self.retrieved;
        let mut prefer = |i: usize, j: usize, counts: &mut Vec<Vec<u32>>| {
            counts[i][j] += 1;
            match (i < n, j < n) {
                (true, true) => {
                    g.possible_ret += 1;
                    g.fulfilled_ret += i64::from(i < j);
                }
                (false, false) => g.possible_notoccur += 1,
                (i_first, _) => {
                    g.possible_imp += 1;
                    g.fulfilled_imp += i64::from(i_first);
                }
            }
        };
        let mut levels: Vec<(f64, usize)> = Vec::new();
        match &g.form {
            Form::Classes(classes) => {
                for (at, (level, members)) in classes.iter().enumerate() {
                    levels.extend(members.iter().map(|m| (*level, *m)));
                    for &i in members {
                        classes[at + 1..]
                            .iter()
                            .flat_map(|(_, m)| m)
                            .for_each(|&j| prefer(i, j, &mut self.counts));
                    }
                }
            }
            Form::Array(array, by_passage) => {
                levels.extend(by_passage.iter().enumerate().filter_map(|(i, l)| Some(((*l)?, i))));
                for (i, row) in array.iter().enumerate() {
                    for j in (0..row.len()).filter(|j| row[*j]) {
                        prefer(i, j, &mut self.counts);
                    }
                }
            }
        }
        // A group that is an array knows no negative levels, one of classes takes them for irrelevant.
        let irrelevant = |l: f64| l == 0.0 || l < 0.0 && matches!(g.form, Form::Classes(_));
        let (mut rel, mut rel_ret, mut nonrel, mut nonrel_ret) = (0, 0, 0, 0);
        for (level, i) in levels {
            let ret = i64::from(i < n);
            if level > 0.0 {
                rel += 1;
                rel_ret += ret;
            } else if irrelevant(level) {
                nonrel += 1;
                nonrel_ret += ret;
            }
        }
        Group { rel, rel_ret, nonrel, nonrel_ret, ..g }
    }
}

fn classes(lines: &[(&Line, usize)]) -> Result<Form, String> {
    let classes: Vec<(f64, Vec<usize>)> = lines
        .chunk_by(|(a, _), (b, _)| a.level == b.level)
        .map(|same| (same[0].0.level, same.iter().map(|(_, i)| *i).collect()))
        .collect();
    let mut seen: BTreeMap<usize, f64> = BTreeMap::new();
    for (line, i) in lines {
        if seen.insert(*i, line.level).is_some_and(|other| other != line.level) {
            return Err(format!("passage {:?} has two levels", line.passage));
        }
    }
    Ok(Form::Classes(classes))
}

fn array(lines: &[(&Line, usize)], judged: usize) -> Result<Form, String> {
    let mut array = vec![vec![false; judged]; judged];
    let mut levels: Vec<Option<f64>> = vec![None; judged];
    for (at, (line, i)) in lines.iter().enumerate() {
        let other = levels[*i];
        if other.is_some_and(|o| o > 0.0 && line.level == 0.0 || o == 0.0 && line.level > 0.0) {
            return Err(format!("passage {:?} has both 0 and another level", line.passage));
        }
        levels[*i] = Some(line.level);
        for (lower, j) in lines[at + 1..].iter().take_while(|(l, _)| l.subgroup == line.subgroup) {
            if lower.level < line.level {
                array[*i][*j] = true;
            }
        }
    }
    // Warshall's closure.
    for k in 0..judged {
        let through = array[k].clone();
        for row in array.iter_mut().filter(|row| row[k]) {
            row.iter_mut().zip(&through).for_each(|(a, b)| *a |= b);
        }
    }
    let mutual = |i: usize| (0..judged).any(|j| i != j && array[i][j] && array[j][i]);
    if (0..judged).any(mutual) {
        return Err("its preferences contradict one another".into());
    }
    array.iter_mut().enumerate().for_each(|(i, row)| row[i] = false);
    Ok(Form::Array(array, levels))
}

/// Which preferences a measure looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All: those not retrieved are not fulfilled.
    All,
    /// Those with a passage retrieved.
    Implied,
    /// Those with both retrieved.
    Retrieved,
}

impl Group {
    fn fulfilled(&self, scope: Scope) -> i64 {
        self.fulfilled_ret + if scope == Scope::Retrieved { 0 } else { self.fulfilled_imp }
    }

    fn possible(&self, scope: Scope) -> i64 {
        match scope {
            Scope::Retrieved => self.possible_ret,
            Scope::Implied => self.possible_ret + self.possible_imp,
            Scope::All => self.possible_ret + self.possible_imp + self.possible_notoccur,
        }
    }
}

/// prefs_num_prefs_ful, prefs_num_prefs_ful_ret.
pub(super) fn num_fulfilled(m: &Merged, scope: Scope) -> f64 {
    m.groups.iter().map(|g| g.fulfilled(scope)).sum::<i64>() as f64
}

/// prefs_num_prefs_poss.
pub(super) fn num_possible(m: &Merged) -> f64 {
    m.groups.iter().map(|g| g.possible(Scope::All)).sum::<i64>() as f64
}

/// prefs_simp: fulfilled over possible, groups taken together.
pub(super) fn simple(m: &Merged, scope: Scope) -> f64 {
    let possible: i64 = m.groups.iter().map(|g| g.possible(scope)).sum();
    if possible > 0 { num_fulfilled(m, scope) / possible as f64 } else { 0.0 }
}

fn mean_of_groups(m: &Merged, sum: f64) -> f64 {
    if sum > 0.0 { sum / m.groups.len() as f64 } else { 0.0 }
}

/// prefs_avgjg: the mean over groups of fulfilled over possible.
pub(super) fn by_group(m: &Merged, scope: Scope) -> f64 {
    let groups = m.groups.iter().filter(|g| g.possible(scope) > 0);
    let sum = groups.fold(0.0, |s, g| s + g.fulfilled(scope) as f64 / g.possible(scope) as f64);
    mean_of_groups(m, sum)
}

/// prefs_pair: the mean over pairs of the share of groups that agree with the list.
pub(super) fn by_pair(m: &Merged, scope: Scope) -> f64 {
    let (n, all) = (m.retrieved, m.judged);
    let (mut pairs, mut sum) = (0i64, 0.0);
    let mut add = |i: usize, js: std::ops::Range<usize>, known: bool| {
        for j in js {
            let (with, against) = (m.counts[i][j], m.counts[j][i]);
            if with + against > 0 {
                pairs += 1;
                sum += if known { f64::from(with) / f64::from(with + against) } else { 0.0 };
            }
        }
    };
    (0..n).for_each(|i| add(i, i + 1..n, true));
    if scope != Scope::Retrieved {
        (0..n).for_each(|i| add(i, n..all, true));
    }
    if scope == Scope::All {
        (n..all).for_each(|i| add(i, i + 1..all, false));
    }
    if pairs > 0 { sum / pairs as f64 } else { 0.0 }
}

/// prefs_avgjg_Rnonrel: as many irrelevant passages as relevant ones in each group, the missing ones made up,
/// those too many left out.
pub(super) fn balanced(m: &Merged, scope: Scope) -> f64 {
    let sum = m.groups.iter().fold(0.0, |sum, g| {
        let retrieved = scope == Scope::Retrieved;
        let (r, n) = if retrieved { (g.rel_ret, g.nonrel_ret) } else { (g.rel, g.nonrel) };
        let (fulfilled, possible) = if r >= n {
            (g.fulfilled(scope) + g.rel_ret * (r - n), g.possible(scope) + g.rel * (r - n))
        } else {
            cut_down(g, m, retrieved)
        };
        sum + fulfilled as f64 / possible as f64
    });
    mean_of_groups(m, sum)
}

/// (fulfilled, possible) of a group with no more irrelevant passages than relevant ones.
fn cut_down(g: &Group, m: &Merged, retrieved: bool) -> (i64, i64) {
    let n = m.retrieved;
    let (mut fulfilled, mut others) = (0, 0);
    match &g.form {
        Form::Classes(classes) => {
            let Some(((_, last), upper)) = classes.split_last() else { return (0, 0) };
            let keep = if retrieved { g.rel_ret } else { g.rel };
            let kept = &last[..last.len().min(keep as usize)];
            let mut add = |above: &[usize], below: &[usize]| {
                let seen = |i: &&usize| !retrieved || **i < n;
                for i in above.iter().take_while(seen) {
                    for j in below.iter().take_while(seen) {
                        if i < j && *i < n { fulfilled += 1 } else { others += 1 }
                    }
                }
            };
            for (at, (_, above)) in upper.iter().enumerate() {
                upper[at + 1..].iter().for_each(|(_, below)| add(above, below));
            }
            // The last class too, with itself: trec_eval counts it so.
            classes.iter().for_each(|(_, above)| add(above, kept));
        }
        Form::Array(array, levels) => {
            let end = if retrieved { n } else { m.judged };
            let irrelevant = |i: &usize| levels[*i] == Some(0.0);
            let first_cut = (0..end).filter(irrelevant).nth(g.rel as usize).unwrap_or(end);
            let stays = |i: &usize| !(*i >= first_cut && irrelevant(i));
            for i in (0..end).filter(stays) {
                for j in (0..end).filter(|j| stays(j) && array[i][*j]) {
                    if i < j && i < n { fulfilled += 1 } else { others += 1 }
                }
            }
        }
    }
    (fulfilled, fulfilled + others)
}
