"""What a factory has to make next, until there are enough palms and captures."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import IterableDataset

from palmforge.data.factory.filters import QUALITY, Filters, histogram
from palmforge.data.factory.ledger import (
    CAPTURE,
    GIVEN_UP,
    REFERENCE,
    SURPLUS,
    Kind,
    Ledger,
    Row,
)
from palmforge.data.seeds import mixed, mixed_wide
from palmforge.errors import ConfigError, DataError

WAIT = "wait"
_ROUND = 8  # jobs a process between two exchanges: none waits long for the others
_SCORES = {"consistency": "cosine", "uniqueness": "nearest", **{name: name for name in QUALITY}}
_REFERENCE_SEED, _CAPTURE_SEED, _SHARED_SEED, _REFERENCE_PROMPT, _CAPTURE_PROMPT = range(1, 6)


@dataclass(frozen=True)
class Job:
    """A batch of the model.

    Attributes:
        kind: `reference`: new palms; `capture`: pictures of a palm.
        identity: The palm; of a `reference` the first of the batch.
        first: Of a `capture`, its first attempt.
    """

    kind: Kind
    identity: int
    first: int = 0

    @property
    def name(self) -> str:
        """Of the file of its rows."""
        return f"{self.kind}-{self.identity:07d}-{self.first:05d}"


class FactoryPlan(Ledger, IterableDataset[Row]):
    """Batches for the model until N palms have M captures each, for `batch_size=None`.

    Palm c is drawn from (seed, c) alone, attempt a at a capture of it from (seed, c, a), in batches
    that hold the same pictures always. Palms are taken in the order of c, captures in that of a:
    what is kept depends neither on the number of processes nor on interruptions, and a larger N
    adds to the set. Palms have numbers with gaps, of those that were rejected.

    1. Palms are drawn; poor ones, and those that are too near to one taken before, are rejected.
    2. Each of the first N has captures attempted until M are good. After `max_attempts` · M it is
       given up (and still keeps others from being near to it), and the next palm takes its place.

    Processes share the batches of a round, then tell each other what came out. Lightning asks for a
    batch before it has run the last one; the plan then gives one that is to `wait`.

    Attributes:
        rank: Of this process.
        world_size: Processes.
        load_reference: Palm → `[3, S, S]` uint8; set by who keeps the pictures.
        ready: Whether those two are, and what is on the disk is known.
        after_round: Called when all processes know what a round gave; set by the same.

    Args:
        num_identities: N.
        captures: M.
        reference_prompts: What palms are like; one is drawn for each.
        prompts: What captures are like; one is drawn for each.
        batch_size: Palms, or attempts at captures of one palm, at once.
        filters: What is kept.
        max_attempts: Attempts a capture that is wanted.
        patience: References or captures in a row that are all rejected, or palms that are all given
            up: then it stops.
        seed: >= 0.

    Raises:
        ConfigError: If a number is out of range or there is no prompt.
    """

    load_reference: Callable[[int], Tensor]
    after_round: Callable[[], None]

    def __init__(
        self,
        num_identities: int,
        captures: int,
        reference_prompts: Sequence[str],
        prompts: Sequence[str],
        batch_size: int,
        filters: Filters,
        max_attempts: int = 5,
        patience: int = 200,
        seed: int = 0,
    ) -> None:
        numbers = (num_identities, captures, batch_size, max_attempts, patience)
        if min(numbers) < 1 or seed < 0:
            raise ConfigError(
                "data.num_identities, captures, batch_size, max_attempts and patience must be 1 or "
                f"more, seed 0 or more, got {numbers}, {seed}"
            )
        if not prompts or not reference_prompts:
            raise ConfigError("data.prompts: at least one prompt is needed to generate from")
        super().__init__(num_identities, captures, batch_size, filters, max_attempts)
        self.reference_prompts = list(reference_prompts)
        self.prompts = list(prompts)
        self.patience = patience
        self.seed = seed
        self.rank, self.world_size = 0, 1
        self.ready = False
        self._fresh: list[Row] = []
        self._reported = 0

    def jobs(self) -> list[Job]:
        """Those of the next round; none when the set is whole.

        Raises:
            DataError: If too many in a row were rejected, with the histogram of their scores.
        """
        most = _ROUND * self.world_size
        self._check_patience()
        jobs = self._next_references(most)
        lacking = islice(self._lacking, most - len(jobs))
        return jobs + [Job(CAPTURE, i, len(self.attempts.get(i, ()))) for i in lacking]

    def _next_references(self, most: int) -> list[Job]:
        """As many as are needed if all are good, so that none is made in vain; and lost ones."""
        first = self._judged - self._judged % self.batch_size
        last = max(self._judged + self.num_identities - len(self._used), self._known)
        missing = (
            start
            for start in range(first, last, self.batch_size)
            if any(start + place not in self.references for place in range(self.batch_size))
        )
        return [Job(REFERENCE, start) for start in islice(missing, most)]

    def _check_patience(self) -> None:
        references = (self.references[i] for i in reversed(range(self._judged)))
        refused = list(takewhile(_is_refused, references))
        if len(self._used) < self.num_identities and len(refused) >= self.patience:
            everything = [self.references[i] for i in range(self._judged)]
            raise self._impatience(
                f"{len(refused)} references were all rejected", refused, everything
            )
        if not self._lacking:
            return
        newest = (row for i in reversed(self.attempts) for row in reversed(self.attempts[i]))
        refused = list(takewhile(_is_refused, newest))
        ended = (i for i in reversed(self.attempts) if i not in self._lacking)
        given_up = list(takewhile(self.given_up, ended))
        told = f"{len(refused)} captures were all rejected"
        if len(refused) < self.patience <= len(given_up):
            refused = [row for i in given_up for row in self.attempts[i]]
            told = f"{len(given_up)} palms were all given up"
        if max(len(refused), len(given_up)) >= self.patience:
            everything = [row for rows in self.attempts.values() for row in rows]
            raise self._impatience(told, refused, everything)

    def _impatience(self, told: str, refused: list[Row], rows: list[Row]) -> DataError:
        """With the histogram of what most were rejected for."""
        reasons = Counter(row["reason"] for row in refused if row["reason"] in _SCORES)
        reason = reasons.most_common(1)[0][0]
        limits = getattr(self.filters, reason)
        limits = limits if isinstance(limits, tuple) else (limits,)
        counts = ", ".join(f"{name} {count}" for name, count in reasons.most_common())
        return DataError(
            f"the last {told} ({counts}). data.filters.{reason} is {list(limits)}; the "
            f"{_SCORES[reason]} of all {len(rows)}:\n"
            + histogram([row[_SCORES[reason]] for row in rows], limits)
            + f"\nChange data.filters.{reason} or what generates, in another data.out; or raise "
            f"data.patience or data.max_attempts. There are {self.num_complete} of "
            f"{self.num_identities} palms"
        )

    def __iter__(self) -> Iterator[Row]:
        """Rounds, until the set is whole."""
        while not self.ready:
            yield {"kind": WAIT}
        while jobs := self.jobs():
            mine = jobs[self.rank :: self.world_size]
            self._reported = 0
            for job in mine:
                yield self._batch(job)
            while self._reported < len(mine):
                yield {"kind": WAIT}
            self._exchange()
            self.after_round()

    def _exchange(self) -> None:
        """All processes learn what all made."""
        everything: list[Any] = [self._fresh]
        if self.world_size > 1:
            everything = [None] * self.world_size
            dist.all_gather_object(everything, self._fresh)
        self._fresh = []
        rows = [row for part in everything for row in part]
        self.add(sorted(rows, key=lambda row: (row["identity"], row["attempt"])))

    def report(self, job: Job, rows: list[Row]) -> list[Row]:
        """What came of a job: who kept its pictures tells the plan, which decides.

        Args:
            job: Of a batch.
            rows: One a picture, in order: the scores of `filters.QUALITY`, and `cosine` of a
                capture or `embedding` of a reference.

        Returns:
            The rows, with `kind`, `identity`, `attempt`, `prompt`, `seed`, and of captures `reason`
            (None: kept) and `capture`, their number among the kept.
        """
        self._reported += 1
        known = [{**told, **row} for told, row in zip(self._rows(job), rows, strict=True)]
        if job.kind == CAPTURE:
            number = len(self.kept(job.identity))
            for row in known:
                row["reason"] = self.filters.poor(row) or self.filters.inconsistent(row["cosine"])
                row["capture"] = None
                if row["reason"] is None and number >= self.captures:
                    row["reason"] = SURPLUS
                if row["reason"] is None:
                    row["capture"], number = number, number + 1
        self._fresh += known
        return known

    def _rows(self, job: Job) -> list[Row]:
        """What is known of a job's pictures before they are made."""
        places = range(self.batch_size)
        if job.kind == REFERENCE:
            which = [(job.identity + place, 0) for place in places]
            prompts, salts = self.reference_prompts, (_REFERENCE_PROMPT, _REFERENCE_SEED)
        else:
            which = [(job.identity, job.first + place) for place in places]
            prompts, salts = self.prompts, (_CAPTURE_PROMPT, _CAPTURE_SEED)
        return [
            {
                "kind": job.kind,
                "identity": identity,
                "attempt": attempt,
                "prompt": prompts[mixed(self.seed, salts[0], identity, attempt) % len(prompts)],
                "seed": mixed_wide(self.seed, salts[1], identity, attempt),
            }
            for identity, attempt in which
        ]

    def _batch(self, job: Job) -> Row:
        """What the model needs: `prompt` and `seed` of B pictures, and of captures the palm."""
        rows = self._rows(job)
        batch: Row = {
            "kind": job.kind,
            "job": job,
            "set_seed": self.seed,
            "identity": [row["identity"] for row in rows],
            "prompt": [row["prompt"] for row in rows],
            "seed": [row["seed"] for row in rows],
        }
        if job.kind == CAPTURE:
            palm = self.references[job.identity]
            shared = mixed_wide(self.seed, _SHARED_SEED, job.identity)
            batch["reference"] = self.load_reference(job.identity).expand(len(rows), -1, -1, -1)
            batch["reference_embedding"] = torch.tensor(palm["embedding"])
            batch["identity_seed"] = [shared] * len(rows)
        return batch

    def settings(self) -> dict[str, Any]:
        """What decides the pictures: not how many palms there are."""
        return {
            "captures": self.captures,
            "reference_prompts_sha256": _digest(self.reference_prompts),
            "prompts_sha256": _digest(self.prompts),
            "batch_size": self.batch_size,
            "max_attempts": self.max_attempts,
            "seed": self.seed,
            **{f"filters.{name}": value for name, value in asdict(self.filters).items()},
        }


def _is_refused(row: Row) -> bool:
    return row["reason"] is not None and row["reason"] not in (SURPLUS, GIVEN_UP)


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
