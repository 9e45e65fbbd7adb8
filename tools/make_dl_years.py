#!/usr/bin/env python3
"""Two collections from TREC DL 2019 and 2020: trained and calibrated on one year's labels by a language model, tested on
the other year's labels by people.

    make_dl_years.py DL DATA OUT

DL is the collection of both years (polygrade import trec DATA/dl19 DATA/dl20 --lang en --scale 0:3 --out DL), DATA the
folder trec_dl_judged. Writes OUT/dl19-dl20 and OUT/dl20-dl19 (trained on the first, tested on the second). Every fifth
training query is dev; with so few, calibrate cross-fits over both. Needs nothing but Python 3.
"""
import shutil
import sys
from pathlib import Path


def main() -> None:
    dl, data, out = map(Path, sys.argv[1:4])
    passages = {line.split('"')[3] for line in open(dl / "corpus.jsonl", encoding="utf-8")}

    def rows(path):
        with open(path, encoding="utf-8") as file:
            for query, _, passage, grade in (line.split() for line in file):
                if passage in passages:
                    yield query, passage, max(0, int(grade))

    people = {y: list(rows(data / f"dl{y}" / "qrels_as_in_source.txt")) for y in (19, 20)}
    model = {y: list(rows(data / "llm_qrels" / f"dl20{y}_test_4prompts_llama70b.txt")) for y in (19, 20)}
    for train, test in ((19, 20), (20, 19)):
        folder = out / f"dl{train}-dl{test}"
        (folder / "qrels").mkdir(parents=True)
        for name in ("corpus.jsonl", "queries.jsonl"):
            shutil.copy(dl / name, folder / name)
        meta = (dl / "collection.toml").read_text().replace('name = "dl"', f'name = "dl{train}-dl{test}"')
        (folder / "collection.toml").write_text(meta)
        queries = sorted({q for q, _, _ in model[train]})
        dev = set(queries[::5])
        both = {q for q, _, _ in people[test]}
        parts = {
            "train": [r for r in model[train] if r[0] not in dev and r[0] not in both],
            "dev": [r for r in model[train] if r[0] in dev and r[0] not in both],
            "test": people[test],
        }
        for split, judged in parts.items():
            with open(folder / "qrels" / f"{split}.tsv", "w", encoding="utf-8") as file:
                file.write("query-id\tcorpus-id\tscore\n")
                file.writelines(f"{q}\t{p}\t{g}\n" for q, p, g in dict.fromkeys(judged))


main()
