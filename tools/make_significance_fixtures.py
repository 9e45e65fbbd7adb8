"""What the significance tests of polygrade-eval must equal: answers of scipy, statsmodels and brute force.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-significance.txt
    VENV/bin/python tools/make_significance_fixtures.py

writes crates/polygrade-eval/tests/fixtures/significance.json. See the README beside it.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

OUT = Path(__file__).resolve().parents[1] / "crates/polygrade-eval/tests/fixtures/significance.json"
RESAMPLES = 100_000


def values(kind, n, rng):
    """Two systems' values by topic, as measures give them."""
    if kind == "normal":
        a = 0.4 + 0.15 * rng.standard_normal(n)
        return a, a + 0.03 + 0.08 * rng.standard_normal(n)
    if kind == "reciprocal rank":  # few values, many ties, skewed
        return 1 / rng.integers(1, 6, n), 1 / rng.integers(1, 4, n)
    if kind == "precision":  # tenths, many equal sizes of difference
        return rng.integers(0, 11, n) / 10, np.minimum(rng.integers(1, 13, n), 10) / 10
    a = rng.beta(0.4, 0.6, n)  # heaped at 0 and 1, as nDCG is
    a[rng.random(n) < 0.2] = 0
    b = np.where(rng.random(n) < 0.3, a, np.clip(a + rng.gamma(1.5, 0.1, n) - 0.1, 0, 1))
    return a, b


def studentised(d, rng):
    """Sakai (2006): the share of draws from the shifted differences with |t*| >= |t|."""
    n = len(d)
    t = abs(d.mean()) / (d.std(ddof=1) / np.sqrt(n))
    draws = rng.choice(d - d.mean(), (RESAMPLES, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        star = np.abs(draws.mean(axis=1)) / (draws.std(axis=1, ddof=1) / np.sqrt(n))
    return float((np.nan_to_num(star, nan=0.0) >= t * (1 - 1e-9)).mean())


def case(kind, n, seed):
    rng = np.random.default_rng(seed)
    a, b = values(kind, n, rng)
    d = b - a
    d[np.abs(d) < 1e-12] = 0
    t = stats.ttest_rel(b, a)
    interval = t.confidence_interval(0.95)

    def statistic(x, axis=-1):
        return np.mean(x, axis=axis)

    exact = n <= 12
    permuted = stats.permutation_test(
        (d,), statistic, permutation_type="samples", vectorized=True,
        n_resamples=np.inf if exact else 200_000, batch=5000, rng=rng)

    def bootstrap(method):
        ci = stats.bootstrap((d,), np.mean, n_resamples=RESAMPLES, batch=5000, method=method, rng=rng)
        return [float(x) for x in ci.confidence_interval]

    moved = d[d != 0]
    sizes = np.round(np.abs(moved), 10)
    ties = len(set(sizes)) < len(sizes)
    signed = np.sign(moved) * stats.rankdata(sizes)
    if len(moved) > 50:
        wilcoxon = stats.wilcoxon(signed, method="asymptotic")
    elif ties and len(moved) <= 13:
        wilcoxon = stats.wilcoxon(signed, method=stats.PermutationMethod(n_resamples=np.inf))
    elif ties:
        wilcoxon = None  # scipy has no exact answer here
    else:
        wilcoxon = stats.wilcoxon(signed, method="exact")
    wins = int((d > 0).sum())
    return {
        "name": f"{kind}, {n} topics", "a": a.tolist(), "b": b.tolist(),
        "t": float(t.statistic), "p_t": float(t.pvalue), "t_interval": [float(interval.low), float(interval.high)],
        "p_permutation": float(permuted.pvalue), "exact": exact,
        "percentile": bootstrap("percentile"), "bca": bootstrap("BCa"),
        "p_bootstrap": studentised(d, rng),
        "wilcoxon": wilcoxon and [float(wilcoxon.statistic), float(wilcoxon.pvalue)],
        "p_sign": float(stats.binomtest(wins, wins + int((d < 0).sum())).pvalue),
    }


def tukey(m, n, seed):
    """All (m!)^n orders of the values of each topic."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.beta(1, 1, (m, n)) + 0.15 * np.arange(m)[:, None], 3)
    orders = np.array(list(itertools.permutations(range(m))))
    sums = np.zeros((1, m))
    for topic in range(n):
        sums = (sums[:, None, :] + x[:, topic][orders][None]).reshape(-1, m)
    widest = sums.max(axis=1) - sums.min(axis=1)
    observed = {(a, b): abs(x[a].sum() - x[b].sum()) for a, b in itertools.combinations(range(m), 2)}
    residual = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0) + x.mean()
    sd = np.sqrt((residual**2).sum() / ((m - 1) * (n - 1)))
    return {"systems": x.tolist(), "residual_sd": float(sd),
            "p": [[a, b, float((widest >= o - 1e-9).mean())] for (a, b), o in observed.items()]}


def power(n, ratio, alpha):
    df, delta = n - 1, np.sqrt(n) * ratio
    critical = stats.t.ppf(1 - alpha / 2, df)
    return float(stats.nct.sf(critical, df, delta) + stats.nct.cdf(-critical, df, delta))


def needed(ratio, alpha, wanted):
    n = 2
    while power(n, ratio, alpha) < wanted:
        n += 1
    return n


def main():
    kinds = ["normal", "reciprocal rank", "precision", "heaped"]
    cases = [case(k, n, 100 * i + n) for i, k in enumerate(kinds) for n in (5, 12, 20, 60, 300)]
    rng = np.random.default_rng(7)
    corrections = []
    for m in (1, 2, 7, 40):
        p = np.round(rng.beta(0.3, 1.5, m), 4)
        p[m // 2:m // 2 + 2] = p[m // 2]
        corrections.append({"p": p.tolist()} | {
            ours: multipletests(p, method=theirs)[1].tolist()
            for ours, theirs in [("bonferroni", "bonferroni"), ("holm", "holm"), ("bh", "fdr_bh")]})
    t_tails = [[t, df, float(2 * stats.t.sf(t, df))]
               for t in (0.01, 0.5, 1.96, 4.0, 12.0) for df in (1, 2, 7, 19, 99, 999, 50_000)]
    quantiles = [[p, float(stats.norm.ppf(p))] for p in (1e-12, 1e-4, 0.025, 0.3, 0.5, 0.8, 0.975, 1 - 1e-6)]
    powers = [[n, r, a, power(n, r, a)] for n in (2, 5, 20, 100, 1000) for r in (0.05, 0.3, 1.0) for a in (0.05, 0.01)]
    powers = [x for x in powers if np.isfinite(x[3])]  # scipy has no answer far out
    topics = [[r, a, w, needed(r, a, w)] for r in (0.1, 0.3, 1.0, 3.0) for a, w in ((0.05, 0.8), (0.01, 0.95))]
    OUT.write_text(json.dumps({
        "cases": cases, "corrections": corrections, "tukey": [tukey(2, 8, 1), tukey(3, 5, 2), tukey(4, 4, 3)],
        "t_tails": t_tails, "quantiles": quantiles, "powers": powers, "topics": topics}, indent=None,
        separators=(",", ":")).replace('},{"name"', '},\n{"name"') + "\n")


main()
