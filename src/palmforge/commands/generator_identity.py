"""`train.py generator identity`: do captures keep the palm, and what do dial and K do to them?"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from palmforge.commands.generator_captures import (
    Sampler,
    check_asked,
    loaded,
    prepare_noise,
    run_config,
    settings_of,
)
from palmforge.commands.generator_identity_results import Shown, write_results
from palmforge.commands.generator_references import ReferencePalms, reference_palms
from palmforge.data.atomic import check_writable
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.generation.prompts import draw_prompts, read_prompts
from palmforge.data.layouts import Layout
from palmforge.data.protocols import Role
from palmforge.data.roi_cache import RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError
from palmforge.evaluation.data import EvaluationData
from palmforge.evaluation.identity import (
    Findings,
    Judge,
    Setting,
    appoint,
    judge_captures,
    of_dial,
)
from palmforge.evaluation.overlap import check_unseen
from palmforge.evaluation.parts import Part
from palmforge.metrics.dial import picture_spread
from palmforge.modules.identity_controlnet import IdentityControlNet
from palmforge.recognition import load
from palmforge.recognition.weights import EMBEDDED

_COLUMNS = 10  # captures of a palm in a montage
_PROMPTS = 4096  # drawn, as the DataModule draws them
_HELD_OUT = SyntheticPalms(50, 5, ("IF",), 80, 4242, "rois")  # no config of the package has it


def identity(
    checkpoint: str,
    references: str = SYNTHETIC,
    layout: Layout = "auto",
    domains: list[str] | None = None,
    num_identities: int = 50,
    captures: int = 10,
    recogniser: str | list[str] = "mtcc",
    similarities: list[float] | None = None,
    shared_steps: list[int] = [0],  # noqa: B006  (never changed)
    eta: float | None = None,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    control_guidance_scale: float | None = None,
    prompts: str | list[str] | None = None,
    averaged: bool = True,
    batch_size: int = 10,
    intervals: int = 1000,
    rows: int = 8,
    out: str = "results/identity",
    roi: RoiSettings = RoiSettings(),  # noqa: B008  (frozen)
    localizer: str | None = None,
    cache_dir: str = "data/cache",
    num_workers: int = 2,
    synthetic: SyntheticPalms = _HELD_OUT,
    synthetic_dir: str = "data/synthetic",
    seed: int = 0,
) -> None:
    """Measures how well captures of an IdentityControlNet keep the palm.

    Captures of palms that it has not seen are made for each m of the dial, if it has one, and each
    K, with the same seeds and words. Recognisers say how near each comes to its palm, and whether
    captures of one palm are told from those of another. Where the references have further
    pictures, the same is said of these: better than they are nothing can be.

    Args:
        checkpoint: Of a run of `IdentityControlNet`.
        references: Palms that it was not trained on, one picture or more each; or `synthetic`:
            rendered ones.
        layout: How files lie under `references`.
        domains: Only these of them; null for all.
        num_identities: Palms, at the most; of rendered ones just so many.
        captures: Of each palm and setting.
        recogniser: What `palmforge.recognition.load` takes, or a list: one that the ControlNet has
            not learned from. The one that it learned from, if any, is asked too.
        similarities: m; null: −1, −0.5, 0, 0.5, 1 where there is a dial.
        shared_steps: K; noise of the last K steps is shared among the captures of a palm.
        eta: Of DDIM, for all settings; null: the model's own, but 1 where K > 0 needs noise.
        num_inference_steps: T; null: the model's own.
        guidance_scale: Of the words; null: the model's own.
        control_guidance_scale: Of the palm; null: the model's own.
        prompts: What captures are like: a text file with a prompt a line, or a list; null: drawn.
        averaged: The averages of `WeightEMA`, where there are any.
        batch_size: Captures of a palm at once.
        intervals: Resamples of palms for 95 % intervals; 0: none.
        rows: Palms in the montages.
        out: A new folder for report.html, report.md with figures/, identity.json, and montages
            (captures_*.png), which show the references: biometric data.
        roi: How references are cut; they get the model's size.
        localizer: Finds the palm in photographs without key points, see `PalmDataModule`.
        cache_dir: Where cut ROIs are kept.
        num_workers: Threads that cut, processes that render.
        synthetic: The rendered palms.
        synthetic_dir: Where they are rendered to.
        seed: Of captures, words and resamples.
    """
    settings = dict(locals())
    folder = _checked(
        out, num_identities=(num_identities, 2), captures=(captures, 2), rows=(rows, 1),
        batch_size=(batch_size, 1), intervals=(intervals, 0), seed=(seed, 0),
        num_inference_steps=(1 if num_inference_steps is None else num_inference_steps, 1),
    )  # fmt: skip
    words = draw_prompts(_PROMPTS, seed=seed) if prompts is None else read_prompts(prompts)
    check_asked(checkpoint, similarities, shared_steps, eta)
    config = run_config(checkpoint)
    _check_seed(references, synthetic, config)
    known = {name: load(name) for name in _asked(recogniser)}  # small beside the ControlNet
    net = loaded(
        checkpoint, averaged, num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale, control_guidance_scale=control_guidance_scale,
    )  # fmt: skip
    dial, noise = settings_of(net, similarities, shared_steps)
    remarks = [prepare_noise(net, max(shared_steps), eta)]
    side = synthetic.size if references == SYNTHETIC else net.image_size
    data = EvaluationData(
        references, layout, domains, replace(roi, size=side), localizer, False,
        cache_dir, num_workers, replace(synthetic, num_identities=num_identities), synthetic_dir,
    )  # fmt: skip
    _check_large_enough(data, net.image_size)
    names = asked_recognisers(recogniser, net, config)
    recognisers = {name: known[name] if name in known else load(name) for name in names}
    palms = reference_palms(data, num_identities, captures, net.image_size)
    judges = [appoint(name, one, names[name], palms.pictures) for name, one in recognisers.items()]
    remarks += [_of_training(data, config), *_remarks(net, data, palms, judges, captures)]
    found = Findings(judges, dial, noise, remarks=[remark for remark in remarks if remark])
    sampler = Sampler(
        net, palms.pictures, [record.path for record in palms.records], words, captures,
        batch_size, seed,
    )  # fmt: skip
    shown = _measure(found, sampler, palms, rows, intervals, seed)
    write_results(folder, found, palms, shown, settings)


def _checked(out: str, **least: tuple[int, int]) -> Path:
    """The folder of the results, before an hour is spent on them."""
    for key, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{key}: must be {lowest} or more, got {value}")
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"out: {out} is there and not empty; name another folder")
    check_writable(folder, "out")
    return folder


def _check_large_enough(data: EvaluationData, side: int) -> None:
    """Raises where rendered palms are smaller than the model's pictures."""
    if data.root == SYNTHETIC and data.synthetic.size < side:
        raise ConfigError(
            f"synthetic.size: palms of {data.synthetic.size} pixels are too small for a model of "
            f"{side}; take {side * 5 // 4}"
        )


