#!/usr/bin/env python3
"""Proves that PEFT reads the adapters we train and gives the vectors that we give.

    cargo build --release -p polygrade-encoder --example lora_steps
    VENV/bin/pip install -r tools/requirements-encoder.txt
    VENV/bin/python tools/check_lora.py [--example PATH] [BASE:TARGET[,TARGET...] ...]

For each BASE, a model's folder (as a rule: fixtures of each architecture), the example trains an adapter for ten
steps on the TARGETs and saves it. Its vectors are compared with those of

  peft     the base in sentence-transformers, its transformer wrapped by PeftModel.from_pretrained
  merged   the same after merge_and_unload
  folder   the adapter's folder as sentence-transformers itself loads it
  base     the base without the adapter, which must differ

  theirs   the other way: a folder that sentence-transformers saves of the base with a random adapter

Besides, PEFT must find every tensor of the file in its place. One PASS or FAIL line each. Exit status: 0 when
nothing failed, 1 when a check did. Our reading of PEFT's own adapters is tests/lora.rs on the fixture `bert-lora`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "crates/polygrade-encoder/tests/fixtures/encoders"
CASES = [
    f"{FIXTURES / 'bert'}:query,value",
    f"{FIXTURES / 'bert'}:key,dense",
    f"{FIXTURES / 'xlm-roberta'}:query,intermediate.dense,output.dense",
    f"{FIXTURES / 'modernbert'}:Wqkv,Wo,Wi",
]


def load(folder: Path) -> SentenceTransformer:
    model = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    return model.float()


def run(example: Path, *arguments: object) -> tuple[list[str], np.ndarray]:
    command = [str(example), *map(str, arguments)]
    out = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return out["texts"], np.array(out["vectors"])


def check_case(example: Path, case: str, tolerance: float) -> int:
    base, targets = case.rsplit(":", 1)
    failed = 0

    def report(what: str, ok: bool, figures: str) -> None:
        nonlocal failed
        failed += not ok
        print(f"{'PASS' if ok else 'FAIL'} {Path(base).name} {targets}: {what:<7} {figures}", flush=True)

    with tempfile.TemporaryDirectory(prefix="check_lora.") as work:
        adapter = Path(work) / "adapter"
        # r = 3 and alpha = 7: a factor that is no power of two.
        texts, vectors = run(example, base, adapter, "3", "7", targets)

        def compare(what: str, model: SentenceTransformer) -> None:
            far = float(np.abs(model.encode(texts) - vectors).max())
            report(what, far < tolerance, f"max|diff| {far:.2e}")

        model = load(Path(base))
        far = float(np.abs(model.encode(texts) - vectors).max())
        report("base", far > 1e-3, f"max|diff| {far:.2e}")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model[0].model = PeftModel.from_pretrained(model[0].model, adapter)
        said = [str(w.message) for w in caught if "adapter" in str(w.message)]
        # "dense" means the pooler too, which vectors do not depend on and we have no adapter for.
        said = [message for message in said if "pooler.dense" not in message]
        written = load_file(adapter / "adapter_model.safetensors")
        held = get_peft_model_state_dict(model[0].model)
        lost = [n for n, v in written.items() if n not in held or not torch.equal(held[n], v)]
        idle = [n for n, v in held.items() if n not in written and "lora_B" in n and v.any()]
        report("tensors", not (lost or idle or said), f"{len(written) - len(lost)} of {len(written)}")
        for message in said:
            print(f"       {message}")
        compare("peft", model.eval())
        model[0].model = model[0].model.merge_and_unload()
        compare("merged", model)
        compare("folder", load(adapter))

        model = load(Path(base))
        config = LoraConfig(
            r=5, lora_alpha=3, use_rslora=True, lora_dropout=0.1, target_modules=targets.split(",")
        )
        # Not model.add_adapter, for which transformers 5.24 wants a later PEFT than the pinned one.
        model[0].model = get_peft_model(model[0].model, config)
        with torch.no_grad():
            for name, value in model[0].model.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(value, std=0.2)
        model.eval()
        model.save_pretrained(str(Path(work) / "theirs"), create_model_card=False)
        far = float(np.abs(model.encode(texts) - run(example, Path(work) / "theirs")[1]).max())
        report("theirs", far < tolerance, f"max|diff| {far:.2e}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--example", type=Path, default=target / "release/examples/lora_steps")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="max abs difference, exclusive (1e-5)")
    parser.add_argument("cases", nargs="*", metavar="BASE:TARGETS", default=CASES)
    args = parser.parse_args()
    if not args.example.is_file():
        parser.error(f"{args.example} is missing; build it with cargo, as --help says")
    for case in args.cases:
        if ":" not in case:
            parser.error(f"{case} has no targets; write BASE:TARGET[,TARGET...]")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    failed = sum(check_case(args.example, case, args.tolerance) for case in args.cases)
    print("all passed" if not failed else f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
