//! All measures in the order in which trec_eval prints them, with what they take and how they are shown.

use super::gain::Pairs;
use super::prefs::{self, Merged, Scope};
use super::ranked::Ranked;
use super::{Options, Version, average, gain, groups, precision, set};

/// What a measure is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Any,
    Qrels,
    Groups,
    Prefs,
}

impl Needs {
    /// The `-R` that gives it.
    pub(super) fn format(self) -> &'static str {
        match self {
            Needs::Any | Needs::Qrels => "qrels",
            Needs::Groups => "qrels_jg",
            Needs::Prefs => "prefs or qrels_prefs",
        }
    }
}

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Print {
    Nothing,
    Real,
    Count,
    Text,
}

/// How the summary follows from topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Mean,
    Total,
    /// exp of the mean.
    Geometric,
    /// The number of topics.
    Topics,
    /// The total, or under `-c` all judgments above 0.
    Relevant,
}

/// What a topic gives.
pub(super) enum Value {
    Numbers(Vec<f64>),
    Text(String),
}

/// How a measure is computed, with the default parameters.
#[derive(Clone, Copy)]
pub(super) enum How {
    /// No value of a topic.
    Nothing,
    Plain(fn(&Ranked) -> f64),
    /// A value for each cutoff.
    Cutoffs(&'static [i64], fn(&Ranked, &[i64]) -> Vec<f64>),
    /// A value for each point.
    Points(&'static [f64], fn(&Ranked, &[f64], Version) -> Vec<f64>),
    /// A value from numbers.
    Numbers(&'static [f64], fn(&Ranked, &[f64], &Options) -> f64),
    /// A value from `name=number` pairs.
    Pairs(fn(&Ranked, &Pairs) -> f64),
    Groups(fn(&[Ranked]) -> f64),
    GroupCutoffs(&'static [i64], fn(&[Ranked], &[i64]) -> Vec<f64>),
    GroupPoints(&'static [f64], fn(&[Ranked], &[f64]) -> Vec<f64>),
    Prefs(fn(&Merged) -> f64),
    /// The relevance values of so many passages as a text.
    Text(&'static [f64]),
}

/// A measure.
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) needs: Needs,
    pub(super) how: How,
    pub(super) single: Print,
    pub(super) total: Print,
    pub(super) sum: Sum,
    /// Whether version 9 has it.
    pub(super) old: bool,
}

impl Definition {
    const fn new(name: &'static str, how: How) -> Definition {
        let needs = match how {
            How::Nothing => Needs::Any,
            How::Groups(_) | How::GroupCutoffs(..) | How::GroupPoints(..) => Needs::Groups,
            How::Prefs(_) => Needs::Prefs,
            _ => Needs::Qrels,
        };
        Definition { name, needs, how, single: Print::Real, total: Print::Real, sum: Sum::Mean, old: true }
    }

    const fn count(name: &'static str, of: fn(&Ranked) -> f64, sum: Sum) -> Definition {
        Definition { single: Print::Count, total: Print::Count, sum, ..Definition::new(name, How::Plain(of)) }
    }

    const fn pref_count(name: &'static str, of: fn(&Merged) -> f64) -> Definition {
        let definition = Definition::new(name, How::Prefs(of));
        Definition { single: Print::Count, total: Print::Count, sum: Sum::Total, ..definition }
    }

    const fn geometric(name: &'static str, of: fn(&Ranked) -> f64) -> Definition {
        Definition { single: Print::Nothing, sum: Sum::Geometric, ..Definition::new(name, How::Plain(of)) }
    }

    const fn since_10(self) -> Definition {
        Definition { old: false, ..self }
    }
}

const CUTOFFS: &[i64] = &[5, 10, 15, 20, 30, 100, 200, 500, 1000];
const RECALLS: &[f64] = &[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const MULTIPLES: &[f64] = &[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0];

/// All of them, in the order of output.
pub(super) static MEASURES: &[Definition] = &[
    Definition { single: Print::Nothing, total: Print::Text, ..Definition::new("runid", How::Nothing) },
    Definition {
        single: Print::Nothing,
        total: Print::Count,
        sum: Sum::Topics,
        ..Definition::new("num_q", How::Nothing)
    },
    Definition::count("num_ret", |r| r.num_ret() as f64, Sum::Total),
    Definition::count("num_rel", |r| r.num_rel as f64, Sum::Relevant),
    Definition::count("num_rel_ret", |r| r.num_rel_ret as f64, Sum::Total),
    Definition::new("map", How::Plain(average::map)),
    Definition::geometric("gm_map", average::log_map),
    Definition::new("Rprec", How::Plain(precision::r_precision)),
    Definition::new("bpref", How::Plain(average::bpref)),
    Definition::new("recip_rank", How::Plain(average::reciprocal_rank)),
    Definition::new("iprec_at_recall", How::Points(RECALLS, average::precision_at_recall)),
    Definition::new("P", How::Cutoffs(CUTOFFS, precision::precision)),
    Definition {
        single: Print::Text,
        total: Print::Nothing,
        ..Definition::new("relstring", How::Text(&[10.0]))
    },
    Definition::new("recall", How::Cutoffs(CUTOFFS, precision::recall)),
    Definition::new("infAP", How::Plain(average::inferred)),
    Definition::geometric("gm_bpref", average::log_bpref),
    Definition::new("Rprec_mult", How::Points(MULTIPLES, |r, m, _| precision::r_precision_multiples(r, m))),
    Definition::new(
        "utility",
        How::Numbers(&[1.0, -1.0, 0.0, 0.0], |r, w, o| match w {
            [a, b, c, d] => set::utility(r, &[*a, *b, *c, *d], o.collection),
            _ => 0.0,
        }),
    ),
    Definition::new("11pt_avg", How::Numbers(RECALLS, |r, p, o| average::eleven_point(r, p, o.version))),
    Definition::new("binG", How::Plain(average::binary_gain)),
    Definition::new("G", How::Pairs(gain::normalized_gain)),
    Definition::new("dcg", How::Pairs(gain::dcg)).since_10(),
    Definition::new("ideal_dcg", How::Pairs(gain::ideal_dcg)).since_10(),
    Definition::new("ndcg", How::Pairs(gain::ndcg)),
    Definition::new("ndcg_rel", How::Pairs(gain::ndcg_rel)),
    Definition::new("Rndcg", How::Pairs(gain::r_ndcg)),
    Definition::new("ndcg_cut", How::Cutoffs(CUTOFFS, gain::ndcg_cut)),
    Definition::new("map_cut", How::Cutoffs(CUTOFFS, precision::map_cut)),
    Definition::new("relative_P", How::Cutoffs(CUTOFFS, precision::relative_precision)),
    Definition::new("success", How::Cutoffs(&[1, 5, 10], precision::success)),
    Definition::new("set_P", How::Plain(set::precision)),
    Definition::new("set_relative_P", How::Plain(set::relative_precision)),
    Definition::new("set_recall", How::Plain(set::recall)),
    Definition::new("set_map", How::Plain(set::map)),
    Definition::new("set_F", How::Numbers(&[1.0], |r, x, _| set::f(r, x[0]))),
    Definition::count("num_nonrel_judged_ret", |r| r.num_nonrel_judged_ret as f64, Sum::Total),
    Definition::pref_count("prefs_num_prefs_poss", prefs::num_possible),
    Definition::pref_count("prefs_num_prefs_ful", |m| prefs::num_fulfilled(m, Scope::All)),
    Definition::pref_count("prefs_num_prefs_ful_ret", |m| prefs::num_fulfilled(m, Scope::Retrieved)),
    Definition::new("prefs_simp", How::Prefs(|m| prefs::simple(m, Scope::All))),
    Definition::new("prefs_pair", How::Prefs(|m| prefs::by_pair(m, Scope::All))),
    Definition::new("prefs_avgjg", How::Prefs(|m| prefs::by_group(m, Scope::All))),
    Definition::new("prefs_avgjg_Rnonrel", How::Prefs(|m| prefs::balanced(m, Scope::All))),
    Definition::new("prefs_simp_ret", How::Prefs(|m| prefs::simple(m, Scope::Retrieved))),
    Definition::new("prefs_pair_ret", How::Prefs(|m| prefs::by_pair(m, Scope::Retrieved))),
    Definition::new("prefs_avgjg_ret", How::Prefs(|m| prefs::by_group(m, Scope::Retrieved))),
    Definition::new("prefs_avgjg_Rnonrel_ret", How::Prefs(|m| prefs::balanced(m, Scope::Retrieved))),
    Definition::new("prefs_simp_imp", How::Prefs(|m| prefs::simple(m, Scope::Implied))),
    Definition::new("prefs_pair_imp", How::Prefs(|m| prefs::by_pair(m, Scope::Implied))),
    Definition::new("prefs_avgjg_imp", How::Prefs(|m| prefs::by_group(m, Scope::Implied))),
    Definition::new("map_avgjg", How::Groups(groups::map)),
    Definition::new("P_avgjg", How::GroupCutoffs(CUTOFFS, groups::precision)),
    Definition::new("Rprec_mult_avgjg", How::GroupPoints(MULTIPLES, groups::r_precision_multiples)),
    Definition::new("yaap", How::Plain(average::yaap)),
    Definition::new("rbp", How::Pairs(gain::rank_biased)).since_10(),
    Definition::new("rbp_resid", How::Pairs(gain::rank_biased_residual)).since_10(),
    Definition::new("unj", How::Cutoffs(&[5, 10, 20], precision::unjudged)).since_10(),
];

/// Names for sets of measures.
pub(super) const NICKNAMES: &[(&str, &[&str])] = &[
    (
        "official",
        &[
            "runid",
            "num_q",
            "num_ret",
            "num_rel",
            "num_rel_ret",
            "map",
            "gm_map",
            "Rprec",
            "bpref",
            "recip_rank",
            "iprec_at_recall",
            "P",
        ],
    ),
    (
        "set",
        &[
            "runid",
            "num_q",
            "num_ret",
            "num_rel",
            "num_rel_ret",
            "utility",
            "set_P",
            "set_recall",
            "set_relative_P",
            "set_map",
            "set_F",
        ],
    ),
    (
        "all_trec",
        &[
            "runid",
            "num_q",
            "num_ret",
            "num_rel",
            "num_rel_ret",
            "map",
            "gm_map",
            "Rprec",
            "bpref",
            "recip_rank",
            "iprec_at_recall",
            "P",
            "relstring",
            "recall",
            "unj",
            "rbp",
            "rbp_resid",
            "infAP",
            "gm_bpref",
            "utility",
            "11pt_avg",
            "ndcg",
            "relative_P",
            "Rprec_mult",
            "success",
            "map_cut",
            "ndcg_cut",
            "ndcg_rel",
            "Rndcg",
            "binG",
            "G",
            "set_P",
            "set_recall",
            "set_relative_P",
            "set_map",
            "set_F",
            "num_nonrel_judged_ret",
        ],
    ),
    (
        "all_prefs",
        &[
            "runid",
            "num_q",
            "prefs_num_prefs_poss",
            "prefs_num_prefs_ful",
            "prefs_num_prefs_ful_ret",
            "prefs_simp",
            "prefs_pair",
            "prefs_avgjg",
            "prefs_avgjg_Rnonrel",
            "prefs_simp_ret",
            "prefs_pair_ret",
            "prefs_avgjg_ret",
            "prefs_avgjg_Rnonrel_ret",
            "prefs_simp_imp",
            "prefs_pair_imp",
            "prefs_avgjg_imp",
        ],
    ),
    (
        "prefs",
        &[
            "runid",
            "num_q",
            "prefs_num_prefs_poss",
            "prefs_num_prefs_ful",
            "prefs_num_prefs_ful_ret",
            "prefs_simp",
            "prefs_pair",
            "prefs_avgjg",
        ],
    ),
    ("qrels_jg", &["runid", "num_q", "map_avgjg", "P_avgjg", "Rprec_mult_avgjg"]),
];
