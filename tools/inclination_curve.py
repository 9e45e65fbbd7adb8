#!/usr/bin/env python3
"""What a preference for the query's own language does in a pool of English and that language, for docs/results.md.

    tools/inclination_curve.py POLYGRADE COLLECTION MODEL

λ is added to the cosine of query and passage in one language. Printed for each λ, as means over the languages other than
English: Inclination(en)@10, Inclination(own)@10, Comp@10, as `polygrade eval` has them. λ = 0 is `--pool multi:own+en`. COLLECTION
is XQuAD as `polygrade import squad xquad --split test` makes it. Needs numpy.
"""
import csv
import json
import subprocess
import sys
import tempfile
from collections import defaultdict

import numpy as np


def records(path: str) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def vectors(polygrade: str, model: str, path: str, out: str, *more: str) -> np.ndarray:
    subprocess.run([polygrade, "encode", model, path, "--out", out, "--quiet", *more], check=True, capture_output=True)
    found = np.load(out)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def main() -> None:
    polygrade, collection, model = sys.argv[1:]
    passages, queries = (records(f"{collection}/{name}.jsonl") for name in ["corpus", "queries"])
    with tempfile.TemporaryDirectory() as folder:
        p = vectors(polygrade, model, f"{collection}/corpus.jsonl", f"{folder}/p.npy")
        q = vectors(polygrade, model, f"{collection}/queries.jsonl", f"{folder}/q.npy", "--query")
    group = {x["_id"]: x["group"] for x in passages}
    unit = {x["_id"]: x["group"] for x in queries}
    right = defaultdict(set)
    with open(f"{collection}/qrels/test.tsv", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if float(row["score"]) >= 3:
                right[unit[row["query-id"]]].add(group[row["corpus-id"]])
    lang = np.array([x["lang"] for x in passages])
    groups = np.array([x["group"] for x in passages])
    langs = sorted(set(lang) - {"en"})
    print("λ  Inclination(en)@10  Inclination(own)@10  Comp@10")
    for bonus in [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3]:
        means = []
        for tag in langs:
            asked = [i for i, x in enumerate(queries) if x["lang"] == tag]
            pool = np.flatnonzero((lang == tag) | (lang == "en"))
            own = lang[pool] == tag
            scores = q[asked] @ p[pool].T + bonus * own
            values = []
            for row, i in zip(scores, asked):
                order = np.argsort(-row, kind="stable")
                relevant = np.isin(groups[pool], list(right[queries[i]["group"]]))[order]
                mine = own[order]
                above = min(int(np.flatnonzero(relevant & mine)[0]), 10)
                wrong = ~relevant[:above]
                share = lambda which: 100 * float(np.mean(which & wrong)) if above else 0.0
                complete = 100.0 * (relevant[:10].sum() == relevant.sum())
                values.append((share(~mine[:above]), share(mine[:above]), complete))
            means.append(np.mean(values, axis=0))
        print(bonus, *(f"{v:.2f}" for v in np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
