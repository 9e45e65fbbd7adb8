#!/usr/bin/env python3
"""Make crates/polygrade-eval/tests/fixtures/ranking.json: ranks, Borda counts and Kendall's tau-b by scipy.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-metrics.txt
    VENV/bin/python tools/make_ranking_fixtures.py

Borda is computed as mteb does (mteb/benchmarks/_create_table.py): in each task n - rank with ranks averaged over
ties, nothing for a missing task, and the sum ranked again with method "min". tools/check_mteb_results.py compares
with mteb's own function.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau, rankdata

OUT = Path(__file__).resolve().parent.parent / "crates/polygrade-eval/tests/fixtures/ranking.json"


def table(rng: np.random.Generator, systems: int, tasks: int, missing: float) -> dict:
    # One decimal, so that ties are common.
    scores = np.round(rng.random((systems, tasks)), 1)
    scores[rng.random(scores.shape) < missing] = np.nan
    ranks = np.full(scores.shape, np.nan)
    for t in range(tasks):
        there = ~np.isnan(scores[:, t])
        ranks[there, t] = rankdata(-scores[there, t], method="average")
    points = np.nansum(systems - ranks, axis=1)
    none = lambda a: [[None if np.isnan(v) else float(v) for v in row] for row in a]
    means = [None if np.isnan(row).any() else float(row.mean()) for row in scores]
    mean_ranks = [None if np.isnan(row).all() else float(np.nanmean(row)) for row in ranks]
    return {
        "scores": none(scores),
        "mean": means,
        "mean_rank": mean_ranks,
        "borda": points.tolist(),
        "borda_rank": rankdata(-points, method="min").astype(int).tolist(),
    }


def tau(rng: np.random.Generator, n: int, levels: int) -> dict:
    a, b = (rng.integers(0, levels, n).astype(float) for _ in range(2))
    value = kendalltau(a, b, variant="b").statistic
    return {"a": a.tolist(), "b": b.tolist(), "tau": None if np.isnan(value) else float(value)}


def main() -> None:
    rng = np.random.default_rng(20261126)
    shapes = [(1, 1), (2, 1), (3, 4), (6, 5), (10, 12), (25, 8)]
    tables = [table(rng, s, t, missing) for s, t in shapes for missing in (0.0, 0.2)]
    taus = [tau(rng, n, levels) for n in (2, 3, 5, 12, 40) for levels in (1, 2, 4, 1000)]
    OUT.write_text(json.dumps({"tables": tables, "kendall": taus}) + "\n")


if __name__ == "__main__":
    main()
