"""Generated palms beside the training set: which of them give it away?

Three questions of pictures, each answered against held-out palms, which the generator has not seen:

* is a picture a training picture: the same pixels, or a near-duplicate by perceptual hash;
* is a picture one of a training palm: nearer by the recogniser than unrelated palms ever come;
* do more identities match a training identity than unrelated ones would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from palmforge.errors import DataError
from palmforge.evaluation.privacy_pictures import Seen
from palmforge.metrics.embeddings import embedding_counts
from palmforge.metrics.generation import impostor_threshold, nearest
from palmforge.metrics.perceptual_hash import nearest_hash
from palmforge.metrics.privacy import MIN_GROUPS, Excess, Membership, Reach, more_often, reach
from palmforge.metrics.scores import Floats, Ints

FMRS = (1e-3, 1e-4)
SAME, COPY, PALM = "same pixels", "near-duplicate", "same palm"
_PAIRS = 5_000  # training pictures that a threshold is taken from: 12 million pairs
_BLOCK = 20_000_000  # distances held at a time


@dataclass(frozen=True)
class Near:
    """The nearest training picture of each picture of a set.

    Attributes:
        bits: [N] of the perceptual hash; pictures without one: infinity.
        bits_row: [N] which training picture.
        cosine: [N] distance of the templates.
        cosine_row: [N] which training picture.
    """

    bits: Floats
    bits_row: Ints
    cosine: Floats
    cosine_row: Ints


@dataclass(frozen=True)
class Leak:
    """A generated picture and the training picture that it gives away.

    Attributes:
        kind: `SAME`, `COPY` or `PALM`.
        row: Of the generated picture.
        training_row: Of the training picture.
        distance: Bits, or cosine distance.
    """

    kind: str
    row: int
    training_row: int
    distance: float


@dataclass
class Matches:
    """Identities that match a training identity at a false match rate.

    Attributes:
        fmr: Of unrelated pairs of pictures.
        threshold: Cosine distance.
        of_all: Share of the generated identities, by all their pictures.
        images: Pictures an identity that `excess` counts by.
        excess: Against unrelated identities.
        refused: Why there is none.
    """

    fmr: float
    threshold: float | None = None
    of_all: float | None = None
    images: int = 0
    excess: Excess | None = None
    refused: str | None = None


@dataclass
class Audit:
    """All that was found.

    Attributes:
        generated: Nearest training pictures of the generated pictures.
        held_out: Those of the held-out ones.
        bits: What no unrelated picture reaches by perceptual hash.
        cosine: The same by the recogniser.
        leaks: Pictures, worst kind and nearest first; a picture comes once.
        matches: One a false match rate.
        alpha: Level of each test: the whole audit's over their number.
        membership: Of a checkpoint.
        no_membership: Why there is none.
        found: Self-test: kind of change → share of changed training pictures that were found.
        seen_again: Share of training pictures that the recogniser would have told from another
            capture of the same palm; None: each palm has one picture.
    """

    generated: Near
    held_out: Near
    bits: Reach
    cosine: Reach
    leaks: list[Leak]
    matches: list[Matches]
    alpha: float
    membership: Membership | None = None
    no_membership: str | None = None
    found: dict[str, float] = field(default_factory=dict)
    seen_again: float | None = None

    @property
    def reasons(self) -> list[str]:
        """Why it leaks, in words; empty where it does not."""
        told = []
        for kind, words in _WORDS.items():
            count = sum(leak.kind == kind for leak in self.leaks)
            if count:
                subject = "1 picture" if count == 1 else f"{count:,} pictures"
                told.append(f"{subject} with {words}")
        for one in self.matches:
            if one.excess is not None and one.excess.p_value <= self.alpha:
                told.append(
                    f"{100 * one.excess.share:.2f} % of the identities match a training identity "
                    f"at FMR {100 * one.fmr:g} %, {100 * one.excess.unrelated:.2f} % of unrelated "
                    f"ones do (p = {one.excess.p_value:.1e})"
                )
        if self.membership is not None and self.membership.p_value <= self.alpha:
            told.append(
                f"the generator's loss tells training pictures (AUC {self.membership.auc:.3f}, "
                f"p = {self.membership.p_value:.1e})"
            )
        return told

    @property
    def not_measurable(self) -> list[str]:
        """What the sets are too small for, in words: a set that shows no leak is not clean yet."""
        return [
            f"identities at FMR {100 * one.fmr:g} % ({one.refused})"
            for one in self.matches
            if one.excess is None
        ]


_WORDS = {
    SAME: "the pixels of a training picture",
    COPY: "the perceptual hash of a training picture, nearly",
    PALM: "a training palm nearer than unrelated palms come",
}


def audit_pictures(
    generated: Seen, training: Seen, held_out: Seen, alpha: float, tests: int
) -> Audit:
    """Looks for training pictures and palms among the generated ones.

    Args:
        generated: At least one picture.
        training: With all views hashed.
        held_out: Of `MIN_GROUPS` identities or more that the generator has not seen.
        alpha: Chance that a clean set is found to leak, by any of the tests.
        tests: How many there are.

    Raises:
        DataError: A set is empty, or held-out pictures or palms are training ones.
    """
    for name, one in (("images", generated), ("training", training)):
        if not one.records:
            raise DataError(f"{name}: no picture can be used, so there is nothing to compare")
    if len(held_out.identities) < MIN_GROUPS:
        raise DataError(
            f"held_out: {len(held_out.identities)} identities; {MIN_GROUPS} or more are needed to "
            "know how near unrelated palms come (some hundreds to find single leaks)"
        )
    near, unrelated = near_to(generated, training), near_to(held_out, training)
    _check_apart(held_out, training, unrelated)
    told, level = unrelated.bits[np.isfinite(unrelated.bits)], alpha / tests
    if told.size < MIN_GROUPS:
        raise DataError(f"held_out: {told.size} pictures that are not of one grey; more are needed")
    pictures, groups = len(generated.records), len(held_out.identities)
    bits = reach(told, pictures, level, groups)
    cosine = reach(unrelated.cosine, pictures, level, groups)
    leaks = _leaks(generated, training, near, bits.threshold, cosine.threshold)
    sets = (generated, training, held_out)
    matches = [_matches(fmr, sets, near, unrelated, level) for fmr in FMRS]
    again = _seen_again(training, cosine.threshold)
    return Audit(near, unrelated, bits, cosine, leaks, matches, level, seen_again=again)


def near_to(pictures: Seen, training: Seen) -> Near:
    """The nearest training picture of each, by perceptual hash and by the recogniser."""
    usable = np.flatnonzero(~training.flat)
    bits, row = np.full(len(pictures.records), np.inf), np.zeros(len(pictures.records), np.int64)
    if usable.size:
        views = training.hashes.shape[1]
        others = training.hashes[usable].reshape(usable.size * views, -1)
        found = nearest_hash(pictures.hashes[:, 0], others)
        bits = np.where(pictures.flat, np.inf, found.distance)
        row = usable[found.row // views]
    close = nearest(pictures.embeddings, training.embeddings, block=_BLOCK)
    return Near(bits, row, close.distance.double().numpy(), close.row.numpy())


def _check_apart(held_out: Seen, training: Seen, near: Near) -> None:
    """Raises if what should be unrelated is not: every threshold would be wrong."""
    known = dict(zip(training.digests, training.records, strict=True))
    both = [
        (record.path, known[digest].path)
        for record, digest, flat in zip(
            held_out.records, held_out.digests, held_out.flat, strict=True
        )
        if digest in known and not flat
    ]
    if both:
        raise DataError(
            f"held_out: {len(both):,} of {len(held_out.records):,} pictures are training pictures "
            f"({both[0][0]} is {both[0][1]}); name palms that the generator has not seen"
        )
    theirs = set(training.identities)
    shared = [row for row, record in enumerate(held_out.records) if record.identity in theirs]
    same = [
        row
        for row in shared
        if training.records[near.cosine_row[row]].identity == held_out.records[row].identity
    ]
    # Of two databases, palms of one name are mostly not one palm: chance decides 1 in thousands.
    if len(same) > max(3.0, 0.05 * len(shared) + 3 * len(shared) / len(theirs)):
        raise DataError(
            f"held_out: {len(same):,} of {len(held_out.records):,} pictures are nearest to the "
            f"training identity of their own name (first {held_out.records[same[0]].path}): they "
            "are the palms that were trained on. Name others"
        )


def _leaks(generated: Seen, training: Seen, near: Near, bits: float, cosine: float) -> list[Leak]:
    first: dict[bytes, int] = {}
    for row, digest in enumerate(training.digests):
        first.setdefault(digest, row)
    found = []
    for row, digest in enumerate(generated.digests):
        if digest in first and not generated.flat[row]:
            found.append(Leak(SAME, row, first[digest], 0.0))
        elif near.bits[row] <= bits:
            found.append(Leak(COPY, row, int(near.bits_row[row]), float(near.bits[row])))
        elif near.cosine[row] <= cosine:
            found.append(Leak(PALM, row, int(near.cosine_row[row]), float(near.cosine[row])))
    order = [SAME, COPY, PALM]
    return sorted(found, key=lambda leak: (order.index(leak.kind), leak.distance, leak.row))


def _matches(
    fmr: float,
    sets: tuple[Seen, Seen, Seen],
    near: Near,
    unrelated: Near,
    level: float,
) -> Matches:
    """The threshold comes from pairs of training palms, the test knows nothing of these.

    One from held-out pairs would lie just where held-out palms seldom match.
    """
    generated, training, held_out = sets
    some = _even(len(training.records))
    counts = embedding_counts(
        training.embeddings[some], training.labels[some.numpy()], distance="cosine", fars=(fmr,)
    )
    reason = counts.far_refusal(fmr)
    threshold = -np.inf if reason else impostor_threshold(counts, fmr)
    if not np.isfinite(threshold):
        reason = reason or "the smallest distance is that of too many pairs"
        reason = reason.replace("FAR", "FMR").replace("impostor pairs", "pairs of training palms")
        return Matches(fmr, refused=reason)
    images = min(_most_have(one) for one in (generated, held_out))
    ours = _matching(generated, near, images, threshold)
    theirs = _matching(held_out, unrelated, images, threshold)
    whole = np.full(len(generated.identities), np.inf)
    np.minimum.at(whole, generated.labels, near.cosine)
    excess = more_often(*ours, *theirs, level)
    return Matches(fmr, threshold, float((whole <= threshold).mean()), images, excess)


def _most_have(one: Seen) -> int:
    """So many pictures nine in ten identities have."""
    return int(np.quantile(np.bincount(one.labels), 0.1, method="lower"))


def _matching(one: Seen, near: Near, images: int, threshold: float) -> tuple[int, int]:
    """(matches, identities), of identities with so many pictures, by so many of them.

    More pictures have more chances to match: only equally many can be compared.
    """
    labels, rows = one.labels, []
    for who in np.flatnonzero(np.bincount(labels) >= images):
        own = np.flatnonzero(labels == who)
        rows.append(own[np.arange(images) * own.size // images])
    matched = (near.cosine[np.stack(rows)] <= threshold).any(1)
    return int(matched.sum()), len(rows)


def _seen_again(training: Seen, threshold: float) -> float | None:
    """Share of training pictures that another capture of the same palm is as near to."""
    labels, found = training.labels, []
    for who in np.flatnonzero(np.bincount(labels) > 1)[:2000]:
        own = training.embeddings[torch.from_numpy(np.flatnonzero(labels == who))]
        found.append(nearest(own).distance <= threshold)
    return float(torch.cat(found).double().mean()) if found else None


def _even(count: int) -> Tensor:
    """Rows evenly spread, at the most `_PAIRS`."""
    kept = min(count, _PAIRS)
    return torch.arange(kept) * count // max(1, kept)


def finds(audit: Audit, changed: Seen, training: Seen) -> float:
    """Share of changed training pictures that the audit would list."""
    near = near_to(changed, training)
    leaks = _leaks(changed, training, near, audit.bits.threshold, audit.cosine.threshold)
    return len(leaks) / max(1, len(changed.records))


def names(leaks: Sequence[Leak], generated: Seen, training: Seen) -> list[dict[str, str | float]]:
    """The leaks with their files."""
    return [
        {
            "kind": leak.kind,
            "generated": generated.records[leak.row].path,
            "training": training.records[leak.training_row].path,
            "distance": leak.distance,
        }
        for leak in leaks
    ]
