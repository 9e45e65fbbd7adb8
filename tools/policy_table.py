#!/usr/bin/env python3
"""Markdown tables, methods × languages, of the test values in calibration.json files (polygrade calibrate --search grid).

    policy_table.py NAME=FOLDER … > docs/results-policies.md
    policy_table.py --holm NAME=FOLDER …

A mark says where the calibrated model differs significantly from the method, by the 95 % interval of the paired difference:
- the calibrated one is better, + it is worse. With --holm: in how many cells (languages, and all together) the calibrated model differs from the
threshold or band that is best on test, by Holm's method over all cells, p from the intervals. Needs nothing but Python 3.
"""
import json
import sys
from statistics import NormalDist

SCENARIOS = {
    "monolingual": "one model a language",
    "mixture": "one model of all languages",
    "cross-lingual": "queries to passages in other languages",
}


def table(calibration: dict, scenario: str) -> str:
    rows = [r for r in calibration["test"] if r["scenario"] == scenario and r.get("passage_lang") is None]
    cells = [c for c in calibration["cells"] if c["scenario"] == scenario and c["query_lang"] == "all"]
    langs = list(dict.fromkeys(r["query_lang"] for r in rows))
    langs = langs[:1] if len(langs) == 2 else langs[1:] + langs[:1]
    systems = list(dict.fromkeys(r["system"] for r in rows))
    value = {(r["system"], r["query_lang"]): r for r in rows}
    choice = cells[0]
    out = [
        f"### {scenario}: {SCENARIOS[scenario]}",
        "",
        f"Chosen on dev: `{choice['tau_chosen']}` ({choice['verdict']}; as good: {len(choice['tau_equivalent'])} of "
        f"{len(calibration['grid'])}).",
        "",
        "| method | " + " | ".join(langs) + " |",
        "|---|" + "---|" * len(langs),
    ]
    for system in systems:
        row = []
        for lang in langs:
            r = value[system, lang]
            d = r["calibrated_minus_this"]
            mark = "" if d is None else " −" if d["low"] > 0 else " +" if d["high"] < 0 else ""
            text = f"{r['mean']:.3f}".lstrip("0")
            row.append(f"**{text}**" if system == "calibrated" else text + mark)
        name = system.replace("tau=", "τ = ")
        out.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(out) + "\n"


def holm(folders: list[str]) -> None:
    found = []
    for name, folder in (f.split("=", 1) for f in folders):
        with open(f"{folder}/calibration.json", encoding="utf-8") as file:
            calibration = json.load(file)
        cells: dict[tuple[str, str], list[dict]] = {}
        for r in calibration["test"]:
            if r.get("passage_lang") is None and r["system"].startswith("tau="):
                cells.setdefault((r["scenario"], r["query_lang"]), []).append(r)
        for (scenario, lang), rows in cells.items():
            d = max(rows, key=lambda r: r["mean"])["calibrated_minus_this"]
            spread = (d["high"] - d["low"]) / (2 * NormalDist().inv_cdf(0.5 + calibration["level"] / 2))
            z = d["mean"] / spread if spread > 0 else 0.0
            found.append((2 * (1 - NormalDist().cdf(abs(z))), z, name, scenario, lang))
    adjusted = 0.0
    counts = {"better": 0, "worse": 0}
    for i, (p, z, *cell) in enumerate(sorted(found)):
        adjusted = max(adjusted, min(1.0, p * (len(found) - i)))
        which = "better" if z > 0 else "worse"
        counts[which] += adjusted < 0.05
        if p < 0.05:
            print(f"{which}: {' '.join(cell)}, p = {p:.1g}, {adjusted:.2g} corrected")
    print(f"{len(found)} cells: better in {counts['better']}, worse in {counts['worse']}")


def main() -> None:
    if sys.argv[1:2] == ["--holm"]:
        return holm(sys.argv[2:])
    print("# Results: policies and losses, by language\n")
    print(
        "nDCG@10 on test. Every method was trained to the end with every seed (`calibrate --search grid`); the calibrated\n"
        "model was chosen on dev. −: the calibrated model is significantly better than the method, +: significantly worse (95 %\n"
        "interval of the paired difference, not corrected for the number of methods). The encoder is the static one that starts\n"
        "from the collection's own texts. Made by `tools/policy_table.py`; commands and what the tables say:\n"
        "[results.md](results.md#policies-and-losses).\n"
    )
    for argument in sys.argv[1:]:
        name, folder = argument.split("=", 1)
        with open(f"{folder}/calibration.json", encoding="utf-8") as file:
            calibration = json.load(file)
        print(f"## {name}\n")
        for scenario in SCENARIOS:
            if any(r["scenario"] == scenario for r in calibration["test"]):
                print(table(calibration, scenario))


main()
