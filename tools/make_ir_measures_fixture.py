"""Values of ir_measures and ranx for our metrics of the same names.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-ir-measures.txt     # and perl, for ERR
    VENV/bin/python tools/make_ir_measures_fixture.py crates/polygrade-eval/tests/fixtures/ir_measures.json

Random judgments of grades -1 to 4 and runs without ties, from a fixed seed (Compat and ERR of ir_measures break
ties in another way), and the two small collections of ir_measures' own tests where they are given.
"""

import argparse
import json
import random
from pathlib import Path

import ir_measures

NAMES = """P@5 P(rel=2)@10 R@20 RR RR(rel=3) RR@10 AP AP@20 AP(rel=2) Success@3 Rprec Rprec(rel=2) Bpref Bpref(rel=3)
infAP IPrec@0.1 IPrec@0.5 IPrec(rel=2)@0.3 nDCG nDCG@10 nDCG(gains={1:0,2:3,3:7,4:15})@10 SetP SetR SetF(beta=2.0) SetAP
SetRelP Judged@10 Compat(p=0.95) Compat(p=0.8) Compat(p=0.8,normalize=False) ERR@20 NumRet NumRel NumRelRet
RBP(p=0.8,rel=1) RBP(p=0.5,rel=2) nDCG(dcg='exp-log2')@20""".split()
# pytrec_eval wraps version 9, which places recalls in another way; ir_measures has no name for ranx's.
SKIP = {"IPrec": "version 9"}


def values(qrels, run):
    out = {}
    for name in NAMES:
        if name.split("@")[0].split("(")[0] in SKIP:
            continue
        measure = ir_measures.parse_measure(name)
        out[name] = {m.query_id: m.value for m in ir_measures.iter_calc([measure], qrels, run)}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--collections", type=Path, help="ir_measures' test/data folder: compat.*, cwl.*")
    args = parser.parse_args()
    r, qrels, run = random.Random(20), {}, {}
    for topic in range(1, 13):
        pool = [f"d{i}" for i in range(60)]
        r.shuffle(pool)
        grades = [0] * 6 + [-1, 1, 1, 2, 2, 3, 4] if topic % 4 else [0, 0, 1]
        # No negative grade for gdeval, which would refuse it.
        qrels[str(topic)] = {d: max(0, r.choice(grades)) for d in pool[: r.randint(3, 40)]}
        some = r.sample(pool, r.randint(2, 55))
        run[str(topic)] = {d: float(len(some) - i) for i, d in enumerate(some)}
    cases = [{"qrels": qrels, "run": run, "expected": values(qrels, run)}]
    args.out.write_text(json.dumps(cases) + "\n")


if __name__ == "__main__":
    main()