def _check_seed(references: str, synthetic: SyntheticPalms, config: dict[str, Any] | None) -> None:
    """Raises where rendered palms are those of the training."""
    theirs = {} if config is None else config["data"]
    seed = (theirs.get("synthetic") or {}).get("seed")
    if references == theirs.get("root") == SYNTHETIC and seed == synthetic.seed:
        raise ConfigError(
            f"synthetic.seed: the ControlNet was trained on palms of the seed {seed}; name another"
        )


def _of_training(data: EvaluationData, config: dict[str, Any] | None) -> str | None:
    root = None if config is None else config["data"].get("root")
    if data.root == SYNTHETIC or not root or root == SYNTHETIC:
        return None
    if Path(root).expanduser().resolve() != Path(data.root).expanduser().resolve():
        return None
    return f"The ControlNet was trained on palms of {root} too: captures of those prove little."


def asked_recognisers(
    recogniser: str | list[str], net: IdentityControlNet, config: dict[str, Any] | None
) -> dict[str, bool]:
    """Recognisers, and whether the ControlNet has learned from them; its own comes first.

    Args:
        recogniser: Those that the user names.
        net: The ControlNet.
        config: Of its run (`run_config`): the checkpoint alone does not tell of the identity loss.

    Raises:
        ConfigError: None is named.
    """
    asked = _asked(recogniser)
    own = net.recogniser if _learned(net, config) else None
    if own is None:
        return dict.fromkeys(asked, False)
    others = [name for name in asked if not _related(name, own)]
    if not others:
        warnings.warn(
            f"recogniser: the ControlNet has learned from {own}: what that says proves little. "
            "Name another one",
            stacklevel=3,
        )
    return {own: True, **dict.fromkeys(others, False)}


