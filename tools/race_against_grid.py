#!/usr/bin/env python3
"""Whether a race chose what the full grid leaves, cell by cell, and what it cost: for docs/results.md.

    tools/race_against_grid.py RACE GRID

RACE and GRID are folders of `polygrade calibrate`, the second with --search grid. Pairs of languages within one model are
not counted. Exit status: 0 when at least 95 % of the cells agree.
"""
import json
import sys


def main() -> None:
    race, grid = (json.load(open(f"{folder}/calibration.json", encoding="utf-8")) for folder in sys.argv[1:3])
    key = lambda c: (c["scenario"], c["query_lang"], c["passage_lang"])
    left = {key(c): c["tau_equivalent"] for c in grid["cells"]}
    within = lambda c: c["scenario"] == "cross-lingual" and c["passage_lang"] not in ("other", "all") and not race.get("pairs")
    cells = [c for c in race["cells"] if not within(c)]
    good = [c for c in cells if c["tau_chosen"] in left[key(c)]]
    for c in cells:
        if c not in good:
            print("not among the grid's:", *key(c), c["tau_chosen"], left[key(c)])
    share = race["search"]["tokens"] / grid["search"]["grid_tokens"]
    print(f"{len(good)} of {len(cells)} cells; {100 * share:.1f} % of the grid's training tokens")
    sys.exit(0 if len(good) >= 0.95 * len(cells) else 1)


if __name__ == "__main__":
    main()
