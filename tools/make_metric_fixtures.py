#!/usr/bin/env python3
"""Make the metric fixtures in crates/polygrade-eval/tests/fixtures.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-metrics.txt
    VENV/bin/python tools/make_metric_fixtures.py recorded --source DIR
    VENV/bin/python tools/make_metric_fixtures.py random [--check-with TREC_EVAL]

`recorded` copies inputs and recorded outputs from DIR, the `test` folder of
trec_eval's own repository (https://github.com/usnistgov/trec_eval). It needs no
package.

`random` writes random_cases.jsonl, whose expected values are pytrec_eval's.
With --check-with it also runs that trec_eval program on every case and compares
the values to its four decimals.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "crates/polygrade-eval/tests/fixtures"

SEED = 20240917
RANDOM_CASES = 50
MAX_BYTES = 300_000

CUT_MEASURES = {
    "ndcg_cut": (1, 5, 10, 20),
    "P": (1, 5, 10),
    "recall": (1, 5, 10, 100),
    "success": (1, 5, 10),
}
MEASURES = ["ndcg", "recip_rank", "map"] + [
    f"{name}_{cut}" for name, cuts in CUT_MEASURES.items() for cut in cuts
]

Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]

# ---------------------------------------------------------------- recorded

RECORDED = """qrels.test qrels.rel_level results.test results.trunc prefs.test prefs.comment.test prefs.results.test
zscores_file out.test out.test.a out.test.aq out.test.aqZ out.test.aqc out.test.aqcM out.test.aql out.test.meas_params
out.test.prefs out.test.qrels_jg out.test.qrels_prefs""".split()


def copy_recorded(source: Path) -> None:
    target = FIXTURES / "trec_eval"
    target.mkdir(parents=True, exist_ok=True)
    for name in RECORDED:
        shutil.copyfile(source / name, target / name)
    shutil.copyfile(source.parent / "LICENSE.md", target / "LICENSE.md")


# ---------------------------------------------------------------- random


def hand_made_cases() -> list[tuple[str, Qrels, Run]]:
    """Small cases that each pin down one rule."""
    numbered = {f"d{i:02}": float(40 - i) for i in range(30)}
    return [
        (
            "ties go to the greater docid",
            {"q": {"a": 1, "b": 0, "c": 2, "d": 0, "e": 3}},
            {"q": {"a": 1.0, "e": 1.0, "c": 1.0, "b": 1.0, "d": 1.0}},
        ),
        (
            "docids compare as text, not as numbers",
            {"q": {"d2": 3, "d10": 1, "d1": 2}},
            {"q": {"d10": 0.5, "d2": 0.5, "d1": 0.5, "d3": 0.5}},
        ),
        (
            "docids compare byte by byte in UTF-8",
            {"q": {"z": 1, "é": 2, "Z": 3, "\uff5a": 1, "\U0001f600": 2, "_": 0}},
            {"q": {"z": 2.0, "é": 2.0, "Z": 2.0, "\uff5a": 2.0, "\U0001f600": 2.0, "_": 2.0}},
        ),
        (
            "negative zero ties with zero",
            {"q": {"a": 1, "b": 0, "c": 2}, "r": {"a": 2, "b": 0}},
            {"q": {"a": 0.0, "b": -0.0, "c": -1.0}, "r": {"a": -0.0, "b": 0.0}},
        ),
        (
            "negative grades are neither relevant nor a gain",
            {
                "q": {"a": -1, "b": 2, "c": -2, "d": 1, "e": -1},
                "r": {"a": -1, "b": 0},
                "s": {"a": -1},
            },
            {
                "q": {"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0, "f": 1.0},
                "r": {"a": 1.0, "b": 0.5},
                "s": {"a": 1.0},
            },
        ),
        (
            "a query with no relevant document counts as zero",
            {"q": {"a": 0, "b": 0}, "r": {"a": 1, "b": 0}},
            {"q": {"a": 2.0, "b": 1.0}, "r": {"a": 2.0, "b": 1.0}},
        ),
        (
            "a query missing from the run, and one missing from the qrels",
            {"q": {"a": 1, "b": 3}, "missing": {"a": 1}, "none": {"a": 0}},
            {"q": {"a": 2.0, "b": 1.0}, "unjudged": {"a": 1.0}},
        ),
        (
            "no query in common",
            {"q": {"a": 1}},
            {"r": {"a": 1.0}},
        ),
        (
            "nothing judged was retrieved",
            {"q": {"a": 1, "b": 3}},
            {"q": {"x": 3.0, "y": 2.0, "z": 1.0}},
        ),
        (
            "first relevant document at rank 11",
            {"q": {"d10": 1, "d20": 2}, "r": {"d09": 1}},
            {"q": dict(numbered), "r": dict(numbered)},
        ),
        (
            "more relevant documents than the cutoff or the run holds",
            {"q": {f"d{i:02}": 1 + i % 3 for i in range(30)}},
            {"q": {k: v for k, v in numbered.items() if int(k[1:]) % 4 == 1}},
        ),
        (
            "grades above three",
            {"q": {"a": 7, "b": 4, "c": 0, "d": 1}},
            {"q": {"d": 4.0, "c": 3.0, "b": 2.0, "a": 1.0}},
        ),
    ]


def random_case(rng: random.Random) -> tuple[Qrels, Run]:
    pool = [f"d{i}" for i in range(1, rng.randint(5, 40) + 1)]
    level_count = rng.choice([2, 4, 8, 200])
    negative_weight = rng.choice([0, 0, 1])
    qrels: Qrels = {}
    run: Run = {}
    for number in range(1, rng.randint(1, 4) + 1):
        qid = f"q{number}"
        if rng.random() < 0.1:
            weights = [1, 0, 0, 0, 0]
        elif rng.random() < 0.15:
            weights = [5, 4, 0, 0, negative_weight]
        else:
            weights = [5, 2, 2, 1, negative_weight]
        judged = rng.sample(pool, rng.randint(max(2, len(pool) // 4), len(pool)))
        grades = {d: rng.choices([0, 1, 2, 3, -1], weights)[0] for d in judged}
        if max(grades.values()) < 0:
            # trec_eval stops with an error when every grade is below -1.
            grades[judged[0]] = 0
        if rng.random() > 0.05:
            qrels[qid] = grades
        if rng.random() > 0.12:
            retrieved = rng.sample(pool, rng.randint(max(2, len(pool) // 3), len(pool)))
            # Eighths of small integers are exact in single precision.
            run[qid] = {d: rng.randrange(-level_count // 4, level_count) / 8 for d in retrieved}
    if not qrels or not run:
        return random_case(rng)
    return qrels, run


def trec_order(scores: dict[str, float]) -> list[str]:
    return sorted(scores, key=lambda d: (scores[d], d.encode()), reverse=True)


def evaluate(qrels: Qrels, run: Run, level: int) -> dict[str, dict[str, float]]:
    """{measure: {qid: value}} by pytrec_eval."""
    import pytrec_eval

    asked = {"ndcg", "recip_rank", "map"} | {
        f"{name}.{','.join(map(str, cuts))}" for name, cuts in CUT_MEASURES.items()
    }
    per_query = pytrec_eval.RelevanceEvaluator(qrels, asked, relevance_level=level).evaluate(run)
    top = {q: {d: scores[d] for d in trec_order(scores)[:10]} for q, scores in run.items()}
    per_query_top = pytrec_eval.RelevanceEvaluator(
        qrels, {"recip_rank"}, relevance_level=level
    ).evaluate(top)
    assert set(per_query) == set(qrels) & set(run) == set(per_query_top)
    values = {m: {q: per_query[q][m] for q in sorted(per_query)} for m in MEASURES}
    values["recip_rank_cut_10"] = {q: per_query_top[q]["recip_rank"] for q in sorted(per_query)}
    return values


def check_tie_order() -> None:
    """pytrec_eval must rank equal scores by docid, greatest first."""
    import pytrec_eval

    docs = ["a", "b", "c", "d10", "d2", "B", "é"]
    run = {"q": {d: 1.5 for d in docs}}
    for rank, doc in enumerate(sorted(docs, key=str.encode, reverse=True), start=1):
        evaluator = pytrec_eval.RelevanceEvaluator({"q": {doc: 1}}, {"recip_rank"})
        found = evaluator.evaluate(run)["q"]["recip_rank"]
        assert found == 1 / rank, f"{doc} is at 1/{found}, not at rank {rank}"
    print("tie order: score descending, then docid descending: as expected")


def check_with_program(program: Path, case: dict, folder: Path) -> int:
    """Compare one case with what a trec_eval program prints; returns values compared."""
    qrels: Qrels = case["qrels"]
    run: Run = case["run"]
    if not set(qrels) & set(run):
        return 0  # trec_eval 9 prints nothing for such a run
    qrels_file, run_file = folder / "qrels", folder / "run"
    qrels_file.write_text(
        "".join(f"{q} 0 {d} {g}\n" for q, docs in qrels.items() for d, g in docs.items())
    )
    run_file.write_text(
        "".join(f"{q} Q0 {d} 0 {s!r} x\n" for q, docs in run.items() for d, s in docs.items())
    )
    all_measures = ["-m", "ndcg", "-m", "recip_rank", "-m", "map"]
    for name, cuts in CUT_MEASURES.items():
        all_measures += ["-m", f"{name}.{','.join(map(str, cuts))}"]
    asked = [
        (all_measures, {m: m for m in MEASURES}),
        (["-M", "10", "-m", "recip_rank"], {"recip_rank": "recip_rank_cut_10"}),
    ]
    compared = 0
    for level, key in ((1, "expected"), (2, "expected_level2")):
        for options, names in asked:
            command = [program, "-q", "-c", "-l", str(level), *options, qrels_file, run_file]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for line in out.splitlines():
                measure, qid, value = line.split()
                ours = case[key][names[measure]]
                if qid == "all":
                    # -c: over every query of the qrels, those missing from the run as zero
                    want = sum(ours.values()) / len(qrels)
                else:
                    want = ours.get(qid, 0.0)
                assert abs(want - float(value)) < 0.5001e-4, (case["name"], level, line, want)
                compared += 1
    return compared


def exact_in_single_precision(value: float) -> bool:
    return struct.unpack("f", struct.pack("f", value))[0] == value


def write_random(check_with: Path | None) -> None:
    check_tie_order()
    rng = random.Random(SEED)
    cases = hand_made_cases()
    cases += [(f"random {i}", *random_case(rng)) for i in range(1, RANDOM_CASES + 1)]
    lines = []
    compared = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, qrels, run in cases:
            assert all(exact_in_single_precision(s) for d in run.values() for s in d.values())
            assert all(max(grades.values()) >= -1 for grades in qrels.values())
            case = {
                "name": name,
                "qrels": qrels,
                "run": run,
                "expected": evaluate(qrels, run, 1),
                "expected_level2": evaluate(qrels, run, 2),
            }
            if check_with:
                compared += check_with_program(check_with, case, Path(folder))
            lines.append(json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n")
    text = "".join(lines).encode()
    if len(text) > MAX_BYTES:
        sys.exit(f"random_cases.jsonl would take {len(text)} bytes, over {MAX_BYTES}")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    (FIXTURES / "random_cases.jsonl").write_bytes(text)
    print(f"random_cases.jsonl: {len(cases)} cases, {len(text)} bytes")
    if check_with:
        print(f"{compared} values equal what {check_with} prints")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recorded = commands.add_parser("recorded", help="copy trec_eval's own test data")
    recorded.add_argument("--source", type=Path, required=True, help="trec_eval's test folder")
    made = commands.add_parser("random", help="write random_cases.jsonl")
    made.add_argument("--check-with", type=Path, help="a trec_eval program to compare with")
    args = parser.parse_args()
    if args.command == "recorded":
        copy_recorded(args.source)
    else:
        write_random(args.check_with)


if __name__ == "__main__":
    main()
