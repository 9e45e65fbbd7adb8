#!/usr/bin/env python3
"""Make a collection of translation groups from Tatoeba (CC BY 2.0 FR) and TICO-19 (CC0), for docs/guide-align.md.

    tools/make_align_collection.py --tatoeba DIR --tico19 DIR --out DIR

DIR are the unpacked Tatoeba challenge pairs (pairs/eng-spa/tatoeba-test-*.eng ...) and TICO-19 (en-ar/tico19-test.en ...).
A passage is a sentence; its translations are in its group. Neither source has queries, so each passage gets one made of
it: a random half of its words, in order (of its characters in Chinese), for translations each in its own words.
With --english, queries in all languages ask for the English sentence alone, and nothing joins translations: judgments that
make an encoder lean to English.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

# language: name of the pair and of the files in Tatoeba, name in TICO-19
LANGS = {
    "ar": ("ara-eng", "ara", "ar"),
    "de": ("deu-eng", "deu", None),
    "es": ("eng-spa", "spa", "es_LA"),
    "hi": ("eng-hin", "hin", "hi"),
    "ru": ("eng-rus", "rus", "ru"),
    "vi": ("eng-vie", "vie", None),
    "zh": ("eng-zho", "zho", "zh"),
}


def pairs(english: Path, other: Path, most: int | None) -> list[tuple[str, str]]:
    read = lambda path: [" ".join(line.split()) for line in path.read_text(encoding="utf-8").split("\n")]
    rows = [(e, o) for e, o in zip(read(english), read(other)) if e and o]
    return rows[:most]


def query(text: str, lang: str, rng: random.Random) -> str:
    units = list(text) if lang == "zh" else text.split()
    kept = sorted(rng.sample(range(len(units)), max(1, len(units) // 2)))
    return ("" if lang == "zh" else " ").join(units[i] for i in kept).strip() or text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tatoeba", type=Path, required=True)
    parser.add_argument("--tico19", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=6000, help="sentences of Tatoeba a language")
    parser.add_argument("--dev", type=int, default=50, help="every so many groups one is dev")
    parser.add_argument("--english", action="store_true", help="queries of all languages ask for English passages")
    args = parser.parse_args()

    groups: dict[str, dict[str, str]] = {}
    for lang, (folder, code, tico) in LANGS.items():
        rows = []
        for path in sorted((args.tatoeba / "pairs" / folder).glob("tatoeba-test-*.eng")):
            rows += pairs(path, path.with_suffix(f".{code}"), args.most)
        if tico:
            folder = args.tico19 / f"en-{tico}"
            rows += pairs(folder / "tico19-test.en", folder / f"tico19-test.{tico}", None)
        for english, other in rows:
            if min(len(english.split()), len(other if lang == "zh" else other.split())) >= 4:
                groups.setdefault(english, {"en": english}).setdefault(lang, other)

    rng = random.Random(1)
    args.out.mkdir(parents=True)
    (args.out / "qrels").mkdir()
    meta = 'name = "tatoeba-tico19"\nlicence = "CC BY 2.0 FR (Tatoeba), CC0 (TICO-19)"\n'
    meta += 'source = "Tatoeba translation challenge 2021-08-07, TICO-19"\n\n[grades]\nmax = 1.0\n'
    (args.out / "collection.toml").write_text(meta, encoding="utf-8")
    files = {name: (args.out / name).open("w", encoding="utf-8") for name in ["corpus.jsonl", "queries.jsonl"]}
    qrels = {s: (args.out / "qrels" / f"{s}.tsv").open("w", encoding="utf-8") for s in ["train", "dev"]}
    for file in qrels.values():
        file.write("query-id\tcorpus-id\tscore\n")
    write = lambda name, row: files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
    for number, texts in enumerate(groups.values()):
        split = "dev" if number % args.dev == 0 else "train"
        for lang, text in texts.items():
            group = lambda kind: {} if args.english else {"group": f"{kind}{number}"}
            write("corpus.jsonl", {"_id": f"{lang}-{number}", "text": text, "lang": lang, **group("g")})
            asked = query(text, lang, rng)
            write("queries.jsonl", {"_id": f"{lang}-q{number}", "text": asked, "lang": lang, **group("q")})
            if lang == "en" or args.english:
                qrels[split].write(f"{lang}-q{number}\ten-{number}\t1\n")
    for file in [*files.values(), *qrels.values()]:
        file.close()
    counts = {lang: sum(lang in texts for texts in groups.values()) for lang in ["en", *LANGS]}
    print("passages:", ", ".join(f"{lang} {n}" for lang, n in counts.items()))


if __name__ == "__main__":
    main()
