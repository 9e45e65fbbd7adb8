#!/usr/bin/env python3
"""Spearman's correlation of cosine and grade on STS-B (eleven languages) and SICK (four), test pairs, for models that
polygrade encodes with.

    tools/sts_spearman.py POLYGRADE DATA MODEL...

DATA holds stsb_multi_mt and sick_multi, unpacked from ../shared/data. `en-xx`: the first sentence in English, the second in
the other language. Versions: tools/requirements-significance.txt.
"""
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr


def stsb(folder: Path) -> dict:
    langs = sorted({f.name.split("-")[1] for f in folder.glob("stsb-*-test.csv")})
    rows = {lang: list(csv.reader((folder / f"stsb-{lang}-test.csv").open(encoding="utf-8"))) for lang in langs}
    english = rows["en"]
    sets = {f"STS-B {lang}": [(a, b, float(g)) for a, b, g in rows[lang]] for lang in langs}
    for lang in langs:
        if lang != "en":
            sets[f"STS-B en-{lang}"] = [(e[0], r[1], float(e[2])) for e, r in zip(english, rows[lang])]
    return sets


def sick(folder: Path) -> dict:
    def table(name):
        lines = csv.DictReader((folder / name).open(encoding="utf-8-sig"), delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["pair_ID"]: row for row in lines}

    japanese = table("jsick_test.tsv")
    sets = {
        "SICK en": [(r["sentence_A_En"], r["sentence_B_En"], r["relatedness_score_En"]) for r in japanese.values()],
        "SICK ja": [(r["sentence_A_Ja"], r["sentence_B_Ja"], r["relatedness_score_Ja"]) for r in japanese.values()],
    }
    for lang, name in (("nl", "SICK_NL.txt"), ("pt", "SICK_BR.txt")):
        rows = [r for r in table(name).values() if r["SemEval_set"] == "TEST"]
        sets[f"SICK {lang}"] = [(r["sentence_A"], r["sentence_B"], r["relatedness_score"]) for r in rows]
    return {name: [(a, b, float(g)) for a, b, g in rows if g] for name, rows in sets.items()}


def main() -> None:
    polygrade, data, models = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    sets = stsb(data / "stsb_multi_mt") | sick(data / "sick_multi")
    texts = sorted({t for rows in sets.values() for a, b, _ in rows for t in (a, b)})
    place = {t: i for i, t in enumerate(texts)}
    print(f"{'':14}{'pairs':>7}" + "".join(f"{Path(m).name[:18]:>20}" for m in models))
    vectors = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "texts.jsonl"
        lines = (json.dumps({"_id": str(i), "text": t}, ensure_ascii=False) for i, t in enumerate(texts))
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for i, model in enumerate(models):
            out = Path(folder) / f"{i}.npy"
            subprocess.run([polygrade, "encode", model, source, "--out", out, "--quiet"], check=True, stdout=subprocess.DEVNULL)
            v = np.load(out).astype(np.float64)
            vectors.append(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12))
    for name, rows in sets.items():
        a, b = ([place[r[k]] for r in rows] for k in (0, 1))
        grades = [r[2] for r in rows]
        scores = [spearmanr((v[a] * v[b]).sum(axis=1), grades).statistic for v in vectors]
        print(f"{name:14}{len(rows):7}" + "".join(f"{s:20.3f}" for s in scores))


if __name__ == "__main__":
    main()
