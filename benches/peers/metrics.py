"""Times `polygrade trec-eval` beside trec_eval (C), pytrec_eval and ranx, reading included.

    git clone --branch v10.0 https://github.com/usnistgov/trec_eval te && make -C te CFLAGS='-O3 -I. -DVERSIONID=\\"10\\"'
    python -m venv VENV && VENV/bin/pip install -r benches/peers/requirements-metrics.txt
    cargo build --release
    VENV/bin/python benches/peers/metrics.py --polygrade target/release/polygrade --trec-eval te/trec_eval

A run of a million lines, 1,000 topics by 1,000 passages, with 100,000 judgments is made from a fixed seed. Each
round runs every program once, one after the other; what is shown is the median time of each and the median of
the rounds' ratios to Polygrade. All print values of every topic, which are compared first. pytrec_eval and ranx
run in a process that has imported them (and compiled, for ranx) before its clock starts.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKER = """
import sys, time
tool, qrels_file, run_file = sys.argv[1:]
if tool == "pytrec_eval":
    import pytrec_eval
    def once():
        with open(qrels_file) as f: qrels = pytrec_eval.parse_qrel(f)
        with open(run_file) as f: run = pytrec_eval.parse_run(f)
        values = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut.10", "P.10", "recip_rank"}).evaluate(run)
        return sum(v["ndcg_cut_10"] for v in values.values()) / len(values)
else:
    from ranx import Qrels, Run, evaluate
    def once(q=None, r=None):
        qrels, run = Qrels.from_file(q or qrels_file, kind="trec"), Run.from_file(r or run_file, kind="trec")
        return evaluate(qrels, run, ["map", "ndcg@10", "precision@10", "mrr"])["ndcg@10"]
    once(qrels_file + ".small", run_file + ".small")
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    value = once()
    print(time.perf_counter() - start, value, flush=True)
"""


def make(folder, topics, depth):
    """Writes the files, and small ones with which ranx compiles."""
    rng = random.Random(7)
    for name, n in (("", topics), (".small", 20)):
        with open(folder / f"qrels{name}", "w") as q, open(folder / f"run{name}", "w") as r:
            for topic in range(n):
                docs = rng.sample(range(8_841_823), depth + 50)
                judged = docs[:50] + rng.sample(docs[50:], 50)
                q.writelines(f"{topic} 0 doc{d:08d} {rng.choice([0, 0, 0, 1, 2, 3])}\n" for d in judged)
                scores = sorted((rng.gauss(20, 5) for _ in range(depth)), reverse=True)
                lines = zip(docs[:depth], scores)
                r.writelines(f"{topic} Q0 doc{d:08d} {i + 1} {s:.6f} bench\n" for i, (d, s) in enumerate(lines))


def timed(command):
    start = time.perf_counter()
    out = subprocess.run(command, capture_output=True, check=True).stdout
    return time.perf_counter() - start, out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--polygrade", type=Path, required=True)
    parser.add_argument("--trec-eval", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--python-rounds", type=int, default=3, help="rounds in which the slow ones take part")
    parser.add_argument("--topics", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder, args.topics, 1000)
        qrels, run = folder / "qrels", folder / "run"
        print(f"{run.stat().st_size / 1e6:.0f} MB, {args.topics * 1000} lines, {os.cpu_count()} cores")
        some = ["-m", "map", "-m", "ndcg_cut.10", "-m", "P.10", "-m", "recip_rank"]
        sets = {"official": ["-q"], "four measures": ["-q", *some], "all_trec": ["-q", "-m", "all_trec"]}
        for options in sets.values():
            ours = timed([args.polygrade, "trec-eval", *options, qrels, run])[1]
            assert ours == timed([args.trec_eval, *options, qrels, run])[1], options
        workers = {}
        for tool in ("pytrec_eval", "ranx"):
            command = [sys.executable, "-W", "ignore", "-c", WORKER, tool, qrels, run]
            workers[tool] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert workers[tool].stdout.readline().strip() == "ready", tool
        want = timed([args.polygrade, "trec-eval", "-m", "ndcg_cut.10", qrels, run])[1]
        want = float(want.split()[-1])
        times = {name: {} for name in sets}
        for round_ in range(args.rounds):
            for name, options in sets.items():
                row = times[name]
                row.setdefault("polygrade", []).append(timed([args.polygrade, "trec-eval", *options, qrels, run])[0])
                row.setdefault("trec_eval", []).append(timed([args.trec_eval, *options, qrels, run])[0])
                one = [args.polygrade, "--threads", "1", "trec-eval", *options, qrels, run]
                row.setdefault("polygrade, 1 thread", []).append(timed(one)[0])
            for tool, worker in workers.items():
                if round_ < args.python_rounds:
                    worker.stdin.write("go\n")
                    worker.stdin.flush()
                    seconds, value = map(float, worker.stdout.readline().split())
                    assert abs(value - want) < 1e-3 or tool == "ranx", (tool, value, want)
                    times["four measures"].setdefault(tool, []).append(seconds)
        for worker in workers.values():
            worker.stdin.close()
        for name, row in times.items():
            for tool, seconds in row.items():
                ratios = [s / p for s, p in zip(seconds, row["polygrade"])]
                print(f"{name:14} {tool:20} {statistics.median(seconds):7.3f} s  × {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
