#!/usr/bin/env python3
"""Times the encoding of texts by one static model: polygrade against sentence-transformers and model2vec.

    static_encode.py --polygrade PATH_TO_BINARY --model DIR [--corpus FILE.jsonl] [--texts N] [--repetitions N]

What    `polygrade encode`, SentenceTransformer(DIR).encode(texts, batch_size=256) and
        StaticModel.from_pretrained(DIR).encode(texts), each with its own defaults otherwise, on the CPU,
        with all cores that the process may use. DIR is a static model that polygrade wrote; with a Dense in
        it model2vec is left out, as it does not apply one.
Corpus  collections/mini/corpus.jsonl (7200 passages, ten languages), over and over, up to N lines (72,000).
How     Each repetition runs every system once, in a fresh process, in an order that turns by one each time;
        reported are medians over the repetitions. Timed is load of the model + reading the jsonl + encoding
        + writing the .npy: of polygrade the whole process, from start to exit; of the Python libraries both
        the whole process and the work without the start of Python and the imports ("work"), which is the
        kinder figure. CPU time is user + system of the process, peak memory its ru_maxrss. One untimed run
        of each comes first, so that all find the files in the page cache. At the end the vectors are
        compared: on each text of the corpus once, absolute differences.
Noise   A repetition starts when other processes take under --max-other cores, and is repeated whole when
        they took more during any of its runs, whatever its times. After --patience seconds repetitions
        count all the same; how many were repeated and how many were disturbed is printed.

Versions: tools/requirements-static.txt. Exit status: 0 when the vectors agree, 1 when they do not.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BATCH = 256
AGREE = 1e-5


def child(system: str, model: str, texts_path: str, out: str) -> None:
    """Runs in a process of its own; prints the seconds from after the imports to the end."""
    import numpy as np

    if system == "sentence-transformers":
        from sentence_transformers import SentenceTransformer
    else:
        from model2vec import StaticModel
    start = time.perf_counter()
    if system == "sentence-transformers":
        loaded = SentenceTransformer(model, device="cpu", local_files_only=True)
    else:
        loaded = StaticModel.from_pretrained(model)
    with open(texts_path, encoding="utf-8") as fh:
        texts = [json.loads(line)["text"] for line in fh]
    if system == "sentence-transformers":
        vectors = loaded.encode(texts, batch_size=BATCH, show_progress_bar=False)
    else:
        vectors = loaded.encode(texts)
    np.save(out, vectors)
    print(f"seconds {time.perf_counter() - start:.6f}")


def machine_busy() -> float:
    """CPU seconds that the whole machine has worked, for itself or for other guests of its host."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def run(command: list[str]) -> tuple[dict, str]:
    """Figures of the process (wall and CPU seconds, peak MiB, cores that others took) and what it printed."""
    busy = machine_busy()
    start = time.perf_counter()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    if process.returncode:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}:\n{text[-2000:]}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    other = max(0.0, machine_busy() - busy - cpu_seconds) / seconds
    return {"process": seconds, "cpu": cpu_seconds, "mib": usage.ru_maxrss / 1024, "other": other}, text


def wait_for_quiet(cores: float, until: float) -> None:
    while time.monotonic() < until:
        busy = machine_busy()
        time.sleep(3)
        if (machine_busy() - busy) / 3 <= cores:
            return


