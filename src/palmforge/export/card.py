"""The model card: what `model.json` says, in words, and what may be done with the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from palmforge.export.exportable import Role

_HEAD = """---
library_name: {library}
license: other
pipeline_tag: image-feature-extraction
tags: [palmprint, biometrics, palmforge]
---
# {name}

{what}
`{file}` ({size:.2f} MiB, {format}) takes `image` [N, 3, {side}, {side}] uint8 RGB, any N: nothing is normalised outside of it.
"""  # noqa: E501
_WHAT: dict[Role, str] = {
    "code": "Turns a palm's region of interest into a code of {bits} bits; codes are compared by "
    "Hamming distance.",
    "embedding": "Turns a palm's region of interest into a unit vector; vectors are compared by "
    "cosine distance.",
    "landmarks": "Finds 14 + 21 points of the palm in an upright crop.",
    "detector": "Finds palms in a picture: centre, size, direction and hand.",
}
_USES: dict[str, str] = {
    "recogniser": """
## Intended use

Comparing palms whose owners have agreed to it: verification on a phone, research on palmprints. A region of interest is upright:
fingers up, index side on the right, as PalmForge's locator cuts it.

**Not for** identifying people without their knowledge, for surveillance, or as the only lock of anything of value: there is no
detection of presentation attacks in it, and a printed palm may pass.

## Limits

- Error rates are those of the pictures named above, and of no others. {rendered}A new camera, light
  or way of holding the hand changes them: measure on your own palms, and set the threshold there, before you rely on either.
- Nobody has looked whether error rates differ between skin tones, ages or kinds of work. Look, before people depend on it.
- A threshold is a choice: {threshold}

## Biometric data

A palmprint cannot be changed once it is lost. **Templates are biometric data too**, of which the palm can be recognised again and
perhaps partly rebuilt: encrypt them, keep them on the device, delete them on request, and ask for consent first (GDPR Art. 9 and
its like bind you, not the author of the file). The file holds weights: no picture, no name and no class of its training palms.
""",  # noqa: E501
    "finder": """
## Intended use

Finding the palm in a picture whose owner has agreed to it, before a recogniser looks at it; guiding the hand before a camera.
**Not for** looking for people.

## Limits

- Trained on hands of one kind of picture, it misses others: gloves, fists, hands half out of view. Measure on your own pictures.
- Nobody has looked whether it finds all skin tones equally often. Look, before people depend on it.

## Biometric data

