"""What a factory has made, and what of it is kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from palmforge.data.factory.filters import Filters

Row = dict[str, Any]
Kind = Literal["reference", "capture"]
REFERENCE: Kind = "reference"
CAPTURE: Kind = "capture"
SURPLUS = "not needed"  # good, but there were enough: not rejected
GIVEN_UP = "given up"  # good, but its palm has too few


class Ledger:
    """References and attempts at captures, in whatever order they come.

    Each process has one, and all are told the same rows.

    Attributes:
        references: Palm → row of its reference.
        attempts: Palm → rows of the attempts at its captures, in order.
        accepted: Palms that are good and not too near to one before, in order.
        rejected: For references and captures: reason → how many.
        num_surplus: Captures that were good and not needed.

    Args:
        num_identities: N.
        captures: M.
        batch_size: Attempts that are made at once.
        filters: What is kept.
        max_attempts: Attempts a capture that is wanted; then a palm is given up.
    """

    def __init__(
        self,
        num_identities: int,
        captures: int,
        batch_size: int,
        filters: Filters,
        max_attempts: int,
    ) -> None:
        self.num_identities = num_identities
        self.captures = captures
        self.batch_size = batch_size
        self.filters = filters
        self.max_attempts = max_attempts
        self.references: dict[int, Row] = {}
        self.attempts: dict[int, list[Row]] = {}
        self.accepted: list[int] = []
        self.rejected: dict[Kind, Counter[str]] = {REFERENCE: Counter(), CAPTURE: Counter()}
        self.num_surplus = 0
        # Kept up to date row by row: rounds are thousands, and so are palms.
        self._num_kept: Counter[int] = Counter()
        self._used: dict[int, None] = {}  # in order
        self._lacking: dict[int, None] = {}  # those of `_used` that lack captures
        self._considered = 0  # of `accepted`: used, or given up
        self._embeddings = np.zeros((0, 0), np.float32)
        self._judged = self._known = 0  # references: all up to here; the last one that is there

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
        reasons = Counter(row["reason"] for row in fresh if row["reason"] is not None)
        self.num_surplus += reasons.pop(SURPLUS, 0)
        self.rejected[CAPTURE].update(reasons)
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
