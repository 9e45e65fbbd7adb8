#!/usr/bin/env python3
"""Remake the fixtures of files of vectors: as numpy and pyarrow write them.

    python -m venv VENV
    VENV/bin/pip install numpy==2.4.6 pyarrow==26.0.1
    VENV/bin/python tools/make_vector_fixtures.py

Value j of row i is (3·i + j) / 8 − 3, which 16 bits hold exactly; the id of row i is "id-i".
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).parent.parent / "crates/polygrade-index/tests/fixtures/vectors"
ROWS, DIM = 11, 3


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    vectors = (np.arange(ROWS * DIM, dtype="<f4") / 8 - 3).reshape(ROWS, DIM)
    ids = [f"id-{i}" for i in range(ROWS)]
    for name, values, version in [("v1", vectors, (1, 0)), ("v2", vectors, (2, 0)), ("v3", vectors, (3, 0)),
                                  ("half", vectors.astype("<f2"), (1, 0))]:
        with open(OUT / f"{name}.npy", "wb") as file:
            np.lib.format.write_array(file, values, version=version)
    for name, values in [("columns", np.asfortranarray(vectors)), ("double", vectors.astype("<f8")),
                         ("big", vectors.astype(">f4")), ("flat", vectors.ravel())]:
        np.save(OUT / f"{name}.npy", values)
    lists = [row.tolist() for row in vectors]
    table = lambda values, kind: pa.table({"text": ["x"] * len(values), "vector": pa.array(values, kind),
                                           "id": ids[:len(values)]})
    floats = pa.list_(pa.float32())
    pq.write_table(table(lists, floats), OUT / "list.parquet", row_group_size=4)
    pq.write_table(table(lists, pa.list_(pa.float32(), DIM)), OUT / "fixed.parquet", compression="zstd")
    pq.write_table(table(lists, pa.large_list(pa.float64())), OUT / "double.parquet", data_page_version="2.0")
    # As many values in all as whole vectors have, but not in each row.
    uneven = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0], [7.0, 8.0, 9.0]]
    pq.write_table(table(uneven, floats), OUT / "uneven.parquet")
    pq.write_table(table([[1.0, 2.0, 3.0], [4.0, 5.0], [6.0, 7.0, 8.0]], floats), OUT / "short.parquet")
    pq.write_table(table([[1.0, 2.0], [None, 4.0]], floats), OUT / "null.parquet")
    pq.write_table(pa.table({"id": pa.array([1, 2]), "vector": pa.array([[1.0], [2.0]], floats)}), OUT / "numbers.parquet")


if __name__ == "__main__":
    main()
