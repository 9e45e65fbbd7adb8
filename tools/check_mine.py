#!/usr/bin/env python3
"""Compare `polygrade mine` with sentence-transformers' mine_hard_negatives: the same negatives, and the time for them.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-encoder.txt datasets
    VENV/bin/python tools/check_mine.py POLYGRADE COLLECTION MODEL --lang en --tau 4

Both encode and mine, one after the other, `--rounds` times; the medians are printed. Settings: 7 negatives from ranks up
to 100, among those at least 5 % below the lowest positive. Judged passages of lower grades may be mined by both
(--keep-judged). sentence-transformers knows no query id and no translations: queries of equal text are passed over, a text that
is a query's own is taken out of its list (it is asked for one more), and translations play no part in one language.

With --ranks N, N ranks in place of 100. It counts them before margins and after adding as many as the query with most
positives has, polygrade after its positives are left out: with positives of very different number the two look to
different depths. With N the number of passages both see all, and must agree.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import datasets.arrow_dataset
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

NEGATIVES, MARGIN = 7, 0.05
# datasets names a table by pickling it for its cache, which fails with some versions of pyarrow and dill (seen with datasets
# 5.2, pyarrow 22 and 26). Nothing is cached here.
datasets.arrow_dataset.generate_fingerprint = lambda *_: "unnamed"


def texts(path: Path, lang: str) -> dict[str, str]:
    out = {}
    for line in path.open(encoding="utf-8"):
        record = json.loads(line)
        if record["lang"] == lang:
            title = record.get("title") or ""
            out[record["_id"]] = f"{title} {record['text']}" if title else record["text"]
    return out


def theirs(args: argparse.Namespace, queries: dict, passages: dict, pairs: list, model) -> tuple[dict, float]:
    started = time.perf_counter()
    data = Dataset.from_dict({"q": [queries[q] for q, _ in pairs], "p": [passages[p] for _, p in pairs]})
    mined = mine_hard_negatives(
        data, model, corpus=list(passages.values()), range_min=0, range_max=args.ranks, relative_margin=MARGIN,
        num_negatives=NEGATIVES + 1, sampling_strategy="top", output_scores=True, batch_size=args.batch, verbose=False)
    seconds = time.perf_counter() - started
    out = defaultdict(dict)
    for row in mined:
        if row["negative"] != row["q"]:
            out[row["q"]][row["negative"]] = row["scores"][1]
    best = lambda found: dict(sorted(found.items(), key=lambda kv: -kv[1])[:NEGATIVES])
    return {q: best(found) for q, found in out.items()}, seconds


def ours(args: argparse.Namespace, queries: dict, passages: dict) -> tuple[dict, float, dict]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "negatives.tsv"
        command = [args.polygrade, "mine", args.collection, "--model", args.model, "--tau", args.tau, "--langs", args.lang,
                   "--range", f"1:{args.ranks}", "--relative-margin", str(MARGIN), "--negatives", str(NEGATIVES),
                   "--keep-judged", "--json", "--quiet", "--out", str(path)]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        out = defaultdict(dict)
        for row in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t"):
            out[queries[row["query-id"]]][passages[row["corpus-id"]]] = float(row["score"])
    return out, seconds, json.loads(done.stdout)["langs"][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("polygrade")
    parser.add_argument("collection")
    parser.add_argument("model")
    parser.add_argument("--lang", default="en")
    parser.add_argument("--tau", default="1")
    parser.add_argument("--ranks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    folder = Path(args.collection)
    queries, passages = texts(folder / "queries.jsonl", args.lang), texts(folder / "corpus.jsonl", args.lang)
    pairs = []
    for row in csv.DictReader((folder / "qrels/train.tsv").open(encoding="utf-8"), delimiter="\t"):
        q, p = row["query-id"], row["corpus-id"]
        if float(row["score"]) >= float(args.tau) and q in queries and p in passages:
            pairs.append((q, p))
    shared = {text for text, n in Counter(queries.values()).items() if n > 1}
    model = SentenceTransformer(args.model, device="cpu")
    times = {"polygrade": [], "sentence-transformers": []}
    for _ in range(args.rounds):
        mine, seconds, counts = ours(args, queries, passages)
        times["polygrade"].append(seconds)
        other, seconds = theirs(args, queries, passages, pairs, model)
        times["sentence-transformers"].append(seconds)
    same = either = alike = compared = 0
    worst = 0.0
    for q in set(mine) | set(other):
        if q in shared:
            continue
        a, b = mine.get(q, {}), other.get(q, {})
        compared += 1
        alike += a.keys() == b.keys()
        same += len(a.keys() & b.keys())
        either += len(a.keys() | b.keys())
        worst = max([worst] + [abs(a[t] - b[t]) for t in a.keys() & b.keys()])
    print(f"{len(queries)} queries, {len(passages)} passages, {len(pairs)} positives; ours: {counts}")
    print(f"{compared} queries compared: {alike} with the same negatives; {same} of {either} negatives in both; "
          f"largest difference of a score {worst:.1e}")
    for name, seconds in times.items():
        print(f"{name}: median {statistics.median(seconds):.2f} s of {[round(s, 2) for s in seconds]}")


if __name__ == "__main__":
    main()
