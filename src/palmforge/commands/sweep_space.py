"""The `parameters` of a wandb sweep: what is drawn for a trial, and what may be drawn at all."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from palmforge.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import Trial

Kind = Literal["constant", "choice", "int", "float"]
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        path: Its key, and where `parameters` are nested those above it.
        kind: What is drawn.
        values: Of a `choice`; a `constant` has one.
        low: Of a number.
        high: Of a number, itself included.
        log: Whether its logarithm is uniform.
        step: Between the numbers that may be drawn; None: any.
        quantum: What is drawn is rounded to a multiple of it (q_log_uniform_values).
    """

    path: tuple[str, ...]
    kind: Kind
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    quantum: float | None = None

    @property
    def key(self) -> str:
        """As Optuna and the tables call it."""
        return ".".join(self.path)

    def __str__(self) -> str:
        if self.kind in ("constant", "choice"):
            return ", ".join(map(str, self.values))
        how = " by its logarithm" if self.log else ""
        step = self.quantum or self.step
        return f"{self.low:g} to {self.high:g}{how}{f' in steps of {step:g}' if step else ''}"

    def suggest(self, trial: Trial) -> Any:
        """What Optuna draws, or drew for the trial that is tried again; not for a constant."""
        if self.kind == "int":
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(self.key, low, high, step=int(self.step or 1))
        if self.kind == "float":
            return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)
        return trial.suggest_categorical(self.key, self._stored())

    def decode(self, drawn: Any) -> Any:
        """What Optuna drew → the value that the command line takes."""
        if self.kind == "choice":
            return self.values[self._stored().index(drawn)]
        if self.quantum is not None:
            value = round(drawn / self.quantum) * self.quantum
            return int(value) if isinstance(self.quantum, int) else value
        return drawn

    def ends(self) -> list[Any]:
        """Every choice; of a number the smallest and the largest: what a config must accept."""
        if self.kind in ("constant", "choice"):
            return list(self.values)
        return [self.decode(int(v) if self.kind == "int" else v) for v in (self.low, self.high)]

    def grid(self) -> list[Any]:
        """All values of a grid, both ends included (of q_uniform, wandb leaves the last out).

        Raises:
            ConfigError: If there is no end of them.
        """
        if self.kind == "choice":
            return self._stored()
        if self.kind == "constant":
            return []
        if self.step is None:
            raise ConfigError(
                f"sweep: parameters.{self.key}: a grid needs values, integers or q_uniform"
            )
        number = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        points = [round(self.low + i * self.step, 12) for i in range(number)]
        return [int(p) for p in points] if self.kind == "int" else points

    def _stored(self) -> list[Any]:
        """Lists and mappings as JSON: Optuna keeps scalars only."""
        if all(isinstance(value, _SCALARS) for value in self.values):
            return list(self.values)
        return [json.dumps(value, sort_keys=True) for value in self.values]


def read_space(parameters: dict[str, Any], above: tuple[str, ...] = ()) -> list[Parameter]:
    """The parameters of a sweep file that wandb's schema has passed.

    Args:
        parameters: The mapping.
        above: Keys under which it stands.

    Raises:
        ConfigError: If Optuna has nothing like it; with the key.
    """
    found = []
    for key, spec in parameters.items():
        path = (*above, key)
        if "parameters" in spec:
            found += read_space(spec["parameters"], path)
        else:
            found.append(_read(path, spec))
    return found


def _read(path: tuple[str, ...], spec: dict[str, Any]) -> Parameter:
    where = f"sweep: parameters.{'.'.join(path)}"
    if "value" in spec:
        return Parameter(path, "constant", (spec["value"],))
    if "probabilities" in spec:
        raise ConfigError(f"{where}: Optuna draws all values alike; leave probabilities out")
    if "values" in spec:
        return Parameter(path, "choice", tuple(spec["values"]))
    kind = spec.get("distribution") or _inferred(spec)
    if kind not in _NUMBERS:
        raise ConfigError(
            f"{where}: {kind} has no end, and Optuna needs one: give min and max with one of "
            + ", ".join(_NUMBERS)
        )
    low, high = spec["min"], spec["max"]
    if not low < high:
        raise ConfigError(f"{where}: min {low} is not less than max {high}")
    if "log" in kind and low <= 0:
        raise ConfigError(f"{where}: the min of {kind} must be above 0")
    return _number(path, kind, low, high, spec.get("q", 1))


# inv_log_uniform_values: if log(1/x) is uniform, so is log x.
_NUMBERS = (
    "int_uniform", "uniform", "q_uniform", "log_uniform_values", "inv_log_uniform_values",
    "q_log_uniform_values",
)  # fmt: skip


def _inferred(spec: dict[str, Any]) -> str:
    ends = (spec["min"], spec["max"])
    return "int_uniform" if all(isinstance(end, int) for end in ends) else "uniform"


def _number(path: tuple[str, ...], kind: str, low: Any, high: Any, q: Any) -> Parameter:
    if kind == "int_uniform":
        return Parameter(path, "int", low=low, high=high, step=1)
    if kind == "q_uniform":  # multiples of q, as wandb rounds them
        first, last = round(low / q) * q, round(high / q) * q
        whole = all(isinstance(v, int) for v in (first, last, q))
        return Parameter(path, "int" if whole else "float", low=first, high=last, step=q)
    quantum = q if kind == "q_log_uniform_values" else None
    log = kind != "uniform"
    return Parameter(path, "float", low=float(low), high=float(high), log=log, quantum=quantum)


def draw(space: list[Parameter], trial: Trial) -> dict[tuple[str, ...], Any]:
    """The values of a trial, constants too, by path.

    Args:
        space: Of the sweep.
        trial: Optuna's; one that is tried again gets the values that it had.
    """
    values: dict[tuple[str, ...], Any] = {}
    for parameter in space:
        if parameter.kind == "constant":
            values[parameter.path] = parameter.values[0]
        else:
            values[parameter.path] = parameter.decode(parameter.suggest(trial))
    return values


def values_of(space: list[Parameter], drawn: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """The values of a trial that has been kept.

    Args:
        space: Of the sweep.
        drawn: Its `params`.
    """
    return {p.path: p.values[0] if p.kind == "constant" else p.decode(drawn[p.key]) for p in space}


def grid(space: list[Parameter]) -> dict[str, list[Any]]:
    """What `method: grid` goes through: key → what Optuna keeps of its values."""
    return {p.key: p.grid() for p in space if p.kind != "constant"}
