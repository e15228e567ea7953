"""How much of an identity an embedding holds: what a linear probe reads out of it.

The exemplars of paper 001 are cut from the very palm that is to be hidden, and their fused
embedding (Eq. 1) is all that the sampler is told of it. If a linear probe names the palm by that
vector, so may the picture that is made of it. To be judged, it is held against a recogniser's
embedding of the same captures, by the same split.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.errors import DataError
from palmforge.metrics.scores import ArrayLike, Floats, Ints, as_numpy

_STRENGTHS = np.logspace(-3, 5, 17)


@dataclass(frozen=True)
class Probe:
    """What a linear probe of identity achieves on captures that it has not seen.

    Attributes:
        accuracy: Share of the test samples that it names, in [0, 1].
        interval: Of it, 95 %, exact (Clopper & Pearson), as if captures were independent: those of
            one palm are not, so it is somewhat too narrow.
        chance: Accuracy of the best guess that looks at nothing: the most frequent class.
        num_classes: Identities that it chooses from.
        num_test: Test samples that count.
        left_out: Test samples of identities that it could not learn.
        l2: Strength of the penalty, chosen inside the training part where it was not given.
    """

    accuracy: float
    interval: tuple[float, float]
    chance: float
    num_classes: int
    num_test: int
    left_out: int
    l2: float

    @property
    def above_chance(self) -> bool:
        """Whether more is read than guessing would give: the interval lies above chance."""
        return self.interval[0] > self.chance


def linear_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    l2: float | None = None,
) -> Probe:
    """Closed-set identity by ridge regression on one target an identity, on standardised features.

    Args:
        train_features: `[N, D]`; D may exceed N.
        train_labels: `[N]` integers.
        test_features: `[M, D]`.
        test_labels: `[M]` integers.
        l2: Strength of the penalty, > 0; None: by leave-one-out error in the training part.

    Raises:
        DataError: NaN or infinite features (of how many samples is told); fewer than two identities
            to learn; no test sample of any of them.
        ValueError: Sizes that do not fit, or an `l2` that is not above 0.
    """
    from scipy.stats import binomtest
    from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _samples(train_features, train_labels, "train")
    x_test, y_test = _samples(test_features, test_labels, "test")
    if x.shape[1] != x_test.shape[1]:
        raise ValueError(f"features of {x.shape[1]} and {x_test.shape[1]} numbers cannot be one")
    if l2 is not None and not l2 > 0:
        raise ValueError(f"l2 must be above 0, got {l2}")
    classes = np.unique(y)
    if classes.size < 2:
        raise DataError(f"train: {classes.size} identities; a probe needs two or more to choose")
    known = np.isin(y_test, classes)
    if not known.any():
        raise DataError(f"test: none of {y_test.size} samples is of an identity of the train part")
    ridge = RidgeClassifierCV(_STRENGTHS) if l2 is None else RidgeClassifier(l2)
    probe = make_pipeline(StandardScaler(), ridge).fit(x, y)
    hits = int((probe.predict(x_test[known]) == y_test[known]).sum())
    total = int(known.sum())
    ends = binomtest(hits, total).proportion_ci(0.95, "exact")
    return Probe(
        accuracy=hits / total,
        interval=(float(ends.low), float(ends.high)),
        chance=float(np.unique(y_test[known], return_counts=True)[1].max() / total),
        num_classes=int(classes.size),
        num_test=total,
        left_out=int(y_test.size - total),
        l2=float(ridge.alpha_ if l2 is None else l2),
    )


def _samples(features: ArrayLike, labels: ArrayLike, name: str) -> tuple[Floats, Ints]:
    x, y = as_numpy(features).astype(np.float64), as_numpy(labels)
    if x.ndim != 2 or y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"{name}: features [N, D] and N integer labels expected, got {x.shape} and "
            f"{y.dtype} {y.shape}"
        )
    bad = int((~np.isfinite(x)).any(axis=1).sum())
    if bad:
        raise DataError(f"{name}: features of {bad} of {len(x)} samples hold NaN or infinity")
    return x, y.astype(np.int64)
