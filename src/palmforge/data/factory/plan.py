"""What a factory has to make next, until there are enough palms and captures."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import IterableDataset

from palmforge.data.factory.filters import QUALITY, Filters, histogram
from palmforge.data.seeds import mixed, mixed_wide
from palmforge.errors import ConfigError, DataError

Row = dict[str, Any]
Kind = Literal["reference", "capture"]
REFERENCE: Kind = "reference"
CAPTURE: Kind = "capture"
WAIT = "wait"
SURPLUS = "surplus"  # good, but there were enough
GIVEN_UP = "given up"  # good, but its palm has too few
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


class FactoryPlan(IterableDataset[Row]):
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
        references: Palm → row of its reference.
        attempts: Palm → rows of the attempts at its captures, in order.
        accepted: Palms that are good and not too near to one before, in order.
        rejected: For references and captures: reason → how many.
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
        self.num_identities = num_identities
        self.captures = captures
        self.reference_prompts = list(reference_prompts)
        self.prompts = list(prompts)
        self.batch_size = batch_size
        self.filters = filters
        self.max_attempts = max_attempts
        self.patience = patience
        self.seed = seed
        self.rank, self.world_size = 0, 1
        self.ready = False
        self.references: dict[int, Row] = {}
        self.attempts: dict[int, list[Row]] = {}
        self.accepted: list[int] = []
        self.rejected: dict[Kind, Counter[str]] = {REFERENCE: Counter(), CAPTURE: Counter()}
        # Kept up to date row by row: rounds are thousands, and so are palms.
        self._num_kept: Counter[int] = Counter()
        self._used: dict[int, None] = {}  # in order
        self._lacking: dict[int, None] = {}  # those of `_used` that lack captures
        self._considered = 0  # of `accepted`: used, or given up
        self._embeddings = np.zeros((0, 0), np.float32)
        self._judged = self._known = 0  # references: all up to here; the last one that is there
        self._fresh: list[Row] = []
        self._reported = 0

    # --- what there is ---

    def add(self, rows: Iterable[Row]) -> None:
        """Takes in rows of finished jobs, from the disk or from any process; attempts in order.

        A batch of attempts that is not whole, and those after a gap, are left out: something was
        lost, and they are made again.
        """
        before: dict[int, int] = {}
        for row in rows:
            identity = row["identity"]
            if row["kind"] == REFERENCE:
                self.references.setdefault(identity, row)
                self._known = max(self._known, identity + 1)
                continue
            attempts = self.attempts.setdefault(identity, [])
            before.setdefault(identity, len(attempts))
            if row["attempt"] == len(attempts):
                attempts.append(row)
        while self._judged in self.references:
            self._judge(self._judged)
            self._judged += 1
        for identity, count in before.items():
            attempts = self.attempts[identity]
            del attempts[len(attempts) - len(attempts) % self.batch_size :]
            self._count(identity, attempts[count:])
        self._fill()

    def _judge(self, identity: int) -> None:
        """Accepts a palm, or writes down why not. Only palms before it matter."""
        row = self.references[identity]
        embedding = np.asarray(row["embedding"], np.float32)
        others = self._embeddings[: len(self.accepted)]
        nearest = min(1.0, float((others @ embedding).max())) if len(others) else -1.0
        row["nearest"] = nearest if np.isfinite(embedding).all() else math.nan
        row["reason"] = self.filters.poor(row)
        if row["reason"] is None and not row["nearest"] <= self.filters.uniqueness:
            row["reason"] = "uniqueness"
        if row["reason"] is not None:
            self.rejected[REFERENCE][row["reason"]] += 1
            return
        count = len(self.accepted)
        if count == len(self._embeddings):  # twice as much room: each is copied twice at most
            room = np.zeros((max(64, 2 * count), len(embedding)), np.float32)
            if count:
                room[:count] = self._embeddings
            self._embeddings = room
        self._embeddings[count] = embedding
        self.accepted.append(identity)

    def _count(self, identity: int, fresh: Sequence[Row]) -> None:
        """Counts attempts that are new, and gives the palm up if they were its last."""
        self._num_kept[identity] += sum(row["reason"] is None for row in fresh)
        self.rejected[CAPTURE].update(row["reason"] for row in fresh if row["reason"] is not None)
        if self.given_up(identity):
            for row in self.kept(identity):
                row |= {"reason": GIVEN_UP, "capture": None}
                self.rejected[CAPTURE][GIVEN_UP] += 1
            self._num_kept[identity] = 0
            self._used.pop(identity, None)
        if self.given_up(identity) or not self.missing(identity):
            self._lacking.pop(identity, None)

    def _fill(self) -> None:
        """The next palms, for those that were given up."""
        while len(self._used) < self.num_identities and self._considered < len(self.accepted):
            identity = self.accepted[self._considered]
            self._considered += 1
            if not self.given_up(identity):
                self._used[identity] = None
                if self.missing(identity):
                    self._lacking[identity] = None

    @property
    def num_judged(self) -> int:
        """Palms of which it is decided whether they are accepted."""
        return self._judged

    def used(self) -> list[int]:
        """The first N palms that were accepted and not given up."""
        return list(self._used)

    def kept(self, identity: int) -> list[Row]:
        """The captures of a palm."""
        return [row for row in self.attempts.get(identity, ()) if row["reason"] is None]

    def missing(self, identity: int) -> int:
        """Captures that a palm lacks."""
        return self.captures - self._num_kept[identity]

    def given_up(self, identity: int) -> bool:
        """Whether all its attempts are used up."""
        spent = len(self.attempts.get(identity, ())) >= self.max_attempts * self.captures
        return spent and self.missing(identity) > 0

    def complete(self) -> list[int]:
        """Those of `used` that have all captures."""
        return [identity for identity in self._used if identity not in self._lacking]

    @property
    def num_complete(self) -> int:
        """How many `complete` has."""
        return len(self._used) - len(self._lacking)

    @property
    def num_kept(self) -> int:
        """Captures of all that are used."""
        return sum(self._num_kept[identity] for identity in self._used)

    # --- what is to do ---

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
