#!/usr/bin/env python3
# requirements: torch==2.15.*  sentence-transformers==6.2.*  numpy
"""Remakes crates/polygrade-train/tests/fixtures/losses.json: losses and gradients of small batches.

Losses that sentence-transformers has are computed by its own classes (in f64); the others by the formula of their source,
written here with torch's autograd. Gradients are those on the unit sphere: what lies along a vector is taken out, since
some of the classes normalise.

    python tools/make_loss_fixtures.py
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn

torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double  # sentence-transformers' losses go through .float()

from sentence_transformers.cross_encoder import losses as ce  # noqa: E402
from sentence_transformers.sentence_transformer import losses as st  # noqa: E402
from sentence_transformers.sentence_transformer.losses.matryoshka import shrink  # noqa: E402

NAN = float("nan")
OUT = pathlib.Path(__file__).parent.parent / "crates/polygrade-train/tests/fixtures/losses.json"


def unit(rows, dim, generator):
    """Unit vectors that f32 holds exactly."""
    x = F.normalize(torch.randn(rows, dim, generator=generator), dim=1)
    return x.to(torch.float32).to(torch.float64)


def label(policy, grade):
    """+1 positive, 0 negative, None dropped."""
    if policy in ("graded", "all"):
        return 1 if grade > 0 else 0
    if policy.startswith("soft:"):
        return 1 if grade >= float(policy[5:]) else 0
    if ":" in policy:
        low, high = map(float, policy.split(":"))
        return 1 if grade >= high else 0 if grade <= low else None
    return 1 if grade >= float(policy) else 0


class Case:
    def __init__(self, loss, policies, seed=1, dim=6, temperatures=None, teacher=False, full=False, **settings):
        generator = torch.Generator().manual_seed(seed)
        n, cols = len(policies), 3 * len(policies)
        self.loss, self.policies, self.settings, self.max_grade = loss, policies, settings, 3.0
        self.temperatures = temperatures or [settings.get("temperature", 0.2)] * n
        self.queries, self.passages = unit(n, dim, generator), unit(cols, dim, generator)
        # Each query brings three candidates; one more is judged for it, and one is masked.
        draws = torch.rand(n, 3, generator=generator)
        self.grades = [[NAN] * cols for _ in range(n)]
        self.roles = [["N"] * cols for _ in range(n)]
        for i, policy in enumerate(policies):
            own = [3.0, float(int(draws[i, 1] * 3)), [0.0, 1.0, 2.5][i % 3]]
            for k, grade in enumerate(own):
                self.grades[i][3 * i + k] = grade
                what = label(policy, grade)
                self.roles[i][3 * i + k] = {1: "P", 0: "N", None: "I"}[what]
            if not full:
                other = (3 * i + 5) % cols
                self.grades[i][other] = 2.0
                self.roles[i][other] = "N" if label(policy, 2.0) == 0 else "I"
                self.roles[i][(3 * i + 7) % cols] = "I"
        self.teacher = None
        if teacher:
            scores = torch.randn(n, cols, generator=generator) * 4
            self.teacher = scores.to(torch.float32).to(torch.float64)
            if not full:
                self.teacher[0, 4] = self.teacher[1, 0] = NAN

    def aims(self):
        """What graded losses aim at; NaN for what is out."""
        if self.teacher is not None:
            return self.teacher.clone()
        out = torch.full((len(self.policies), self.passages.shape[0]), NAN)
        for i, policy in enumerate(self.policies):
            for j, grade in enumerate(self.grades[i]):
                if math.isnan(grade):
                    if self.roles[i][j] == "N" and self.settings.get("in_batch", True):
                        out[i, j] = 0.0
                    continue
                what = label(policy, grade)
                if policy in ("graded", "all") or (policy.startswith("soft") and what):
                    out[i, j] = grade / self.max_grade
                elif what is not None:
                    out[i, j] = what
        return out

    def run(self, value):
        """Values, gradients and the case as JSON. `value(case, queries, passages, parameters)` gives the loss."""
        q, p = self.queries.clone().requires_grad_(), self.passages.clone().requires_grad_()
        parameters = torch.tensor(self.settings.get("parameters", [0.0])).requires_grad_()
        dims = self.settings.get("matryoshka") or [(None, 1.0)]
        loss = sum(
            w * value(self, q if d is None else shrink(q, d), p if d is None else shrink(p, d), parameters)
            for d, w in dims
        )
        loss.backward()
        along = lambda g, x: g - (g * x).sum(1, keepdim=True) * x
        clean = lambda table: [[None if math.isnan(x) else x for x in row] for row in table]
        settings = {k: v for k, v in self.settings.items() if k != "parameters"}
        gradient = None if parameters.grad is None else parameters.grad.tolist()
        return {
            "loss": self.loss, "settings": settings, "policies": self.policies, "temperatures": self.temperatures,
            "queries": self.queries.tolist(), "passages": self.passages.tolist(),
            "roles": ["".join(r) for r in self.roles], "grades": clean(self.grades),
            "teacher": None if self.teacher is None else clean(self.teacher.tolist()),
            "value": loss.item(),
            "grad_queries": along(q.grad, self.queries).tolist(),
            "grad_passages": along(p.grad, self.passages).tolist(),
            "grad_parameters": gradient,
        }

    def scaled(self, q, p):
        return q @ p.T / torch.tensor(self.temperatures)[:, None]


def info_nce(case, q, p, _):
    s = case.scaled(q, p)
    row_terms = lambda i, pos, neg: [
        torch.logsumexp(torch.stack([s[i, j]] + [s[i, k] for k in neg]), 0) - s[i, j] for j in pos
    ]
    kinds = {"plain": [], "soft": [], "all": []}
    positives = 0
    for i, policy in enumerate(case.policies):
        pos = [j for j, r in enumerate(case.roles[i]) if r == "P"]
        neg = [j for j, r in enumerate(case.roles[i]) if r == "N"]
        kind = "all" if policy == "all" else "soft" if policy.startswith("soft") else "plain"
        kinds[kind].append((i, pos, neg))
        positives += len(pos)
    total = 0.0
    count = lambda rows: sum(len(pos) for _, pos, _ in rows)
    if rows := kinds["plain"]:
        total = total + sum(sum(row_terms(*row)) for row in rows)
    if rows := kinds["soft"]:
        weights = [case.grades[i][j] / case.max_grade for i, pos, _ in rows for j in pos]
        terms = [t for row in rows for t in row_terms(*row)]
        total = total + count(rows) * sum(w * t for w, t in zip(weights, terms)) / sum(weights)
    if rows := kinds["all"]:
        w = torch.tensor(case.settings.get("threshold_weights", [1.0, 1.0, 1.0]))
        for tau, weight in zip((1, 2, 3), w / w.sum()):
            terms = []
            for i, pos, neg in rows:
                high = [j for j in pos if case.grades[i][j] >= tau]
                terms += row_terms(i, high, neg + [j for j in pos if j not in high])
            if terms:
                total = total + count(rows) * weight * sum(terms) / len(terms)
    return total / positives


def bixse(case, q, p, parameters):
    y = case.aims()
    x = case.scaled(q, p) * parameters[0].exp() + parameters[1]
    taken = ~y.isnan()
    return F.binary_cross_entropy_with_logits(x[taken], y[taken], reduction="sum") / len(y)


def ordinal(case, q, p, parameters):
    y = case.aims() * 3
    x = case.scaled(q, p) * parameters[0].exp()
    cuts = parameters[1] + torch.cat([torch.zeros(1), parameters[2:].exp().cumsum(0)])
    one, zero = torch.ones_like(x)[..., None], torch.zeros_like(x)[..., None]
    at_least = torch.cat([one, torch.sigmoid(x[..., None] - cuts), zero], -1)
    log = (at_least[..., :-1] - at_least[..., 1:]).log()
    total = 0.0
    for i, j in (~y.isnan()).nonzero().tolist():
        low = int(y[i, j] + 1e-9)
        part = y[i, j] - low
        total = total - (1 - part) * log[i, j, low] - (part * log[i, j, low + 1] if part > 1e-6 else 0.0)
    return total / len(y)


def cosent(case, q, p, _, loss=None):
    y = case.aims()
    i, j = (~y.isnan()).nonzero(as_tuple=True)
    scale = 1 / torch.tensor(case.temperatures)[i]
    similarity = lambda a, b: (a * b).sum(1) * scale
    loss = loss or st.CoSENTLoss(nn.Identity(), scale=1.0, similarity_fct=similarity)
    return loss.compute_loss_from_embeddings([q[i], p[j]], y[i, j])


def angle(case, q, p, parameters):
    loss = st.AnglELoss(nn.Identity(), scale=1 / case.temperatures[0])
    return cosent(case, q, p, parameters, loss)


class Scores:
    """Stands in for a cross-encoder: its scores are those of the pairs it was made with."""

    num_labels, device = 1, "cpu"

    def __init__(self, scores):
        self.scores = scores

    def preprocess(self, pairs, prompt=None, task=None):
        return {"scores": torch.stack([self.scores[i, j] for i, j in pairs])}

    def __call__(self, features):
        return features


def lists(loss, case, q, p, scale):
    y = case.aims()
    picked = [[j for j in range(y.shape[1]) if not y[i, j].isnan()] for i in range(len(y))]
    loss = loss(Scores(case.scaled(q, p)))
    rows = list(range(len(y)))
    return loss((rows, picked), [y[i, js] * scale for i, js in zip(rows, picked)])


def listnet(case, q, p, _):
    return lists(ce.ListNetLoss, case, q, p, 1 / case.settings["target_temperature"])


def ranknet(case, q, p, _):
    return lists(lambda m: ce.RankNetLoss(m, reduction_log="natural"), case, q, p, 3.0)


def lambda_loss(case, q, p, _):
    return lists(ce.LambdaLoss, case, q, p, 3.0)


def columns(y, q, p):
    """Rows with all candidates, the positive first: a case made with full=True."""
    order = [sorted(range(y.shape[1]), key=lambda j: (j != 3 * i, j)) for i in range(len(y))]
    labels = torch.stack([y[i, o] for i, o in enumerate(order)])
    return [q] + [p[[o[k] for o in order]] for k in range(y.shape[1])], labels


def similarity(case):
    t = torch.tensor(case.temperatures)
    return lambda a, b: (a * b).sum(1) / t


def kl(case, q, p, _):
    embeddings, y = columns(case.aims(), q, p)
    y = (y - y.amin(1, keepdim=True)) / (y.amax(1, keepdim=True) - y.amin(1, keepdim=True))
    t = case.temperatures[0]
    loss = st.DistillKLDivLoss(
        nn.Identity(), student_temperature=t, teacher_temperature=case.settings["target_temperature"]
    )
    return loss.compute_loss_from_embeddings(embeddings, y)


def margin_mse(case, q, p, _):
    embeddings, y = columns(case.aims(), q, p)
    return st.MarginMSELoss(nn.Identity(), similarity_fct=similarity(case)).compute_loss_from_embeddings(embeddings, y)


def margin_mse_pairs(case, q, p, _):
    y, s, terms = case.aims(), case.scaled(q, p), []
    for i, roles in enumerate(case.roles):
        inside = [j for j in range(len(roles)) if not y[i, j].isnan()]
        for j in inside:
            for k in inside:
                if roles[j] == "P" and j != k and (roles[k] != "P" or k > j):
                    terms.append(((s[i, j] - s[i, k]) - (y[i, j] - y[i, k])) ** 2)
    return sum(terms) / len(terms)


def ws2(case, q, p, _):
    y, s = case.aims(), case.scaled(q, p)
    out = y.isnan()
    x = s.masked_fill(out, -math.inf).softmax(1)
    y = (y / case.settings["target_temperature"]).masked_fill(out, -math.inf).softmax(1)
    mean = x.mean(0) - y.mean(0)
    x, y = (t - t.mean(0) for t in (x, y))
    x, y = (t / math.sqrt(len(t) - 1) for t in (x, y))
    # The eigenvalues of Σ_X Σ_Y that are not 0 are those of this small matrix.
    cross = x @ y.T
    roots = (torch.linalg.eigvals(cross @ cross.T) + 1e-15).sqrt().abs().sum()
    return mean @ mean + (x**2).sum() + (y**2).sum() - 2 * roots


def main():
    graded, binary, mixed = ["graded"] * 4, ["2", "2", "2", "2"], ["graded", "2", "0:2", "soft:2"]
    several = [0.2, 0.1, 0.3, 0.2]
    cases = [
        Case("info-nce", binary, temperature=0.2).run(info_nce),
        Case("info-nce", ["soft:1"] * 4, temperature=0.2).run(info_nce),
        Case("info-nce", ["all"] * 4, temperature=0.2).run(info_nce),
        Case("info-nce", ["2", "soft:2", "all", "0:2"], temperatures=several, threshold_weights=[1.0, 4.0, 2.0]).run(info_nce),
        Case("bixse", graded, parameters=[0.0, -3.0], bias=-3.0).run(bixse),
        Case("bixse", mixed, seed=2, temperatures=several, parameters=[0.0, -10.0]).run(bixse),
        Case("ordinal", graded, parameters=[0.0, -1.0] + [math.log(2.0)] * 2, bias=-1.0).run(ordinal),
        Case("ordinal", mixed, seed=2, temperatures=several, parameters=[0.0, 8.0] + [math.log(2.0)] * 2).run(ordinal),
        Case("cosent", graded, temperature=0.05).run(cosent),
        Case("cosent", mixed, seed=2, temperatures=several, in_batch=False).run(cosent),
        Case("angle", graded, temperature=0.05).run(angle),
        Case("angle", graded, seed=3, dim=7, temperature=0.05).run(angle),
        Case("listnet", graded, target_temperature=1 / 3).run(listnet),
        Case("listnet", mixed, seed=2, temperatures=several, target_temperature=0.1, in_batch=False).run(listnet),
        Case("ranknet", graded, temperature=0.1).run(ranknet),
        Case("ranknet", mixed, seed=2, temperatures=several).run(ranknet),
        Case("lambda", graded, temperature=0.1).run(lambda_loss),
        Case("lambda", graded, seed=5, temperatures=several, in_batch=False).run(lambda_loss),
        Case("ws2", graded, target_temperature=1 / 3).run(ws2),
        Case("ws2", mixed, seed=2, temperatures=several, target_temperature=0.2).run(ws2),
        Case("kl", graded, teacher=True, full=True, temperature=0.1, target_temperature=0.1).run(kl),
        Case("kl", graded, full=True, temperature=0.2, target_temperature=0.3).run(kl),
        Case("margin-mse", ["3"] * 4, teacher=True, full=True, temperature=0.1).run(margin_mse),
        Case("margin-mse", mixed, seed=2, temperatures=several, teacher=True).run(margin_mse_pairs),
        Case("margin-mse", graded, temperature=0.5).run(margin_mse_pairs),
        Case("info-nce", binary, dim=7, matryoshka=[[7, 1.0], [3, 0.5]], temperature=0.2).run(info_nce),
        Case("cosent", graded, dim=7, matryoshka=[[7, 1.0], [4, 0.25]], temperature=0.05).run(cosent),
        Case("bixse", graded, dim=7, matryoshka=[[5, 2.0], [2, 0.5]], parameters=[0.0, -3.0], bias=-3.0).run(bixse),
    ]
    rounded = json.loads(json.dumps(cases), parse_float=lambda x: float(f"{float(x):.9g}"))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in rounded) + "\n]\n")


if __name__ == "__main__":
    main()
