#!/usr/bin/env python3
"""Proves that a static embedding model is read alike by polygrade and by the Python libraries.

    check_static_layout.py --polygrade PATH_TO_BINARY --model DIR --texts FILE.jsonl

DIR is a static model that polygrade wrote. FILE.jsonl has one {"_id": ..., "text": ...} a line; texts
of this script's own (empty, many scripts, special tokens, a long one) are added to them. The binary's
contract is `polygrade encode MODEL INPUT.jsonl --out X.npy`: float32, [n, dim], in input order.

  a   DIR as sentence-transformers loads it
  b*  directories that sentence-transformers writes, with DIR's tokenizer and random weights:
      plain, with a Dense, the older releases' 0_StaticEmbedding layout, a tokenizer.json that
      itself truncates and pads
  c*  directories that model2vec writes, likewise: plain, with mapping and weights, with the
      default max_length on long texts; and DIR as model2vec loads it
  d*  (only with --extra) no Normalize, float16 weights

Every check compares polygrade's vectors with the library's own on the same directory and prints one
PASS, FAIL or SKIP line with figures. Exit status: 0 when nothing failed, 1 when a check did, 2 when
the arguments are wrong. Versions it was written against: requirements-static.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402

DENSE_OUT = 24
QUANTIZED_ROWS = 97

BUILTIN_TEXTS = [
    "",
    " ",
    "\t\n  ",
    "Hello world",
    "HELLO, World! Straße, naïve café, Ǆ İstanbul",
    "The quick brown fox jumps over the lazy dog 1234567890 times, at 3.14159 m/s.",
    "สวัสดีชาวโลก ประเทศไทยมีกรุงเทพมหานครเป็นเมืองหลวง",
    "नमस्ते दुनिया, भारत की राजधानी नई दिल्ली है।",
    "السلام عليكم، القاهرة هي عاصمة جمهورية مصر العربية.",
    "שלום עולם",
    "你好，世界。北京是中华人民共和国的首都。",
    "こんにちは世界、東京は日本の首都です。",
    "안녕하세요 세계",
    "Привет, мир! Γειά σου Κόσμε",
    "🎉 🚀 👩‍👩‍👧‍👦 🇹🇭 👍🏽",
    "mixed: café 你好 مرحبا สวัสดี नमस्ते 😀 end",
    "cafe\u0301 (decomposed) and caf\u00e9 (composed), \ufb01 ligature, \u212b \uff21\uff22",
    "zero\u200bwidth\u200d joiner \ufeffbom \u00a0nbsp \u00adsoft",
    "[CLS] special [SEP] tokens [UNK] [MASK] <s> </s> <unk> <pad> [PAD] <|endoftext|>",
    "\U000f0000\U000f0001 private use",
    "control \u0001\u0007\u001f characters",
    'quotes " and \\ backslashes and / slashes',
    "a" * 300,
    "supercalifragilisticexpialidocious" * 5,
    "token " * 160,
]

# More than model2vec's default 512 tokens, but not many thousands: the libraries add up in float32, one
# token after the other, and what they lose on tens of thousands of them would eat up the limit.
LONG_TEXTS = [
    " ".join(f"{word} {n}" for n in range(60) for word in ("one", "two", "three", "river", "mountain", "seven")),
    " ".join(f"internationalization {n} electroencephalographically" for n in range(120)),
    "".join(chr(0x4E00 + 7 * n) for n in range(900)),
    " ".join(f"สวัสดี{n} ชาวโลก" for n in range(150)),
    " ".join(f"नमस्ते {n} दुनिया" for n in range(200)),
    " ".join(chr(97 + n % 26) + chr(97 + n // 26 % 26) for n in range(700)),
    "short",
    "",
]


def cut_texts(vocab: list[str]) -> list[str]:
    """Texts of few tokens for their characters: model2vec's cut by characters comes before that by tokens."""
    median = int(np.median([len(token) for token in vocab]))
    words = sorted({word for token in vocab if (word := token.strip("#\u2581\u0120")).isascii() and word.isalpha()})
    words.sort(key=len, reverse=True)
    return [
        "river " + " " * (512 * median) + " mountain",
        " ".join(words[:700]),
        "x" * (512 * median + 600) + " mountain",
    ]


