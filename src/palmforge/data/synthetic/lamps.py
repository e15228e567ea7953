"""The light of a capture: flash, windows, lamps, the sun, and whatever else there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.data.synthetic.camera import Preset
from palmforge.data.synthetic.streams import truncated_normal

_UP = -np.pi / 2  # azimuth of a lamp above: y points down


@dataclass(frozen=True)
class Light:
    """The light of one capture. View space: x right, y down, z towards the camera.

    Attributes:
        kind: what it is, such as "flash" or "window".
        directions: [n, 3] unit vectors towards the lamps, strongest first.
        strengths: [n] of the lamps.
        colours: [n, 3] linear RGB of the lamps, mean 1.
        ambient: strength of the light from everywhere.
        ambient_colour: [3] linear RGB, mean 1.
        lean: [3] how much the ambient light prefers one side; length 0..1.
        wrap: how far light wraps around skin, because it travels inside it.
        shine: strength of the specular reflection, at its peak.
        roughness: width of the reflection: 0.1 wet, 0.2 oily, 0.4 dry.
        rim: reflection of the surroundings where skin is seen at a grazing angle.
        falloff: how quickly the light weakens away from `centre`, per squared half picture.
        centre: [2] brightest point of the picture, in half pictures from the middle.
        shadow: depth of the soft shadows that people and things around cast.
        pattern: a shadow with edges: "none", "edge", "blinds" or "leaves".
        pattern_depth: share of the light that it takes away.
        pattern_softness: width of its edges, in half pictures.
        background: brightness of the background against the hand.
    """

    kind: str
    directions: np.ndarray
    strengths: np.ndarray
    colours: np.ndarray
    ambient: float
    ambient_colour: np.ndarray
    lean: np.ndarray
    wrap: float
    shine: float
    roughness: float
    rim: float
    falloff: float
    centre: np.ndarray
    shadow: float
    pattern: str
    pattern_depth: float
    pattern_softness: float
    background: float

    @property
    def direction(self) -> np.ndarray:
        """[3] unit vector towards the strongest lamp."""
        return self.directions[0]

    @property
    def main(self) -> float:
        """Strength of the strongest lamp."""
        return float(self.strengths[0])

    @property
    def background_light(self) -> np.ndarray:
        """[3] float32 linear RGB that lights what is behind the hand."""
        lamps = (self.strengths[:, None] * self.colours).sum(0) * 0.6
        light = lamps + self.ambient * self.ambient_colour
        return (self.background * light / light.mean()).astype(np.float32)


def sample_light(preset: Preset, flash: bool, rng: np.random.Generator) -> Light:
    """Light of one capture.

    Args:
        preset: an XJTU-UP domain, or the wild.
        flash: whether the camera's flash fires.
        rng: the capture's generator.

    Returns:
        The flash's light, or that of a room (XJTU-UP), or any light at all (wild).
    """
    if preset.wild:
        return _wild_flash(rng) if flash else _wild_light(rng)
    return _phone_flash(rng) if flash else _room(rng)


def _light(
    rng: np.random.Generator,
    kind: str,
    lamps: list[tuple[np.ndarray, float, np.ndarray]],
    ambient: float,
    **others,
) -> Light:
    """A light of (direction, strength, colour) lamps; what is not given is unremarkable."""
    lamps = sorted(lamps, key=lambda lamp: -lamp[1])
    directions = np.array([lamp[0] for lamp in lamps], np.float64)
    values: dict = {
        "ambient_colour": np.ones(3, np.float32),
        "lean": np.append(0.2 * truncated_normal(rng, 2), 0.0),
        "wrap": rng.uniform(0.08, 0.20),
        "shine": rng.uniform(0.0, 0.05),
        "roughness": 0.35,
        "rim": 0.0,
        "falloff": rng.uniform(0.0, 0.10),
        "centre": 0.35 * truncated_normal(rng, 2),
        "shadow": rng.uniform(0.05, 0.28),
        "pattern": "none",
        "pattern_depth": 0.0,
        "pattern_softness": 0.1,
        "background": rng.uniform(0.6, 1.2),
    }
    values.update(others)
    # Longer, it would take light away from the other side.
    values["lean"] = values["lean"] / max(1.0, float(np.linalg.norm(values["lean"])))
    return Light(
        kind=kind,
        directions=directions / np.linalg.norm(directions, axis=1, keepdims=True),
        strengths=np.array([lamp[1] for lamp in lamps], np.float64),
        colours=np.array([lamp[2] for lamp in lamps], np.float64),
        ambient=float(ambient),
        **values,
    )


def _tinted(warmth: float, green: float = 0.0) -> np.ndarray:
    """A light's colour [3], mean 1: warm above 0, blue below."""
    colour = np.exp(np.array([warmth, green, -warmth]))
    return colour / colour.mean()


def _at(azimuth: float, elevation: float) -> np.ndarray:
    """Direction [3] from azimuth (radians, 0 = right, −π/2 = above) and elevation in degrees."""
    flat, up = np.cos(np.deg2rad(elevation)), np.sin(np.deg2rad(elevation))
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), up])


