#!/usr/bin/env python3
"""Check that mteb reads what `polygrade benchmark` writes, and ranks systems as it does.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-mteb.txt
    polygrade benchmark benchmarks/mini.toml --model MODEL --out OUT --json > OUT/benchmark.json
    VENV/bin/python tools/check_mteb_results.py OUT OUT/benchmark.json

Checked: mteb's cache finds every result with its model and revision; TaskResult takes it and gives the task score that
polygrade shows; all language codes are mteb's; mteb's own Borda ranks are polygrade's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mteb
from mteb.cache import ResultCache
from mteb.languages import ISO_TO_LANGUAGE, ISO_TO_SCRIPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the --out of polygrade benchmark")
    parser.add_argument("table", type=Path, help="what it printed with --json")
    args = parser.parse_args()
    table = json.loads(args.table.read_text())
    tasks = [task["name"] for task in table["tasks"]]
    splits = {task["name"]: task["split"] for task in table["tasks"]}

    found = ResultCache(args.out).load_results(include_remote=False)
    loaded = {(m.model_name, m.model_revision): {t.task_name: t for t in m.task_results} for m in found.model_results}
    compared = 0
    for system in table["systems"]:
        results = loaded[(system["name"], system["revision"])]
        for task, score in zip(tasks, system["scores"]):
            result = results[task]
            assert abs(result.get_score(splits=[splits[task]]) - score) < 1e-12, (system["name"], task)
            for subset in result.scores[splits[task]]:
                for code in subset["languages"]:
                    iso3, script = code.split("-")
                    assert iso3 in ISO_TO_LANGUAGE and script in ISO_TO_SCRIPT, code
            compared += 1
    print(f"mteb {mteb.__version__} reads {compared} results of {len(table['systems'])} systems, with the same scores")

    theirs = borda(table, tasks)
    ours = {system["name"]: system["borda_rank"] for system in table["systems"]}
    assert theirs == ours, (theirs, ours)
    print(f"mteb's Borda ranks are polygrade's: {ours}")


def borda(table: dict, tasks: list[str]) -> dict[str, int]:
    """The ranks that mteb's leaderboard would give."""
    names = [system["name"] for system in table["systems"]]
    rows = {task: [system["scores"][i] for system in table["systems"]] for i, task in enumerate(tasks)}
    try:
        import polars as pl
        from mteb.benchmarks._create_table import _get_borda_rank

        frame = pl.DataFrame({"model": names, **rows})
        return dict(zip(names, frame.select(_get_borda_rank(tasks).alias("r")).get_column("r").to_list()))
    except (ImportError, TypeError):
        import pandas as pd
        from mteb.benchmarks._create_table import _get_borda_rank

        return _get_borda_rank(pd.DataFrame(rows, index=names)).astype(int).to_dict()


if __name__ == "__main__":
    main()
