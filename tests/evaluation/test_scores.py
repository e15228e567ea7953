"""Distances on disk are those that were measured."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from palmforge.data.protocols import Role
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError
from palmforge.evaluation.parts import Part
from palmforge.evaluation.run import labels_of
from palmforge.evaluation.scores import DISTANCES, ITEMS, read_scores, write_scores
from palmforge.metrics.comparison import Comparison


def part(role_of) -> Part:
    records = [
        PalmRecord(f"/d/p{i // 3}/{i}.jpg", f"p{i // 3}", "", f"p{i // 3}") for i in range(15)
    ]
    return Part("test", records, [role_of(i) for i in range(15)])


def comparison(of: Part) -> Comparison:
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.standard_normal((5, 16)), 3, axis=0)
    templates = torch.from_numpy(centres + rng.standard_normal((15, 16))).float()
    return Comparison(
        templates, labels_of(of.records), np.array(of.roles), "cosine", (1e-1, 1e-2), 50
    )


@pytest.mark.parametrize(
    "role_of", [lambda i: Role.ALL, lambda i: Role.GALLERY if i % 3 == 0 else Role.PROBE]
)
def test_figures_of_stored_distances_are_the_same(tmp_path, role_of):
    mine = part(role_of)
    measured = comparison(mine)
    write_scores(tmp_path, mine, measured)
    again, templates, lookup = read_scores(tmp_path)
    assert [r.identity for r in again.records] == [r.identity for r in mine.records]
    stored = Comparison(
        templates, labels_of(again.records), np.array(again.roles), lookup, (1e-1, 1e-2), 50
    )
    assert stored.figures() == measured.figures()
    assert [pair[:2] for pair in stored.extreme_pairs(3)[0]] == [
        pair[:2] for pair in measured.extreme_pairs(3)[0]
    ]


def test_each_pair_is_stored_once(tmp_path):
    write_scores(tmp_path, part(lambda i: Role.ALL), comparison(part(lambda i: Role.ALL)))
    table = pq.read_table(tmp_path / DISTANCES)
    assert sum(len(row) for row in table["distances"].to_pylist()) == 15 * 14 // 2


def test_files_that_do_not_fit_are_refused(tmp_path):
    mine = part(lambda i: Role.ALL)
    write_scores(tmp_path, mine, comparison(mine))
    whole = (tmp_path / DISTANCES).read_bytes()
    (tmp_path / DISTANCES).write_bytes(whole[:200])
    with pytest.raises(DataError, match="no scores can be read"):
        read_scores(tmp_path)
    (tmp_path / DISTANCES).write_bytes(whole)
    fewer = Part("test", mine.records[:9], mine.roles[:9])
    write_scores(tmp_path / "other", fewer, comparison(mine))
    (tmp_path / ITEMS).write_bytes((tmp_path / "other" / ITEMS).read_bytes())
    with pytest.raises(DataError, match="does not hold"):
        read_scores(tmp_path)