def _asked(recogniser: str | list[str]) -> list[str]:
    asked = [recogniser] if isinstance(recogniser, str) else list(dict.fromkeys(recogniser))
    if not asked:
        raise ConfigError("recogniser: name one or more")
    return asked


def _learned(net: IdentityControlNet, config: dict[str, Any] | None) -> bool:
    """Whether its recogniser took part in the training; yes where that is not known."""
    if net.has_dial or net.identity_weight > 0 or "embedding" in net.condition_names:
        return True
    return config is None or bool(config["model"].get("identity_weight", 0.0))


def _related(one: str, other: str) -> bool:
    """The same, or the package's own at another time of its training."""
    if {one, other} <= EMBEDDED.keys():
        return True
    return one == other or Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def _remarks(
    net: IdentityControlNet,
    data: EvaluationData,
    palms: ReferencePalms,
    judges: Sequence[Judge],
    captures: int,
) -> list[str]:
    count = len(palms.records)
    remarks = [
        f"{captures} captures of each of {count} palms a setting, {net.image_size} pixels, "
        f"{net.num_inference_steps} steps, eta={net.eta:g}, guidance {net.guidance_scale:g} by "
        f"words and {net.control_guidance_scale:g} by the palm; each setting has the same seeds "
        "and words."
    ]
    if data.root == SYNTHETIC:
        remarks.append("The palms are rendered: no figure here is one of real palms.")
    if palms.problems:
        remarks.append(f"{len(palms.problems):,} pictures were left out, see problems.csv.")
    if all(judge.own for judge in judges):
        remarks.append("The ControlNet has learned from the only recogniser: that proves little.")
    part = Part("references", palms.records, [Role.ALL] * count)
    for judge in judges:
        known = getattr(judge.recogniser, "class_names", None)
        try:
            check_unseen(judge.name, known, data, [part])
        except DataError:
            remarks.append(f"{judge.name} was trained on some of the palms (by name).")
    return remarks


def _measure(
    found: Findings,
    sampler: Sampler,
    palms: ReferencePalms,
    rows: int,
    intervals: int,
    seed: int,
) -> Shown:
    """Fills `found`; pictures of one setting are in memory at a time, but those of montages."""
    console = Console(markup=False, highlight=False)
    shown: Shown = {}

    def judge_all(setting: Setting | None, pictures: Tensor, of: np.ndarray) -> None:
        found.spread[setting] = picture_spread(pictures, of)
        found.kept += [
            judge_captures(judge, setting, pictures, of, intervals, seed) for judge in found.judges
        ]

    if len(set(palms.others_of.tolist())) > 1:
        judge_all(None, palms.others, palms.others_of)
    for setting in dict.fromkeys([*found.dial, *found.noise]):
        start = time.perf_counter()
        pictures = sampler(setting)
        seconds = time.perf_counter() - start
        console.print(f"{setting}: {len(pictures):,} captures in {seconds:,.0f} s")
        judge_all(setting, pictures, sampler.palms)
        shape = (sampler.num_palms, sampler.captures, *pictures.shape[1:])
        shown[setting] = pictures.reshape(shape)[:rows, :_COLUMNS].clone()
    if found.dial:
        kept = [one for one in found.kept if one.setting in found.dial]
        found.dials = [of_dial(kept, judge.name, intervals, seed) for judge in found.judges]
    return shown
