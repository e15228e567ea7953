"""Captures of palms beside the palms: do recognisers still know them?

Two recognisers are asked at least: the one that was in the generator's loss, which a generator can
learn to please, and one that has nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from palmforge.errors import DataError
from palmforge.metrics.comparison import GALLERY, PROBE, Comparison
from palmforge.metrics.dial import Achieved, Correlation, achieved_by_asked, rank_correlation
from palmforge.metrics.generation import vendi_score
from palmforge.metrics.scores import Floats, Ints, ScoreCounts
from palmforge.recognition import EmbeddingRecognizer, Recognizer

FARS = (1e-2, 1e-3)


@dataclass(frozen=True)
class Setting:
    """What captures were asked to be.

    Attributes:
        similarity: m; None: there is no dial.
        shared_steps: K.
    """

    similarity: float | None
    shared_steps: int

    def __str__(self) -> str:
        dial = "" if self.similarity is None else f"m = {self.similarity:g}, "
        return f"{dial}K = {self.shared_steps}"


@dataclass(frozen=True)
class Judge:
    """A recogniser with what it makes of the palms that captures are of.

    Attributes:
        name: As `palmforge.recognition.load` takes it.
        recogniser: Makes and compares templates.
        own: Whether the generator learned from it.
        palms: [P, …] templates of the references.
    """

    name: str
    recogniser: Recognizer
    own: bool
    palms: Tensor

    @property
    def is_cosine(self) -> bool:
        """Whether its similarities are what m asks for; those of codes only rise with it."""
        return isinstance(self.recogniser, EmbeddingRecognizer)

    @property
    def unit(self) -> str:
        """What its similarities are."""
        return "cosine" if self.is_cosine else "1 − distance"


@dataclass(frozen=True)
class Kept:
    """What one recogniser says of the captures of one setting.

    Attributes:
        judge: Its name.
        setting: None: other captures of the palms themselves, not generated.
        palms: [N] which palm each capture is of.
        to_reference: [N] similarity of each capture to its palm.
        among: Figures of `Comparison` of captures with one another.
        found: The same of captures as probes, with the references as the gallery.
        within: Mean similarity of two captures of a palm.
        between: Of captures of two palms.
        vendi: Effective number of different captures of a palm (`vendi_score`), the mean over
            palms; NaN of codes.
        scores: Pairs of captures by distance.
    """

    judge: str
    setting: Setting | None
    palms: Ints
    to_reference: Floats
    among: dict[str, float]
    found: dict[str, float]
    within: float
    between: float
    vendi: float
    scores: ScoreCounts = field(repr=False)


@dataclass(frozen=True)
class Dial:
    """m against what a recogniser says came of it.

    Attributes:
        judge: Its name.
        achieved: A row each m.
        spearman: Of m and similarity, over all captures.
        error: Mean |m − similarity|.
    """

    judge: str
    achieved: list[Achieved]
    spearman: Correlation
    error: float


@dataclass
class Findings:
    """All that was measured.

    Attributes:
        judges: The recognisers.
        dial: Settings that differ in m alone.
        noise: Settings that differ in K alone.
        kept: A row each recogniser and setting, and of captures that are not generated.
        spread: Setting → how different captures of a palm look, in grey levels; None: of captures
            that are not generated.
        dials: A row each recogniser.
        remarks: Sentences on how it was measured.
    """

    judges: list[Judge]
    dial: list[Setting]
    noise: list[Setting]
    kept: list[Kept] = field(default_factory=list)
    spread: dict[Setting | None, float] = field(default_factory=dict)
    dials: list[Dial] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def of(self, judge: Judge, settings: Sequence[Setting | None]) -> list[Kept]:
        """What a recogniser says, in the order of the settings."""
        own = {one.setting: one for one in self.kept if one.judge == judge.name}
        return [own[setting] for setting in settings if setting in own]


def appoint(name: str, recogniser: Recognizer, own: bool, references: Tensor) -> Judge:
    """A judge of captures of these palms, `[P, 3, S, S]` uint8.

    Raises:
        DataError: It cannot read pictures of this size, or makes NaN of them.
    """
    try:
        palms = recogniser.embed(references).cpu()
    except (ValueError, RuntimeError) as error:
        side = references.shape[-1]
        raise DataError(
            f"recogniser: {name} cannot read pictures of {side} pixels: {error}"
        ) from error
    _check_finite(name, palms)
    return Judge(name, recogniser, own, palms)


def judge_captures(
    judge: Judge,
    setting: Setting | None,
    captures: Tensor,
    palms: Ints,
    intervals: int = 1000,
    seed: int = 0,
) -> Kept:
    """Embeds the captures of a setting once, and compares them with palms and each other.

    Args:
        judge: The recogniser.
        setting: Which.
        captures: [N, 3, S, S] uint8.
        palms: [N] int64, row of the judge's palms.
        intervals: Resamples of palms; 0: none.
        seed: Of the resamples.

    Raises:
        DataError: NaN in a template.
    """
    templates = judge.recogniser.embed(captures).cpu()
    _check_finite(judge.name, templates)
    distance = judge.recogniser.distance
    among = Comparison(templates, palms, None, distance, FARS, intervals, seed)
    everyone = np.concatenate([np.arange(len(judge.palms)), palms])
    role = np.where(np.arange(everyone.size) < len(judge.palms), GALLERY, PROBE)
    found = Comparison(
        torch.cat([judge.palms, templates]), everyone, role, distance, FARS, intervals, seed
    )
    scores = among.counts()
    return Kept(
        judge.name, setting, palms, _to_reference(judge, templates, palms), among.figures(),
        found.figures(), _similarity(scores, scores.genuine), _similarity(scores, scores.impostor),
        _vendi(templates, palms) if judge.is_cosine else float("nan"), scores,
    )  # fmt: skip


def of_dial(kept: Sequence[Kept], judge: str, resamples: int, seed: int = 0) -> Dial:
    """What a judge says of captures with different m, and the rest alike."""
    own = [one for one in kept if one.judge == judge and one.setting is not None]
    asked = np.concatenate([np.full(len(one.palms), one.setting.similarity) for one in own])  # type: ignore[union-attr]
    achieved = np.concatenate([one.to_reference for one in own])
    palms = np.concatenate([one.palms for one in own])
    return Dial(
        judge, achieved_by_asked(asked, achieved),
        rank_correlation(asked, achieved, palms, resamples, seed),
        float(np.abs(asked - achieved).mean()),
    )  # fmt: skip


def _to_reference(judge: Judge, templates: Tensor, palms: Ints) -> Floats:
    similarities = np.empty(len(palms))
    for palm in np.unique(palms):
        rows = np.flatnonzero(palms == palm)
        own = templates[torch.from_numpy(rows)]
        apart = judge.recogniser.distance(own, judge.palms[palm : palm + 1])
        similarities[rows] = 1 - apart[:, 0].double().cpu().numpy()
    return similarities


def _vendi(templates: Tensor, palms: Ints) -> float:
    own = (templates[torch.from_numpy(palms == palm)] for palm in np.unique(palms))
    return float(np.mean([vendi_score(some) for some in own]))


def _similarity(scores: ScoreCounts, pairs: Ints) -> float:
    """The mean over some of the pairs."""
    return 1 - float(np.dot(scores.values, pairs) / pairs.sum()) if pairs.any() else float("nan")


def _check_finite(name: str, templates: Tensor) -> None:
    bad = ~torch.isfinite(templates).flatten(1).all(1)
    if bool(bad.any()):
        raise DataError(f"recogniser: {name} makes NaN of {int(bad.sum())} pictures")
