#!/usr/bin/env python3
"""Make crates/polygrade-train/tests/fixtures/align.json: values and gradients of the alignment losses by PyTorch.

    python -m venv VENV
    VENV/bin/pip install -r tools/requirements-encoder.txt
    VENV/bin/python tools/make_align_fixtures.py

Vectors are given before they are scaled to unit length, and gradients are at those, in f64. CLEAR is computed as the
class CLEARLoss of github.com/dltmddbs100/CLEAR does it (sum of two cross-entropies and F.kl_div with "batchmean");
distillation as torch.nn.functional has it, MSE summed over dimensions.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F

OUT = Path(__file__).resolve().parent.parent / "crates/polygrade-train/tests/fixtures/align.json"


def draw(generator: torch.Generator, rows: int, cols: int = 12) -> torch.Tensor:
    # What f32 holds exactly.
    values = torch.randn(rows, cols, generator=generator, dtype=torch.float32)
    return values.double().requires_grad_()


def result(loss: torch.Tensor, **inputs: torch.Tensor) -> dict:
    grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    return {
        "value": loss.item(),
        "inputs": {k: v.tolist() for k, v in inputs.items()},
        "gradients": {
            k: (torch.zeros_like(v) if g is None else g).tolist() for (k, v), g in zip(inputs.items(), grads)
        },
    }


def jsd(p_logits: torch.Tensor, q_logits: torch.Tensor) -> torch.Tensor:
    p, q = p_logits.softmax(1), q_logits.softmax(1)
    log_m = ((p + q) / 2).log()
    kl = lambda log_x: F.kl_div(log_m, log_x, reduction="none", log_target=True).sum(1)
    return (kl(p_logits.log_softmax(1)) + kl(q_logits.log_softmax(1))) / 2


def main() -> None:
    g = torch.Generator().manual_seed(7)
    unit = lambda x: F.normalize(x, dim=1)
    cases: dict[str, dict] = {}

    for name, scale, eps in [("root_wide", 12**0.5, 1e-6), ("root_flat", 1.0, 1e-3), ("root_sharp", 40.0, 1e-6)]:
        a, b = draw(g, 5), draw(g, 5)
        loss = (jsd(unit(a) * scale, unit(b) * scale) + eps).sqrt().mean()
        cases[name] = result(loss, pivots=a, targets=b) | {"scale": scale, "eps": eps}

    # Three anchors, two of them of the same query; the third passage answers the first query too.
    targets, queries, t = draw(g, 3), draw(g, 2), 0.05
    scores = unit(targets) @ unit(queries).T / t
    own = torch.tensor([0, 0, 1])
    left_out = torch.zeros_like(scores, dtype=torch.bool)
    left_out[2, 0] = True
    loss = F.cross_entropy(scores.masked_fill(left_out, -torch.inf), own)
    cases["nce"] = result(loss, targets=targets, queries=queries) | {"temperature": t}

    for name, hard, alpha, beta in [("clear", 0, 0.4, 0.2), ("clear_hard", 2, 0.4, 0.2), ("clear_no_kl", 0, 0.4, 0.0)]:
        # Candidates are one table: those of the batch first, then hard negatives.
        anchor, passages, targets = draw(g, 4), draw(g, 4 + 4 * hard), draw(g, 4 + 4 * hard)
        origin = unit(anchor) @ unit(passages).T * 20.0
        cross = unit(passages[:4]) @ unit(targets).T * 20.0
        labels = torch.arange(4)
        loss = (
            (1 - alpha - beta) * F.cross_entropy(origin, labels)
            + alpha * F.cross_entropy(cross, labels)
            + beta * F.kl_div(F.log_softmax(origin, dim=1), F.softmax(cross, dim=1), reduction="batchmean")
        )
        case = result(loss, queries=anchor, passages=passages, targets=targets)
        cases[name] = case | {"alpha": alpha, "beta": beta}

    for name in ["mse", "cosine"]:
        student, teacher = draw(g, 4), draw(g, 4).detach()
        if name == "mse":
            loss = F.mse_loss(unit(student), unit(teacher), reduction="sum") / 4
        else:
            loss = (1 - F.cosine_similarity(student, teacher)).mean()
        cases[name] = result(loss, student=student) | {"teacher": unit(teacher).tolist()}

    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