# ---------------------------------------------------------------- helpers


class Skip(Exception):
    """The check does not apply here."""


def read_texts(path: Path, limit: int | None) -> list[tuple[str, str]]:
    rows = []
    with open(path, encoding="utf-8") as fh:
        for number, line in enumerate(fh, 1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row.get("text"), str):
                raise ValueError(f"{path}:{number}: no string field 'text'")
            rows.append((str(row.get("_id", number)), row["text"]))
            if limit is not None and len(rows) >= limit:
                break
    return rows


def write_texts(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as fh:
        for _id, text in rows:
            fh.write(json.dumps({"_id": _id, "text": text}, ensure_ascii=False) + "\n")


def edit_json(path: Path, change) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


class Corpus:
    def __init__(self, name: str, rows: list[tuple[str, str]], folder: Path) -> None:
        self.rows = rows
        self.texts = [text for _, text in rows]
        self.path = folder / f"{name}.jsonl"
        write_texts(self.path, rows)


class Bench:
    """What all the checks share."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.model = args.model
        self.tokenizer_path = find_tokenizer(args.model)
        builtin = [(f"builtin-{i}", text) for i, text in enumerate(BUILTIN_TEXTS)]
        self.corpus = Corpus("texts", builtin + read_texts(args.texts, args.limit), work)
        vocab = self.tokenizer().get_vocab(with_added_tokens=True)
        self.long_corpus = Corpus("long", [(f"long-{i}", t) for i, t in enumerate(LONG_TEXTS)], work)
        cut = [(f"cut-{i}", t) for i, t in enumerate(cut_texts(list(vocab)))]
        self.cut_corpus = Corpus("cut", self.long_corpus.rows + cut, work)
        self.vocab_len = len(vocab)
        self.rows_needed = max(vocab.values()) + 1
        rng = np.random.default_rng(args.seed)
        # Rows of unlike length, so that a dropped or an added token shows after normalization too.
        self.weights = rng.standard_normal((self.rows_needed, args.dim), dtype=np.float32)
        self.weights *= rng.uniform(0.2, 3.0, (self.rows_needed, 1)).astype(np.float32)
        self.rng = rng

    def tokenizer(self):
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.tokenizer_path))

    def folder(self, name: str) -> Path:
        path = self.work / name
        path.mkdir()
        return path

    def polygrade(self, model: Path, corpus: Corpus, name: str) -> np.ndarray:
        out = self.work / f"{name}.npy"
        command = [str(self.args.polygrade), "encode", str(model), str(corpus.path), "--out", str(out)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=self.args.timeout
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"polygrade took over {self.args.timeout} s") from None
        if done.returncode != 0:
            tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
            raise RuntimeError(f"polygrade exited with {done.returncode}: {tail}")
        if not out.is_file():
            raise RuntimeError(f"polygrade exited with 0 but wrote no {out}")
        got = np.load(out, allow_pickle=False)
        if got.dtype != np.dtype("<f4"):
            raise RuntimeError(f"the .npy holds {got.dtype.str}, not <f4")
        if got.ndim != 2 or got.shape[0] != len(corpus.rows):
            raise RuntimeError(f"the .npy has shape {got.shape}, not ({len(corpus.rows)}, dim)")
        return got

    def unknown_ids(self, corpus: Corpus) -> list[int]:
        """How many unknown tokens each text has: model2vec drops them, sentence-transformers does not."""
        tokenizer = self.tokenizer()
        unk = unk_id(tokenizer)
        if unk is None:
            return [0] * len(corpus.rows)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        found = tokenizer.encode_batch(corpus.texts, add_special_tokens=False)
        return [encoding.ids.count(unk) for encoding in found]


def find_tokenizer(model: Path) -> Path:
    for relative in ("tokenizer.json", "0_StaticEmbedding/tokenizer.json"):
        if (model / relative).is_file():
            return model / relative
    raise FileNotFoundError(f"no tokenizer.json in {model} or {model}/0_StaticEmbedding")


def unk_id(tokenizer) -> int | None:
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_token") is not None:
        return tokenizer.token_to_id(model["unk_token"])
    return model.get("unk_id")


def compare(bench: Bench, got: np.ndarray, want: np.ndarray, corpus: Corpus, tolerance: float, half: bool = False):
    """(passed, figures, hints); differences are absolute, of vectors longer than 1 relative to their length"""
    want = np.asarray(want, dtype=np.float64)
    if got.shape != want.shape:
        return False, f"shapes differ: polygrade {got.shape}, library {want.shape}", []
    finite = np.isfinite(want).all(axis=1)
    if not finite.all() and not half:
        hint = ["sentence-transformers gives NaN for a text without tokens when the weights are float16: store float32"]
        return False, f"{int((~finite).sum())} of the library's own vectors are not finite", hint
    if not np.isfinite(got).all():
        return False, f"{int((~np.isfinite(got).all(axis=1)).sum())} of polygrade's vectors are not finite", []
    want = np.where(finite[:, None], want, got)
    rows = np.abs(got.astype(np.float64) - want).max(axis=1, initial=0.0)
    rows /= np.maximum(1.0, np.linalg.norm(want, axis=1))
    worst = float(rows.max(initial=0.0))
    zeros = int((np.abs(want).max(axis=1, initial=0.0) == 0).sum())
    figures = (
        f"max|diff| {worst:.3e} (limit {tolerance:.0e}), {got.shape[0]} texts x {got.shape[1]}, {zeros} zero vectors"
    )
    if not finite.all():
        figures += f", {int((~finite).sum())} of the library's NaN and left out"
    if worst < tolerance:
        return True, figures, []
    unknown = bench.unknown_ids(corpus)
    bad = np.flatnonzero(~(rows < tolerance))
    with_unk = sum(1 for i in bad if unknown[i])
    hints = [f"{len(bad)} texts differ, {with_unk} of them hold unknown tokens"]
    for i in bad[np.argsort(-rows[bad])][:5]:
        _id, text = corpus.rows[i]
        hints.append(
            f"{_id}: diff {rows[i]:.3e}, |polygrade| {np.linalg.norm(got[i]):.4f}, |library| {np.linalg.norm(want[i]):.4f}, "
            f"{len(text)} characters, {unknown[i]} unknown: {text[:50]!r}"
        )
    return False, figures, hints


# ---------------------------------------------------------------- libraries


def st_modules():
    try:
        from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
    except ImportError:  # before 5.x moved them
        from sentence_transformers.models import Dense, Normalize, StaticEmbedding
    return StaticEmbedding, Dense, Normalize


def st_encode(model: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(model), device="cpu", local_files_only=True)
    return loaded.encode(texts, batch_size=64, show_progress_bar=False, convert_to_numpy=True)


def st_save(bench: Bench, folder: Path, dense: bool = False, normalize: bool = True, dtype=np.float32) -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    StaticEmbedding, Dense, Normalize = st_modules()
    modules = [StaticEmbedding(bench.tokenizer(), embedding_weights=bench.weights.astype(dtype))]
    if dense:
        init = torch.from_numpy(
            bench.rng.standard_normal((DENSE_OUT, bench.args.dim), dtype=np.float32) / bench.args.dim**0.5
        )
        modules.append(
            Dense(
                bench.args.dim,
                DENSE_OUT,
                bias=False,
                activation_function=torch.nn.Identity(),
                init_weight=init,
            )
        )
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)


def m2v_encode(model: Path, texts: list[str], **load) -> np.ndarray:
    from model2vec import StaticModel

    return StaticModel.from_pretrained(str(model), **load).encode(texts, use_multiprocessing=False)


def m2v_save(bench: Bench, folder: Path, vectors=None, normalize: bool = True, **kwargs) -> None:
    from model2vec import StaticModel

    if bench.rows_needed != bench.vocab_len:
        raise Skip(f"model2vec wants ids without gaps: {bench.vocab_len} tokens, highest id {bench.rows_needed - 1}")
    vectors = bench.weights if vectors is None else vectors
    StaticModel(vectors, bench.tokenizer(), normalize=normalize, **kwargs).save_pretrained(str(folder))


# ---------------------------------------------------------------- checks
# Each gives (polygrade's vectors, the library's, the corpus, hints for a failure).


def check_a(bench: Bench):
    got = bench.polygrade(bench.model, bench.corpus, "a")
    return got, st_encode(bench.model, bench.corpus.texts), bench.corpus


def check_b_plain(bench: Bench):
    folder = bench.folder("b1")
    st_save(bench, folder)
    return bench.polygrade(folder, bench.corpus, "b1"), st_encode(folder, bench.corpus.texts), bench.corpus


def check_b_dense(bench: Bench):
    folder = bench.folder("b2")
    st_save(bench, folder, dense=True)
    return bench.polygrade(folder, bench.corpus, "b2"), st_encode(folder, bench.corpus.texts), bench.corpus


def check_b_legacy(bench: Bench):
    """As the 3.x releases save it: weights in 0_StaticEmbedding, old class paths, an empty Normalize folder."""
    folder = bench.folder("b3")
    st_save(bench, folder, dense=True)
    sub = folder / "0_StaticEmbedding"
    sub.mkdir(exist_ok=True)
    for name in ("model.safetensors", "tokenizer.json"):
        if (folder / name).is_file():
            shutil.move(folder / name, sub / name)
    types = ["StaticEmbedding", "Dense", "Normalize"]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": i, "name": str(i), "path": f"{i}_{kind}", "type": f"sentence_transformers.models.{kind}"}
                for i, kind in enumerate(types)
            ],
            indent=2,
        )
    )
    (folder / "2_Normalize" / "config.json").unlink(missing_ok=True)
    edit_json(
        folder / "1_Dense" / "config.json",
        lambda c: [c.pop(key, None) for key in ("module_input_name", "module_output_name")],
    )
    edit_json(folder / "config_sentence_transformers.json", lambda c: c.pop("model_type", None))
    return bench.polygrade(folder, bench.corpus, "b3"), st_encode(folder, bench.corpus.texts), bench.corpus


def check_b_tokenizer(bench: Bench):
    """The tokenizer.json's own truncation holds in sentence-transformers, its padding does not."""
    folder = bench.folder("b4")
    st_save(bench, folder)
    tokenizer = bench.tokenizer()
    tokenizer.enable_truncation(max_length=12)
    tokenizer.enable_padding(length=32, pad_id=0)
    tokenizer.save(str(folder / "tokenizer.json"))
    return bench.polygrade(folder, bench.corpus, "b4"), st_encode(folder, bench.corpus.texts), bench.corpus


def check_c_plain(bench: Bench):
    folder = bench.folder("c1")
    m2v_save(bench, folder)
    return bench.polygrade(folder, bench.corpus, "c1"), m2v_encode(folder, bench.corpus.texts), bench.corpus


def quantized(bench: Bench, mapping_dtype, weight_dtype) -> dict:
    mapping = bench.rng.integers(0, QUANTIZED_ROWS, bench.rows_needed).astype(mapping_dtype)
    weights = bench.rng.uniform(0.1, 4.0, bench.rows_needed).astype(weight_dtype)
    return {"vectors": bench.weights[:QUANTIZED_ROWS], "token_mapping": mapping, "weights": weights}


def check_c_mapping(bench: Bench):
    folder = bench.folder("c2")
    m2v_save(bench, folder, **quantized(bench, np.int32, np.float32))
    return bench.polygrade(folder, bench.corpus, "c2"), m2v_encode(folder, bench.corpus.texts), bench.corpus


def check_c_mapping_wide(bench: Bench):
    folder = bench.folder("c3")
    m2v_save(bench, folder, **quantized(bench, np.int64, np.float64))
    return bench.polygrade(folder, bench.corpus, "c3"), m2v_encode(folder, bench.corpus.texts), bench.corpus


def check_c_weights(bench: Bench):
    folder = bench.folder("c4")
    m2v_save(bench, folder, weights=quantized(bench, np.int64, np.float32)["weights"])
    return bench.polygrade(folder, bench.corpus, "c4"), m2v_encode(folder, bench.corpus.texts), bench.corpus


def check_c_long(bench: Bench):
    """model2vec cuts a text to max_length * median token length characters, then to max_length tokens."""
    folder = bench.folder("c5")
    m2v_save(bench, folder)
    corpus = bench.cut_corpus
    return bench.polygrade(folder, corpus, "c5"), m2v_encode(folder, corpus.texts), corpus


def check_c_load(bench: Bench):
    modules = json.loads((bench.model / "modules.json").read_text(encoding="utf-8"))
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if "Dense" in kinds:
        raise Skip("DIR has a Dense, which model2vec does not apply (fold it into embedding.weight instead)")
    corpus = Corpus("all", bench.corpus.rows + bench.long_corpus.rows, bench.work)
    got = bench.polygrade(bench.model, corpus, "c6")
    want = m2v_encode(bench.model, corpus.texts)
    hints = []
    whole = m2v_encode(bench.model, corpus.texts, normalize="Normalize" in kinds, max_length=None)
    if got.shape == whole.shape:
        hints.append(
            "with normalize as in modules.json and max_length=None given by hand max|diff| is "
            f"{np.abs(got.astype(np.float64) - whole).max(initial=0.0):.3e}; model2vec reads both from "
            "config_sentence_transformers.json (\"normalize\": true, \"max_length\": null)"
        )
    hints.append("model2vec drops unknown tokens: an all-zero unk row gives the same direction in both")
    return got, want, corpus, hints


def check_d_st_plain(bench: Bench):
    folder = bench.folder("d1")
    st_save(bench, folder, normalize=False)
    return bench.polygrade(folder, bench.corpus, "d1"), st_encode(folder, bench.corpus.texts), bench.corpus


def check_d_m2v_plain(bench: Bench):
    folder = bench.folder("d2")
    m2v_save(bench, folder, normalize=False)
    return bench.polygrade(folder, bench.corpus, "d2"), m2v_encode(folder, bench.corpus.texts), bench.corpus


def check_d_st_half(bench: Bench):
    folder = bench.folder("d3")
    st_save(bench, folder, dtype=np.float16)
    return bench.polygrade(folder, bench.corpus, "d3"), st_encode(folder, bench.corpus.texts), bench.corpus


def check_d_m2v_half(bench: Bench):
    folder = bench.folder("d4")
    m2v_save(bench, folder, vectors=bench.weights.astype(np.float16))
    return bench.polygrade(folder, bench.corpus, "d4"), m2v_encode(folder, bench.corpus.texts), bench.corpus


# The libraries round to float16 on the way, so the limit has to allow for that there. Besides, on float16
# sentence-transformers divides a zero vector by an epsilon that is 0 in float16: NaN, left out.
HALF = 4e-3

CHECKS = [
    ("a", "DIR in sentence-transformers", check_a, None),
    ("b1", "sentence-transformers: StaticEmbedding + Normalize", check_b_plain, None),
    ("b2", "sentence-transformers: StaticEmbedding + Dense + Normalize", check_b_dense, None),
    ("b3", "sentence-transformers: older 0_StaticEmbedding layout", check_b_legacy, None),
    ("b4", "sentence-transformers: tokenizer.json truncates and pads", check_b_tokenizer, None),
    ("c1", "model2vec: embeddings", check_c_plain, None),
    ("c2", "model2vec: mapping i32 + weights f32", check_c_mapping, None),
    ("c3", "model2vec: mapping i64 + weights f64", check_c_mapping_wide, None),
    ("c4", "model2vec: weights alone", check_c_weights, None),
    ("c5", "model2vec: long texts cut at max_length", check_c_long, None),
    ("c6", "DIR in model2vec", check_c_load, None),
]
EXTRA_CHECKS = [
    ("d1", "sentence-transformers: no Normalize", check_d_st_plain, None),
    ("d2", "model2vec: normalize=False", check_d_m2v_plain, None),
    ("d3", "sentence-transformers: float16", check_d_st_half, HALF),
    ("d4", "model2vec: float16", check_d_m2v_half, HALF),
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--polygrade", type=Path, required=True, help="the polygrade binary")
    parser.add_argument("--model", type=Path, required=True, help="a static model directory written by polygrade")
    parser.add_argument("--texts", type=Path, required=True, help="jsonl with _id and text")
    parser.add_argument("--extra", action="store_true", help="run the d checks too")
    parser.add_argument("--only", help="comma-separated check names, for example a,b2")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="max abs difference, exclusive (1e-5)")
    parser.add_argument("--dim", type=int, default=48, help="dimension of the random models (48)")
    parser.add_argument("--seed", type=int, default=20240)
    parser.add_argument("--limit", type=int, help="use only the first N texts of FILE")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one polygrade call (300)")
    parser.add_argument("--keep", type=Path, help="keep the written models here (must not exist)")
    args = parser.parse_args()

    args.polygrade = args.polygrade.absolute()
    if not os.access(args.polygrade, os.X_OK) or not args.polygrade.is_file():
        parser.error(f"{args.polygrade} is not an executable file")
    if not (args.model / "modules.json").is_file():
        parser.error(f"{args.model} has no modules.json")
    if not args.texts.is_file():
        parser.error(f"{args.texts} is not a file")
    checks = CHECKS + (EXTRA_CHECKS if args.extra else [])
    if args.only:
        wanted = {name.strip() for name in args.only.split(",")}
        if unknown := wanted - {name for name, *_ in CHECKS + EXTRA_CHECKS}:
            parser.error(f"no such check: {', '.join(sorted(unknown))}")
        checks = [check for check in CHECKS + EXTRA_CHECKS if check[0] in wanted]

    import model2vec
    import sentence_transformers
    import tokenizers
    import torch
    import transformers

    torch.set_num_threads(min(2, torch.get_num_threads()))
    transformers.utils.logging.set_verbosity_error()
    print(
        f"sentence-transformers {sentence_transformers.__version__}, model2vec {model2vec.__version__}, "
        f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
        flush=True,
    )

    if args.keep:
        try:
            args.keep.mkdir(parents=True)
        except FileExistsError:
            parser.error(f"{args.keep} is already there")
        work = args.keep.absolute()
    else:
        work = Path(tempfile.mkdtemp(prefix="check_static_layout."))
    passed = failed = skipped = 0
    try:
        try:
            bench = Bench(args, work)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        unknown = sum(1 for count in bench.unknown_ids(bench.corpus) if count)
        print(
            f"{len(bench.corpus.rows)} texts ({len(BUILTIN_TEXTS)} of them built in), {unknown} with unknown tokens; "
            f"tokenizer of {bench.vocab_len} tokens",
            flush=True,
        )
        for name, title, function, limit in checks:
            try:
                got, want, corpus, *rest = function(bench)
                ok, figures, hints = compare(
                    bench, got, want, corpus, limit or args.tolerance, half=limit is HALF
                )
                hints += rest[0] if rest and not ok else []
            except Skip as reason:
                skipped += 1
                print(f"SKIP {name:<3} {title}: {reason}", flush=True)
                continue
            except RuntimeError as error:
                ok, figures, hints = False, str(error), []
            except Exception as error:
                ok, figures = False, f"{type(error).__name__}: {error}"
                hints = traceback.format_exc().strip().splitlines()[-4:-1]
            passed += ok
            failed += not ok
            print(f"{'PASS' if ok else 'FAIL'} {name:<3} {title}: {figures}", flush=True)
            for hint in hints:
                print(f"       {hint}", flush=True)
    finally:
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