def repeat_corpus(corpus: Path, lines: int, path: Path) -> int:
    """Writes the corpus over and over; gives the number of lines before it repeats."""
    with open(corpus, encoding="utf-8") as fh:
        rows = [json.loads(line) for line in fh if line.strip()]
    with open(path, "w", encoding="utf-8", newline="\n") as fh:
        for i in range(lines):
            row = rows[i % len(rows)]
            row = {"_id": f"{row['_id']}#{i // len(rows)}", "text": row["text"]}
            fh.write(json.dumps(row, ensure_ascii=False) + "\n")
    return min(lines, len(rows))


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygrade", type=Path, default=ROOT / "target/release/polygrade")
    parser.add_argument("--model", type=Path, required=True, help="a static model directory written by polygrade")
    parser.add_argument("--corpus", type=Path, default=ROOT / "collections/mini/corpus.jsonl")
    parser.add_argument("--texts", type=int, default=72_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--max-other", type=float, default=0.2, help="cores that others may take (0.2)")
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds to insist on a quiet machine (1800)")
    parser.add_argument("--json", type=Path, help="write every measurement here too")
    args = parser.parse_args()
    if args.texts < 1 or args.repetitions < 1:
        parser.error("--texts and --repetitions are at least 1")

    os.environ["HF_HUB_OFFLINE"] = "1"
    modules = json.loads((args.model / "modules.json").read_text(encoding="utf-8"))
    systems = ["polygrade", "sentence-transformers", "model2vec"]
    if any(module["type"].endswith(".Dense") for module in modules):
        systems.remove("model2vec")

    with tempfile.TemporaryDirectory(prefix="static_encode.") as folder:
        work = Path(folder)
        texts = work / "texts.jsonl"
        distinct = repeat_corpus(args.corpus, args.texts, texts)

        def command(system: str) -> list[str]:
            out = str(work / f"{system}.npy")
            if system == "polygrade":
                return [str(args.polygrade), "encode", str(args.model), str(texts), "--out", out, "--quiet"]
            return [sys.executable, __file__, "--child", system, str(args.model), str(texts), out]

        versions = " ".join(f"{n} {importlib.metadata.version(n)}" for n in ("sentence-transformers", "model2vec", "torch"))
        print(f"{run([str(args.polygrade), '--version'])[1].strip()}, {versions}, Python {sys.version.split()[0]}")
        print(f"{cpu()}, {len(os.sched_getaffinity(0))} cores; {args.texts} texts, {texts.stat().st_size / 1e6:.1f} MB")
        for system in systems:
            run(command(system))
        measured: dict[str, list[dict]] = {system: [] for system in systems}
        repeated = []
        disturbed = 0
        patience_ends = time.monotonic() + args.patience
        while len(measured[systems[0]]) < args.repetitions:
            done = len(measured[systems[0]])
            wait_for_quiet(args.max_other, patience_ends)
            turn = done % len(systems)
            figures = {}
            for system in systems[turn:] + systems[:turn]:
                row, printed = run(command(system))
                row["work"] = row["process"] if system == "polygrade" else float(printed.rsplit("seconds ", 1)[1])
                figures[system] = row
                print(
                    f"  {done + 1} {system:<22} {row['process']:7.2f} s, work {row['work']:7.2f} s, "
                    f"CPU {row['cpu']:7.2f} s, others {row['other']:.2f} cores",
                    flush=True,
                )
                if row["other"] > args.max_other and time.monotonic() < patience_ends:
                    break
            noisy = any(row["other"] > args.max_other for row in figures.values())
            if len(figures) < len(systems) or (noisy and time.monotonic() < patience_ends):
                print("    disturbed: repeated", flush=True)
                repeated.append(figures)
                continue
            disturbed += noisy
            for system in systems:
                measured[system].append(figures[system])
        print(f"{args.repetitions} repetitions, {disturbed} of them disturbed; {len(repeated)} others were repeated")

        def median(system: str, key: str) -> float:
            return statistics.median(m[key] for m in measured[system])

        print(f"{'':<24}{'texts/s':>10}{'(process)':>11}{'work s':>9}{'min':>8}{'max':>8}{'process s':>11}{'CPU s':>8}{'peak MiB':>10}")
        for system in systems:
            w, p = median(system, "work"), median(system, "process")
            all_work = [m["work"] for m in measured[system]]
            print(
                f"{system:<24}{args.texts / w:>10.0f}{args.texts / p:>11.0f}{w:>9.2f}{min(all_work):>8.2f}"
                f"{max(all_work):>8.2f}{p:>11.2f}{median(system, 'cpu'):>8.2f}{median(system, 'mib'):>10.0f}"
            )
        for system in systems[1:]:
            for key in ("work", "process"):
                ratio = median(system, key) / median("polygrade", "process")
                print(f"polygrade is {ratio:.2f} times as fast as {system} ({key})")
            print(f"{system} takes {median(system, 'cpu') / median('polygrade', 'cpu'):.2f} times the CPU time")
        if args.json:
            args.json.write_text(json.dumps({"texts": args.texts, "measured": measured, "repeated": repeated}, indent=1) + "\n")

        import numpy as np

        vectors = {s: np.load(work / f"{s}.npy", mmap_mode="r") for s in systems}
        agree = True
        for system in systems[1:]:
            ours, theirs = vectors["polygrade"], vectors[system]
            if ours.shape != theirs.shape:
                print(f"DIFFER {system}: shapes {ours.shape} and {theirs.shape}")
                agree = False
                continue
            worst = float(np.abs(ours[:distinct] - theirs[:distinct]).max())
            agree &= worst < AGREE
            print(f"{'agree' if worst < AGREE else 'DIFFER'} {system}: max|diff| {worst:.2e} on {distinct} texts")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
