"""A test of palms that the recogniser was trained on says nothing: refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from palmforge.data.records import PalmRecord
from palmforge.errors import DataError
from palmforge.evaluation.data import EvaluationData
from palmforge.evaluation.parts import Part


def check_unseen(
    recogniser: str, trained_on: Sequence[str] | None, data: EvaluationData, parts: Sequence[Part]
) -> None:
    """Raises if palms of the parts were trained on.

    Names decide, unless the run's `config.yaml` (two folders above the checkpoint) tells that it
    was trained on another data set: palms of two sets may have one name.

    Args:
        recogniser: The checkpoint's path.
        trained_on: The training identities that it holds; None: not known, nothing is checked.
        data: What is evaluated on.
        parts: Of these data.

    Raises:
        DataError: With the first of the palms, and what to do.
    """
    if trained_on is None or not _same_data(recogniser, data):
        return
    here = {record.identity for part in parts for record in part.records}
    both = sorted(here & set(trained_on))
    if both:
        raise DataError(
            f"{recogniser} was trained on {len(both)} of the {len(here)} palms that it is to be "
            f"tested on ({', '.join(both[:5])}…). Give the fractions and split_seed that it was "
            "trained with, or other data; protocol closed_set is the one that tests known palms"
        )


def check_apart(trained: Sequence[PalmRecord], tested: Sequence[PalmRecord]) -> None:
    """Raises if two databases, whatever they are called, have a picture in common.

    Args:
        trained: All pictures of the first.
        tested: All of the second.

    Raises:
        DataError: With the number of them, and the first.
    """
    known = {os.path.realpath(record.path) for record in trained}
    both = [record.path for record in tested if os.path.realpath(record.path) in known]
    if both:
        raise DataError(
            f"cross_database: {len(both):,} of {len(tested):,} pictures of data are pictures of "
            f"validation too ({both[0]}, …): name two databases, or their domains"
        )


def _same_data(recogniser: str, data: EvaluationData) -> bool:
    """Whether the run's config names these data; True where there is none."""
    config = Path(recogniser).expanduser().resolve().parent.parent / "config.yaml"
    if not config.is_file():
        return True
    try:
        content: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
        theirs = content["data"]["init_args"]
        if theirs["root"] != data.root:
            return Path(theirs["root"]).resolve() == Path(data.root).resolve()
        return data.root != "synthetic" or theirs["synthetic"]["seed"] == data.synthetic.seed
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return True