What it cuts out is biometric data (GDPR Art. 9 and its like): ask for consent, and keep it on the device. The file holds weights,
and no picture.
""",  # noqa: E501
}
_PROTOCOLS = {
    "first_five": "first_five (closed set: the tested palms trained it, other pictures are tested)",
    "open_set": "open_set (nobody who is tested trained it)",
    "cross_domain": "cross_domain (closed set: enrolled in one domain, tested in another)",
}
_RATES = ("eer", "tar@far=1e-1", "tar@far=1e-2", "tar@far=1e-3", "tar@far=1e-4", "rank1")
_DISTANCES = {"hamming": "Hamming", "cosine": "cosine"}
_LIBRARY = {"onnx": "onnx", "onnx-int8": "onnx", "torch_export": "pytorch"}


def model_card(model: dict[str, Any]) -> str:
    """The card in Markdown, with the header that model hubs read.

    Args:
        model: What `model.json` holds.
    """
    network = model["network"]
    what = _WHAT[network["role"]].format(bits=network.get("bits", ""))
    head = _HEAD.format(
        library=_LIBRARY.get(model["format"], model["format"]), name=model["name"], what=what,
        file=model["file"], size=model["bytes"] / 2**20, format=model["format"],
        side=network["image_size"],
    )  # fmt: skip
    parts = [head, _table("Outputs", ("output", "what"), list(model["outputs"].items()))]
    parts += [_trained_on(model), _tested(model), _checked(model), _latency(model)]
    recogniser = model["distance"] is not None
    uses = _USES["recogniser" if recogniser else "finder"]
    if recogniser:
        uses = uses.format(threshold=_threshold(model), rendered=_rendered(model))
    parts += [uses, _made_by(model)]
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def _trained_on(model: dict[str, Any]) -> str:
    told = dict(model["trained_on"])
    told["protocol"] = _PROTOCOLS.get(told.get("protocol", ""), "")
    rows = [(key, _cell(value)) for key, value in told.items() if value]
    if not rows:
        return "\n## Data\n\nNot known: no `run.json` lies beside the checkpoint.\n"
    return _table("Data", ("trained on", ""), rows)


def _tested(model: dict[str, Any]) -> str:
    test = model["test"]
    if model["distance"] is None:
        return ""
    if test is None:
        return (
            "\n## Metrics of the run\n\nNot known: no `results.json` of a test of this checkpoint. "
            "Below is what the export itself measured.\n"
        )
    metrics = {key.removeprefix("test/"): value for key, value in test["metrics"].items()}
    return _rates("Metrics of the run", metrics, "The test of the run, PyTorch's network")


def _rates(title: str, figures: dict[str, Any], of: str) -> str:
    rows = []
    for key in _RATES:
        if figures.get(key) is None:
            continue
        low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
        interval = "–" if low is None or high is None else f"{100 * low:.2f} – {100 * high:.2f}"
        rows.append((_rate_name(key), f"{100 * figures[key]:.2f}", interval))
    pairs = f"{figures['num_genuine']:,.0f} genuine and {figures['num_impostor']:,.0f} impostor"
    table = _table(title, ("", "%", "95 % interval"), rows)
    return f"{table}\n{of}; {pairs} pairs. Intervals: bootstrap of identities.\n"


def _checked(model: dict[str, Any]) -> str:
    checks = model["checks"]
    rows = [(key.replace("_", " "), _number(value)) for key, value in checks["agreement"].items()]
    text = _table("This file against PyTorch", ("", ""), rows)
    text += f"\n{checks['images']:,} pictures: {checks['pictures']}.\n"
    if model["distance"] is not None:
        text += "\n" + _rates("Metrics of this file", checks["figures"], f"On {checks['pictures']}")
        before, after = checks["pytorch"]["eer"], checks["figures"]["eer"]
        text += f"\nEER of PyTorch on the same pairs: {100 * before:.2f} %"
        text += f"; of this file {100 * after:.2f} % ({100 * (after - before):+.2f} points).\n"
    for way in checks.get("int8", []):
        cost = (
            "points move by {mean_pixels:.2f} pixels"
            if model["distance"] is None
            else ("{eer_cost_points:+.2f} points of EER")
        )
        told = " (this file)" if way["taken"] else ""
        text += (
            f"\n- int8, {way['way']}: {way['bytes'] / 1024:,.0f} KiB, {cost.format(**way)}{told}"
        )
    return text + (f"\n\n**{checks['warning']}**\n" if checks.get("warning") else "")


def _latency(model: dict[str, Any]) -> str:
    latency = model["latency"]
    rows = [
        (name, f"{took['median']:.3f}", f"{took['p95']:.3f}", str(took["runs"]))
        for name, took in latency["milliseconds"].items()
    ]
    table = _table("Latency", ("one picture, one thread", "median ms", "p95 ms", "runs"), rows)
    return f"{table}\n{latency['processor']}. Not a phone: measure there.\n"


def _threshold(model: dict[str, Any]) -> str:
    threshold = model["threshold"]
    return (
        f"`model.json` accepts a {_DISTANCES[model['distance']]} distance of at most "
        f"{threshold['accept_at_or_below']:g}, where {100 * threshold['far']:.3g} % of strangers "
        f"pass and {100 * threshold['frr']:.3g} % of owners do not ({threshold['measured_on']}, "
        f"{threshold['impostor_pairs']:,} pairs of strangers; for {threshold['chosen_for']})."
    )


def _rendered(model: dict[str, Any]) -> str:
    if "rendered" not in model["checks"]["pictures"]:
        return ""
    return "**Rendered palms are no people**: nothing said of them holds for real ones. "


def _made_by(model: dict[str, Any]) -> str:
    rows = [(key, _cell(value)) for key, value in model["made_by"].items() if value]
    closing = (
        "\nFill in `license` above before you publish: that of the training palms binds the "
        "weights.\n"
    )
    return _table("What made it", ("", ""), rows) + closing


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"## {title}\n", f"| {' | '.join(columns)} |", "|" + ":---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _rate_name(key: str) -> str:
    names = {"eer": "EER", "rank1": "rank 1"}
    return names.get(key, key.upper().replace("1E", "1e"))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