def _phone_flash(rng: np.random.Generator) -> Light:
    """XJTU-UP, Flash: the phone's own light in a lit room."""
    direction = np.array([*(0.13 * truncated_normal(rng, 2)), 1.0])
    colour = _tinted(rng.normal(0.0, 0.025), 0.02 * rng.standard_normal())
    return _light(
        rng,
        "flash",
        [(direction, rng.uniform(0.72, 0.95), colour)],
        rng.uniform(0.10, 0.30),
        ambient_colour=colour,
        shine=rng.uniform(0.03, 0.12),
        falloff=rng.uniform(0.12, 0.40),
        shadow=0.04,
        background=rng.uniform(0.25, 0.8),
    )


def _room(rng: np.random.Generator) -> Light:
    """XJTU-UP, Nature: daylight or lamps of a room, from above more often than from below."""
    colour = _tinted(rng.normal(0.02, 0.05), 0.02 * rng.standard_normal())
    direction = _at(rng.normal(_UP, 1.1), rng.uniform(28, 65))
    return _light(
        rng,
        "room",
        [(direction, rng.uniform(0.45, 0.85), colour)],
        rng.uniform(0.25, 0.55),
        ambient_colour=colour,
        background=rng.uniform(0.7, 1.15),
    )


def _skin_shine(rng: np.random.Generator) -> dict:
    """How skin mirrors in the wild: matt, as usual, oily or wet."""
    state = rng.random()
    if state < 0.35:
        shine, roughness = rng.uniform(0.0, 0.03), rng.uniform(0.35, 0.5)
    elif state < 0.80:
        shine, roughness = rng.uniform(0.02, 0.10), rng.uniform(0.25, 0.4)
    elif state < 0.95:
        shine, roughness = rng.uniform(0.08, 0.25), rng.uniform(0.17, 0.28)
    else:
        shine, roughness = rng.uniform(0.2, 0.5), rng.uniform(0.11, 0.18)
    rim = rng.uniform(0.0, 0.5)
    return {"shine": float(shine), "roughness": float(roughness), "rim": float(rim)}


def _wild_flash(rng: np.random.Generator) -> Light:
    """A flash in a dark place, or at noon: glare, quick fall-off, a black background."""
    spread = 0.13 if rng.random() < 0.7 else 0.4  # a flash gun off the camera
    direction = np.array([*(spread * truncated_normal(rng, 2)), 1.0])
    surroundings = _tinted(rng.normal(0.08, 0.15))
    return _light(
        rng,
        "flash",
        [(direction, rng.uniform(0.7, 1.1), _tinted(rng.normal(-0.02, 0.04)))],
        rng.uniform(0.03, 0.35),
        ambient_colour=surroundings,
        **{**_skin_shine(rng), "shine": float(rng.uniform(0.03, 0.35))},
        falloff=rng.uniform(0.1, 0.9),
        shadow=rng.uniform(0.0, 0.08),
        background=float(np.exp(rng.uniform(np.log(0.04), np.log(0.9)))),
    )


def _wild_light(rng: np.random.Generator) -> Light:
    """Any light but the flash."""
    makers = (_overcast, _window, _ceiling, _sun, _raking, _from_behind, _coloured, _mixed)
    shares = [0.16, 0.20, 0.17, 0.16, 0.12, 0.06, 0.05, 0.08]
    return makers[int(rng.choice(len(makers), p=shares))](rng)


def _overcast(rng: np.random.Generator) -> Light:
    """Light from everywhere: hardly a shadow on the palm."""
    colour = _tinted(rng.normal(-0.02, 0.05))
    lamp = (_at(rng.normal(_UP, 0.8), rng.uniform(30, 80)), rng.uniform(0.02, 0.25), colour)
    return _light(
        rng,
        "overcast",
        [lamp],
        rng.uniform(0.7, 1.0),
        ambient_colour=colour,
        lean=0.6 * np.append(np.array([0, -1]) + 0.5 * rng.standard_normal(2), 0) * rng.random(),
        shadow=rng.uniform(0.0, 0.15),
        background=float(np.exp(rng.normal(0.0, 0.35))),
        **_skin_shine(rng),
    )


def _window(rng: np.random.Generator) -> Light:
    """A large soft light from one side."""
    colour, azimuth = _tinted(rng.normal(-0.03, 0.06)), rng.normal(_UP, 1.4)
    main = _at(azimuth, rng.uniform(15, 60))
    return _light(
        rng,
        "window",
        [(main, rng.uniform(0.5, 0.95), colour)],
        rng.uniform(0.15, 0.5),
        ambient_colour=_tinted(rng.normal(0.06, 0.06)),
        lean=main * rng.uniform(0.2, 0.9),
        wrap=rng.uniform(0.15, 0.40),
        falloff=rng.uniform(0.0, 0.25),
        centre=main[:2] * rng.uniform(0.2, 1.0),
        background=float(np.exp(rng.normal(-0.25, 0.45))),
        **_skin_shine(rng),
    )


