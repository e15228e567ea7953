"""A row of the paper's tables: how palms are concealed (paper 001, Tables V–VII)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palmforge.data.deidentification.baselines import BASELINES, Baseline
from palmforge.data.deidentification.exemplars import Exemplar, check_exemplars
from palmforge.errors import ConfigError


@dataclass(frozen=True)
class Method:
    """What differs from the model's and the data's own settings.

    Attributes:
        exemplars: Any of s, m, f; null: those of the data.
        alpha: α of Eq. 2; null: the model's.
        baseline: One of the paper's in place of the model.
        strength: Of the baseline; null: its own (`baselines.conceal`).
    """

    exemplars: list[Exemplar] | None = None
    alpha: float | None = None
    baseline: Baseline | None = None
    strength: float | None = None


def check_methods(methods: Mapping[str, Method]) -> None:
    """At least one that repaints, the first of all; each makes sense.

    Raises:
        ConfigError: If not so.
    """
    first = next(iter(methods.values()), None)
    if first is None or first.baseline is not None:
        raise ConfigError("model.methods: the first must be one that repaints, not a baseline")
    for name, method in methods.items():
        where = f"model.methods: {name!r}"
        if method.baseline is None and method.strength is not None:
            raise ConfigError(f"{where}: strength is of baselines")
        if method.baseline is not None and (
            method.exemplars is not None or method.alpha is not None
        ):
            raise ConfigError(f"{where}: a baseline has neither exemplars nor alpha")
        if method.baseline not in (None, *BASELINES):
            raise ConfigError(f"{where}: baseline is one of {', '.join(BASELINES)}")
        if method.alpha is not None and not 0.0 <= method.alpha <= 1.0:
            raise ConfigError(f"{where}: alpha {method.alpha} does not lie in [0, 1]")
        if method.exemplars is not None:
            check_exemplars(method.exemplars)
