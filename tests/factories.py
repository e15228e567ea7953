"""A factory without models: what comes of a picture is a pure function of its seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palmforge.data.factory.filters import Filters
from palmforge.data.factory.ledger import CAPTURE, Row
from palmforge.data.factory.plan import WAIT, FactoryPlan, Job
from palmforge.data.factory.store import FactoryStore

SIZE = 4
FILTERS = Filters(consistency=(0.3, 0.99), uniqueness=0.8, contrast=(0.0, 0.5), lines=(0.0, 1.0))


def plan(num_identities: int = 6, captures: int = 3, **settings: Any) -> FactoryPlan:
    """Batches of 4: no divisor of anything."""
    own = {
        "reference_prompts": ["a left palm", "a right palm"], "prompts": ["sharp", "dim", "near"],
        "batch_size": 4, "filters": FILTERS, "max_attempts": 3, "seed": 10,
    }  # fmt: skip
    return FactoryPlan(num_identities, captures, **{**own, **settings})


def score(batch: Row) -> list[Row]:
    """In the place of both stages and the recogniser.

    One picture in ten is too dark, one reference in five like another; captures of one palm in four
    are hardly ever its own, and one in four of the others' is not.
    """
    rows = []
    for identity, seed in zip(batch["identity"], batch["seed"], strict=True):
        rng = np.random.default_rng(seed)
        is_dark = rng.random() < 0.1  # all scores in float32, as tensors give them
        row: Row = {
            "brightness": 0.0625 if is_dark else 0.5,
            "contrast": 0.125,
            "relief": 0.03125,
            "lines": 0.25,
        }
        if batch["kind"] == CAPTURE:
            strange = np.random.default_rng((identity, 1)).random() < 1 / 4
            cosine = min(rng.uniform(0, 0.42 if strange else 1.2), 0.98)
            row["cosine"] = float(np.float32(cosine))
        else:
            vector = np.zeros(32) if rng.random() < 0.8 else np.eye(32)[rng.integers(4)] * 20
            vector = vector + rng.normal(size=32)
            row["embedding"] = (vector / np.linalg.norm(vector)).astype(np.float32).tolist()
        rows.append(row)
    return rows


def paint(batch: Row) -> np.ndarray:
    """`[B, S, S, 3]`: the seed as colour."""
    colours = [[seed >> shift & 255 for shift in (0, 8, 16)] for seed in batch["seed"]]
    return np.broadcast_to(
        np.asarray(colours, np.uint8)[:, None, None], (len(colours), SIZE, SIZE, 3)
    ).copy()


class Killed(Exception):
    """In place of SIGKILL."""


def batches(plan: FactoryPlan, ahead: int = 1) -> Iterator[Row]:
    """Of a loader that asks for so many batches before it gives one; without those that wait."""
    queue: list[Row] = []
    source = iter(plan)
    while True:
        while len(queue) <= ahead and (batch := next(source, None)) is not None:
            queue.append(batch)
        if not queue:
            return
        if (batch := queue.pop(0))["kind"] != WAIT:
            yield batch


def make(
    plan: FactoryPlan, store: FactoryStore | None = None, kill_at: int | None = None,
    ahead: int = 1, model: Any = score,
) -> FactoryPlan:  # fmt: skip
    """A whole run of one process, or one that ends in its `kill_at`-th batch."""
    plan.load_reference = store.load_reference if store else lambda i: torch.zeros(3, SIZE, SIZE)
    plan.after_round = (lambda: store.place(plan)) if store else (lambda: None)
    if store:
        plan.add(store.rows())
    plan.ready = True
    for number, batch in enumerate(batches(plan, ahead)):
        if number == kill_at:
            raise Killed
        rows = plan.report(batch["job"], model(batch))
        if store:
            store.write(batch["job"], rows, paint(batch))
    return plan


def make_together(
    plans: Sequence[FactoryPlan], store: FactoryStore | None = None, shuffled: int | None = None,
    kill_after: int | None = None, spare: float = 1.0,
) -> list[Job]:  # fmt: skip
    """As several processes do, in this one: rounds of jobs, whose rows all plans are told.

    Args:
        plans: Replicas.
        store: Where they write.
        shuffled: Seed of the order in which jobs of a round end.
        kill_after: Ends in this round, when a share of its jobs, `spare`, has ended.
        spare: See `kill_after`.

    Returns:
        All jobs.
    """
    rng, done = random.Random(shuffled), []
    there = store.rows() if store else []
    for rank, replica in enumerate(plans):
        replica.rank, replica.world_size = rank, len(plans)
        replica.load_reference = lambda identity: torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
        replica.add([dict(row) for row in there])
    number = 0
    while jobs := plans[0].jobs():
        assert all(replica.jobs() == jobs for replica in plans)
        work = [(place % len(plans), job) for place, job in enumerate(jobs)]
        if shuffled is not None:
            rng.shuffle(work)
        if number == kill_after:
            work = work[: int(len(work) * spare)]
        fresh = []
        for rank, job in work:
            batch = plans[rank]._batch(job)
            rows = plans[rank].report(job, score(batch))
            if store:
                store.write(job, rows, paint(batch))
            fresh += rows
        done += [job for _, job in work]
        if number == kill_after:
            raise Killed
        for replica in plans:
            replica.add(
                sorted((dict(r) for r in fresh), key=lambda r: (r["identity"], r["attempt"]))
            )
        if store:
            store.place(plans[0])
        number += 1
    return done


def kept(plan: FactoryPlan) -> dict[int, list[tuple[int, int, int]]]:
    """Palm → (attempt, seed, number) of its captures."""
    return {
        identity: [(row["attempt"], row["seed"], row["capture"]) for row in plan.kept(identity)]
        for identity in plan.complete()
    }


def everything(plan: FactoryPlan) -> dict[tuple[str, int, int], Row]:
    """All rows, of which embeddings become lists."""
    rows = [*plan.references.values(), *(r for rows in plan.attempts.values() for r in rows)]
    return {
        (r["kind"], r["identity"], r["attempt"]): {k: v for k, v in r.items() if v is not None}
        for r in rows
    }


def content(out: Path) -> dict[str, bytes]:
    """Of all files."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
