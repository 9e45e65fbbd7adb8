"""Random runs and judgments, on which `polygrade trec-eval` must print what the program trec_eval prints.

    git clone --branch v10.0 https://github.com/usnistgov/trec_eval te10
    sed -i 's/double sum, min, max;/double sum, min = 0, max = 0;/' te10/m_rbp.c && make -C te10
    git clone --branch v9.0.8 https://github.com/usnistgov/trec_eval te9 && make -C te9
    python tools/check_trec_eval.py --polygrade target/release/polygrade --v10 te10/trec_eval --v9 te9/trec_eval

Needs Python alone. Pairs are made from a fixed seed: ties, negative grades, wide scales, missing and surplus
topics, huge, tiny and infinite scores, long ids, lines in any order. Each pair has options of its own. With
`--fixture FILE` the first pairs are written as one JSON object a line, with what trec_eval printed; that is
how crates/polygrade-eval/tests/fixtures/trec_eval_random.jsonl.gz was made.

Three faults of trec_eval are stepped around. Its measure rbp reads two numbers that nobody set, whence the
`sed` above, which sets them to 0. Version 10 stops with exit code 4 where a judged topic is not in the run and
-c is not given; such a pair is run by it with the topic's judgments taken out, which is what its help says it
does. Both versions stop, crash or take the last topic's counts where a topic's grades are all negative; each
topic here has another grade.
"""

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SCORES = {
    "ranks": lambda r: str(r.randint(0, 30)),
    "real": lambda r: repr(r.gauss(0, 10)),
    "close": lambda r: repr(1 + r.randint(0, 9) * 1e-9),
    "huge": lambda r: r.choice(["1e300", "-1e300", "1e38", "4e38", "inf", "-inf", "1e39", repr(r.random())]),
    "tiny": lambda r: r.choice(["1e-310", "-1e-310", "0", "-0.0", "1e-46", "2e-46", "5e-324"]),
}
GRADES = {
    "binary": [0, 1],
    "graded": [0, 1, 2, 3],
    "sampled": [-1, -1, 0, 1],
    "negative": [-2, -1, 0, 0, 1, 2],
    "wide": [0, 1, 5, 20],
    "none": [0],
}
PARAMETERS = [
    [],
    ["-m", "ndcg.1=3,2=9,4=4.5"],
    ["-m", "ndcg.1=0.5,2=0.7,3=0.2", "-m", "G.0=0.3,1=1.2"],
    ["-m", "Rndcg.2=-1,3=7", "-m", "ndcg_rel.-1=2,1=1"],
    ["-m", "P.1,3,7", "-m", "iprec_at_recall.0,.33,.5,1", "-m", "relstring.4"],
    ["-m", "utility.2,-1,0.5,0.1", "-N", "100", "-m", "set_F.3.5", "-m", "Rprec_mult.0,.5,3"],
]
PARAMETERS_10 = [["-m", "rbp.p=0.5,1=0.3,2=1", "-m", "rbp_resid.p=0.5"], ["-m", "dcg", "-m", "ideal_dcg"], ["-m", "yaap"]]