def _ceiling(rng: np.random.Generator) -> Light:
    """One to three lamps of a room, above."""
    colour = _tinted(rng.normal(0.04, 0.08), rng.normal(0.0, 0.03))
    lamps = [
        (_at(rng.normal(_UP, 0.9), rng.uniform(20, 75)), rng.uniform(0.25, 0.7), colour)
        for _ in range(int(rng.integers(1, 4)))
    ]
    return _light(
        rng,
        "ceiling",
        [(d, s / np.sqrt(len(lamps)), c) for d, s, c in lamps],
        rng.uniform(0.2, 0.55),
        ambient_colour=_tinted(rng.normal(0.05, 0.06)),
        background=float(np.exp(rng.normal(-0.15, 0.4))),
        **_skin_shine(rng),
    )


def _sun(rng: np.random.Generator) -> Light:
    """The sun: hard, with a blue sky in the shadows, through leaves or past an edge."""
    pattern = str(rng.choice(["none", "edge", "leaves", "blinds"], p=[0.55, 0.25, 0.13, 0.07]))
    warmth = rng.uniform(0.0, 0.2)
    return _light(
        rng,
        "sun",
        [(_at(rng.normal(_UP, 1.3), rng.uniform(18, 75)), rng.uniform(0.8, 1.3), _tinted(warmth))],
        rng.uniform(0.10, 0.35),
        ambient_colour=_tinted(-rng.uniform(0.02, 0.25)),
        wrap=rng.uniform(0.05, 0.15),
        pattern=pattern,
        pattern_depth=0.0 if pattern == "none" else float(rng.uniform(0.4, 0.95)),
        pattern_softness=float(np.exp(rng.uniform(np.log(0.015), np.log(0.3)))),
        background=float(np.exp(rng.normal(0.0, 0.5))),
        **_skin_shine(rng),
    )


def _raking(rng: np.random.Generator) -> Light:
    """A lamp low at the side: every crease throws its shadow."""
    colour = _tinted(rng.normal(0.03, 0.1))
    main = _at(rng.uniform(-np.pi, np.pi), rng.uniform(7, 26))
    return _light(
        rng,
        "raking",
        [(main, rng.uniform(0.8, 1.4), colour)],
        rng.uniform(0.06, 0.30),
        ambient_colour=_tinted(rng.normal(0.0, 0.08)),
        wrap=rng.uniform(0.05, 0.22),
        falloff=rng.uniform(0.0, 0.3),
        centre=main[:2] * rng.uniform(0.0, 1.0),
        background=float(np.exp(rng.normal(-0.7, 0.7))),
        **_skin_shine(rng),
    )


def _from_behind(rng: np.random.Generator) -> Light:
    """A window or the sun behind the hand: a bright rim, and the palm in the shade."""
    behind = _at(rng.normal(_UP, 1.0), -rng.uniform(5, 45))
    fill = _at(rng.uniform(-np.pi, np.pi), rng.uniform(20, 80))
    return _light(
        rng,
        "behind",
        [
            (behind, rng.uniform(0.5, 1.3), _tinted(rng.normal(0.05, 0.08))),
            (fill, rng.uniform(0.1, 0.4), _tinted(rng.normal(0.0, 0.06))),
        ],
        rng.uniform(0.3, 0.6),
        ambient_colour=_tinted(rng.normal(-0.04, 0.08)),
        wrap=rng.uniform(0.2, 0.4),
        background=float(np.exp(rng.uniform(np.log(1.0), np.log(4.0)))),
        **{**_skin_shine(rng), "rim": float(rng.uniform(0.3, 1.2))},
    )


def _coloured(rng: np.random.Generator) -> Light:
    """LEDs, stage lights, screens."""
    lamps = []
    for _ in range(int(rng.integers(1, 4))):
        colour = np.exp(rng.uniform(0.2, 0.9) * rng.standard_normal(3))
        where = _at(rng.uniform(-np.pi, np.pi), rng.uniform(15, 80))
        lamps.append((where, rng.uniform(0.3, 0.9), colour / colour.mean()))
    surroundings = np.exp(0.25 * rng.standard_normal(3))
    return _light(
        rng,
        "coloured",
        lamps,
        rng.uniform(0.15, 0.45),
        ambient_colour=surroundings / surroundings.mean(),
        falloff=rng.uniform(0.0, 0.4),
        background=float(np.exp(rng.normal(-0.8, 0.7))),
        **_skin_shine(rng),
    )


def _mixed(rng: np.random.Generator) -> Light:
    """Daylight from one side, a warm lamp from another."""
    azimuth = rng.normal(_UP, 1.4)
    day = _tinted(-rng.uniform(0.03, 0.2))
    lamp = _tinted(rng.uniform(0.1, 0.4), rng.normal(0, 0.04))
    return _light(
        rng,
        "mixed",
        [
            (_at(azimuth, rng.uniform(15, 60)), rng.uniform(0.3, 0.8), day),
            (
                _at(azimuth + rng.uniform(1.2, 5.0), rng.uniform(15, 70)),
                rng.uniform(0.2, 0.6),
                lamp,
            ),
        ],
        rng.uniform(0.15, 0.45),
        background=float(np.exp(rng.normal(-0.2, 0.4))),
        **_skin_shine(rng),
    )
