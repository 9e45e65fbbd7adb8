#!/usr/bin/env python3
"""Writes a synthetic collection of N passages, to measure memory and speed of `polygrade profile`.

    python3 tools/make_big_collection.py 1000000 /tmp/big
    /usr/bin/time -v polygrade profile /tmp/big

Texts repeat the words of the shipped collection in random order, about 60 words a passage; one query and ten
judgments for every 100 passages. Needs nothing but Python.
"""
import json, os, random, sys

count, out = int(sys.argv[1]), sys.argv[2]
here = os.path.dirname(os.path.abspath(__file__))
words = {}
with open(os.path.join(here, "../collections/mini/corpus.jsonl"), encoding="utf-8") as lines:
    for line in lines:
        record = json.loads(line)
        words.setdefault(record["lang"], []).extend(record["text"].split())
random.seed(1)
langs = sorted(words)
os.makedirs(os.path.join(out, "qrels"))
with open(os.path.join(out, "corpus.jsonl"), "w", encoding="utf-8") as corpus:
    for i in range(count):
        lang = langs[i % len(langs)]
        text = " ".join(random.choices(words[lang], k=60))
        record = {"_id": f"p{i}", "text": text, "lang": lang, "group": f"g{i // len(langs)}"}
        corpus.write(json.dumps(record, ensure_ascii=False) + "\n")
queries = count // 100
with open(os.path.join(out, "queries.jsonl"), "w", encoding="utf-8") as file:
    for i in range(queries):
        lang = langs[i % len(langs)]
        file.write(json.dumps({"_id": f"q{i}", "text": " ".join(random.choices(words[lang], k=6)), "lang": lang}) + "\n")
with open(os.path.join(out, "qrels/train.tsv"), "w") as file:
    file.write("query-id\tcorpus-id\tscore\n")
    for i in range(queries):
        for p in random.sample(range(count), 10):
            file.write(f"q{i}\tp{p}\t{random.randrange(4)}\n")
with open(os.path.join(out, "collection.toml"), "w") as file:
    file.write('name = "big"\nlicence = "CC BY 4.0"\nsource = "tools/make_big_collection.py"\n[grades]\nmax = 3\n')
