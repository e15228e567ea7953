"""One capture of one palm: every number that is drawn for it, before anything is painted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palmforge.data.synthetic.articulation import Pose, sample_pose
from palmforge.data.synthetic.camera import get_preset, sample_device, sample_flash
from palmforge.data.synthetic.device import Device, legible
from palmforge.data.synthetic.light import Light, sample_light
from palmforge.data.synthetic.streams import Stream, stream
from palmforge.data.synthetic.viewpoint import Viewpoint, sample_viewpoint
from palmforge.data.synthetic.worn import Worn, sample_worn


@dataclass(frozen=True)
class Capture:
    """How one picture is taken.

    Attributes:
        flash: whether the camera's flash fires.
        pose: how the hand is held.
        viewpoint: where the camera stands.
        light: what lights the hand.
        device: the camera.
        worn: sleeve, watch, rings.
        blush: how red the skin is, 0 = as ever.
        blotches: strength of the mottling that comes and goes, log absorbance.
    """

    flash: bool
    pose: Pose
    viewpoint: Viewpoint
    light: Light
    device: Device
    worn: Worn
    blush: float
    blotches: float

    def parameters(self) -> dict[str, Any]:
        """All of it as one flat row, such as `viewpoint.roll` or `light.directions.0.2`."""
        return flat_row(self)


def subject_and_hand(identity: int) -> tuple[int, str]:
    """Person and hand of an identity: even identities are left hands, odd ones right."""
    return identity // 2, "LR"[identity % 2]


def draw_capture(identity: int, capture: int, preset: str, seed: int) -> Capture:
    """Draw a capture: a pure function of its arguments, and of no picture's size.

    Args:
        identity: palm, >= 0.
        capture: picture of that palm, >= 0.
        preset: `wild` or a domain code of XJTU-UP.
        seed: seed of the data set, >= 0.

    Returns:
        The capture.

    Raises:
        ValueError: unknown preset, or a number out of range.
    """
    kind = get_preset(preset)
    if min(identity, capture, seed) < 0:
        raise ValueError(
            "identity, capture and seed must be >= 0, got "
            f"identity={identity}, capture={capture}, seed={seed}"
        )
    wild = kind.wild

    def rng(tag: Stream) -> np.random.Generator:
        return stream(seed, tag, identity, capture, preset)

    camera, skin = rng(Stream.CAMERA), rng(Stream.SKIN)
    flash = sample_flash(kind, camera)
    left = subject_and_hand(identity)[1] == "L"
    viewpoint = sample_viewpoint(rng(Stream.VIEWPOINT), wild, left)
    device = sample_device(kind, camera)
    return Capture(
        flash=flash,
        pose=sample_pose(rng(Stream.POSE), wild),
        viewpoint=viewpoint,
        light=sample_light(kind, flash, rng(Stream.LIGHT)),
        device=legible(device, viewpoint.palm_width) if wild else device,
        worn=sample_worn(rng(Stream.WORN), wild),
        blush=float(skin.normal(0.0, 0.10 if wild else 0.04)),
        blotches=float(skin.uniform(0.0, 0.09 if wild else 0.05)),
    )


def flat_row(record: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a dataclass, its arrays and dataclasses, by dotted names."""
    return dict(_flatten(prefix, asdict(record)))


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    """Leaves of nested dictionaries, sequences and arrays, by dotted names."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return [(prefix, value)]
    dot = f"{prefix}." if prefix else ""
    return [leaf for key, item in items for leaf in _flatten(f"{dot}{key}", item)]