def pair(seed):
    """A pair of files, as texts, and options."""
    r = random.Random(seed)
    topics = [r.choice(["", "q", "topic-", "é"]) + str(i) for i in range(r.randint(1, 6))]
    score, grade = r.choice(sorted(SCORES)), r.choice(sorted(GRADES))
    length = r.choice([4, 4, 60, 300])
    pool = [f"d{i}".ljust(r.randint(2, length), r.choice("xyZ-_é")) for i in range(r.choice([3, 15, 60, 300]))]
    pool = sorted(set(pool))
    qrels, run = [], []
    for topic in topics:
        kind = r.random()
        if kind > 0.12:
            some = r.sample(pool, r.randint(1, min(len(pool), 80)))
            qrels += [(topic, "0", d, str(r.choice(GRADES[grade]))) for d in some]
        if kind < 0.08 or kind > 0.2:
            some = r.sample(pool, r.randint(1, len(pool)))
            run += [(topic, "Q0", d, str(i), SCORES[score](r), "tag") for i, d in enumerate(some)]
    lowest = {topic: max(int(g) for t, _, _, g in qrels if t == topic) for topic, *_ in qrels}
    for i, (topic, iteration, d, _) in enumerate(qrels):
        if lowest[topic] < 0:
            qrels[i] = (topic, iteration, d, "0")
            lowest[topic] = 0
    r.shuffle(qrels), r.shuffle(run)
    options = ["-q"]
    for option, chance in [("-c", 0.3), ("-n", 0.05)]:
        options += [option] if r.random() < chance else []
    # Without any judged passage left trec_eval prints 0/0.
    options += ["-J"] if r.random() < 0.15 else []
    options += ["-M" + str(r.choice([1, 5, 100]))] if r.random() < 0.2 else []
    options += ["-l" + str(r.choice([0, 2, 3]))] if r.random() < 0.3 else []
    return qrels, run, options, r.randrange(10**6)


def text(rows, sep):
    return "".join(sep.join(row) + "\n" for row in rows)


def call(command):
    done = subprocess.run(command, capture_output=True)
    return done.returncode, done.stdout.decode(errors="surrogateescape")


def differs(ours, theirs):
    for a, b in zip(ours.splitlines(), theirs.splitlines()):
        if a != b:
            return f"{a!r} where trec_eval has {b!r}"
    return "lengths" if ours != theirs else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--polygrade", type=Path, required=True)
    parser.add_argument("--v10", type=Path, required=True, help="the program trec_eval, version 10")
    parser.add_argument("--v9", type=Path, help="the program trec_eval, version 9")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--fixture", type=Path, help="write the first pairs there")
    parser.add_argument("--kept", type=int, default=40, help="how many")
    args = parser.parse_args()
    bad, lines, kept, empty = 0, 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("qrels", "run", "judged")}
        for seed in range(args.first, args.first + args.pairs):
            qrels, run, options, choice = pair(seed)
            if not qrels or not run:
                empty += 1
                continue
            retrieved = {row[0] for row in run}
            files["qrels"].write_text(text(qrels, " "))
            files["run"].write_text(text(run, "\t"))
            files["judged"].write_text(text([row for row in qrels if row[0] in retrieved], " "))
            for version, program in (("10", args.v10), ("9", args.v9)):
                if program is None:
                    continue
                more = PARAMETERS + (PARAMETERS_10 if version == "10" else [])
                # The pair's own parameters come first: the first of a measure count.
                asked = options + more[choice % len(more)] + ["-m", "all_trec"]
                whole = version == "9" or "-c" in options
                judged = files["qrels"] if whole else files["judged"]
                code, theirs = call([program, *asked, judged, files["run"]])
                ours_code, ours = call(
                    [args.polygrade, "--quiet", "trec-eval", "--compat", version, *asked, files["qrels"], files["run"]]
                )
                if code != 0 or ours_code != 0:
                    # Nothing in common is an error for both.
                    if (code != 0) != (ours_code != 0):
                        bad += 1
                        print(f"seed {seed}, version {version}: exit codes {ours_code} and {code}", asked)
                    continue
                lines += ours.count("\n")
                difference = differs(ours, theirs)
                if difference:
                    bad += 1
                    print(f"seed {seed}, version {version}, {' '.join(asked)}: {difference}")
                if args.fixture and len(kept) < args.kept and len(text(run, " ")) < 8000 and theirs:
                    judged = text(qrels, " ")
                    kept.append({"seed": seed, "version": version, "options": asked, "qrels": judged,
                                 "run": text(run, "\t"), "expected": theirs})
    if args.fixture:
        lines_kept = "".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept)
        args.fixture.write_bytes(gzip.compress(lines_kept.encode(), mtime=0))
    print(f"{args.pairs} pairs ({empty} empty), {lines} lines compared, {bad} runs differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
