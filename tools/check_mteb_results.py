#!/usr/bin/env python3
"""Check that mteb reads what `polygrade benchmark` writes, and ranks systems as it does.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-mteb.txt
    polygrade benchmark benchmarks/mini.toml --model MODEL --out OUT --json > OUT/benchmark.json
    VENV/bin/python tools/check_mteb_results.py OUT OUT/benchmark.json

    polygrade eval MODEL COLLECTION --run RUN
    VENV/bin/python tools/check_mteb_results.py OUT OUT/benchmark.json \\
        --run RUN --qrels COLLECTION/qrels/test.tsv --result OUT/results/MODEL/REVISION/TASK.json

Checked: mteb's cache finds every result with its model and revision; TaskResult takes it and gives the task score that
polygrade shows; all language codes are mteb's; mteb's own Borda ranks are polygrade's. With a run of a collection of one
language (and no groups), also: mteb's evaluator gives every score of the result.
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
    parser.add_argument("--run", type=Path, help="a run file, 1,000 deep")
    parser.add_argument("--qrels", type=Path, help="the judgments of the split")
    parser.add_argument("--result", type=Path, help="the result of the same model on the same collection")
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
    if args.run:
        evaluator(args.run, args.qrels, args.result)


def evaluator(run_path: Path, qrels_path: Path, result_path: Path) -> None:
    """Compares every score of a result with what mteb's evaluator makes of the run."""
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores, make_score_dict

    qrels: dict[str, dict[str, int]] = {}
    for line in qrels_path.read_text().splitlines()[1:]:
        query, passage, grade = line.split("\t")
        qrels.setdefault(query, {})[passage] = int(float(grade))
    # mteb's mean leaves out queries for which nothing was ranked; ours counts them as 0.
    run: dict[str, dict[str, float]] = {query: {"(none)": 0.0} for query in qrels}
    for line in run_path.read_text().splitlines():
        query, _, passage, _, score, _ = line.split()
        run[query].pop("(none)", None)
        run[query][passage] = float(score)
    found = calculate_retrieval_scores(run, qrels, [1, 3, 5, 10, 20, 100, 1000])
    theirs = make_score_dict(
        ndcg=found.ndcg, _map=found.map, recall=found.recall, precision=found.precision, mrr=found.mrr,
        naucs={}, naucs_mrr={}, hit_rate=found.hit_rate, task_scores={},
    )
    result = json.loads(result_path.read_text())
    ours = next(iter(result["scores"].values()))[0]
    del theirs["accuracy"]  # recall_at_1 under another name
    for name, value in theirs.items():
        assert abs(ours[name] - value) <= 0.51e-5, (name, ours[name], value)
    print(f"mteb's evaluator gives the same {len(theirs)} scores, to its five digits")


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
