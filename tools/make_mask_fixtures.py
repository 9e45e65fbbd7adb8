#!/usr/bin/env python3
"""Make crates/polygrade-train/tests/fixtures/masks.json: losses of sentence-transformers' GISTEmbedLoss and
CachedGISTEmbedLoss, with the vectors that they were computed from.

    python -m venv VENV
    VENV/bin/pip install sentence-transformers==6.2.0 torch==2.15.0
    VENV/bin/python tools/make_mask_fixtures.py MODEL

MODEL is the folder of any BERT-like sentence-transformers model, such as all-MiniLM-L6-v2. Model and guide are that model
with random projections to 12 and 3 numbers: the file is small, and the guide drops much. What they give is in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

OUT = Path(__file__).resolve().parent.parent / "crates/polygrade-train/tests/fixtures/masks.json"

QUERIES = ["how high is a desk", "what do cats eat", "when does the train leave", "is rain good for rice",
           "why is the sky blue", "who wrote the letter", "how long to boil an egg", "where is the old bridge"]
POSITIVES = ["A desk is about 73 cm high.", "Cats eat meat and fish.", "The train leaves at nine.",
             "Rice needs much rain.", "Air scatters blue light most.", "The letter is by my aunt.",
             "An egg is boiled for seven minutes.", "The old bridge is north of the town."]
NEGATIVES = ["A chair is about 45 cm high.", "Dogs eat meat as well.", "The bus leaves at ten.",
             "Wheat needs little rain.", "The sea looks blue too.", "The parcel is by my uncle.",
             "A potato is boiled for half an hour.", "The new bridge is south of the town."]


def projected(folder: str, seed: int, to: int) -> SentenceTransformer:
    model = SentenceTransformer(folder, device="cpu")
    torch.manual_seed(seed)
    width = model.get_embedding_dimension()

    class Project(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(width, to))

        def forward(self, features: dict) -> dict:
            features["sentence_embedding"] = features["sentence_embedding"] @ self.weight
            return features

    model.append(Project())
    return model.eval()


def main() -> None:
    model, guide = projected(sys.argv[1], 1, 12), projected(sys.argv[1], 2, 3)
    columns = [QUERIES, POSITIVES, NEGATIVES]

    def vectors(m: SentenceTransformer) -> list:
        with torch.no_grad():
            each = [m(m.preprocess(texts))["sentence_embedding"] for texts in columns]
        return [torch.nn.functional.normalize(v, dim=1).tolist() for v in each]

    cases = []
    for cached in [False, True]:
        for strategy, margin in [("absolute", 0.0), ("absolute", 0.1), ("absolute", -0.15), ("relative", 0.05),
                                 ("relative", 0.3)]:
            for n in [2, 3]:
                kind = losses.CachedGISTEmbedLoss if cached else losses.GISTEmbedLoss
                extra = {"mini_batch_size": 3} if cached else {}
                loss = kind(model, guide, temperature=0.5, margin_strategy=strategy, margin=margin,
                            contrast_anchors=False, contrast_positives=False, **extra)
                features = [model.preprocess(texts) for texts in columns[:n]]
                value = loss(features, torch.zeros(len(QUERIES))).item()
                cases.append({"cached": cached, "strategy": strategy, "margin": margin, "columns": n, "loss": value})
    out = {"temperature": 0.5, "model": vectors(model), "guide": vectors(guide), "cases": cases}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
