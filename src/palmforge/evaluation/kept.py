"""The scores of a whole evaluation in a folder: a folder a recogniser, in it one a part."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError, DataError
from palmforge.evaluation.parts import Part, Protocol, has_intervals
from palmforge.evaluation.run import Figuring, Judged
from palmforge.evaluation.scores import read_scores, write_scores

ABOUT = "recogniser.json"  # beside the parts
_KEYS = ("recogniser", "template_bytes", "embed_ms", "protocol", "parts", "remarks")


def check_free(folder: Path, names: Sequence[str]) -> None:
    """Raises if there are scores that would be read as those of these recognisers, too.

    Raises:
        ConfigError: With one of them.
    """
    ours = {_folder(number, name) for number, name in enumerate(names)}
    others = sorted({path.parent.name for path in folder.glob(f"*/{ABOUT}")} - ours)
    if others:
        raise ConfigError(
            f"save_scores: {folder} holds those of other recognisers ({others[0]}), which would be "
            "read as this evaluation's; name another `out`"
        )


def keep_scores(
    folder: Path,
    judged: Sequence[Judged],
    parts: Sequence[Part],
    protocol: Protocol,
    remarks: Sequence[str],
) -> None:
    """Writes all distances.

    Args:
        folder: Made if need be; earlier scores of these recognisers are replaced.
        judged: Recognisers with their comparisons.
        parts: What they were compared on.
        protocol: Which.
        remarks: What a report says of the data: that they are rendered, say.
    """
    folders = [f"{at:03d}-{_slug(part.name)}" for at, part in enumerate(parts)]
    for number, one in enumerate(judged):
        where = folder / _folder(number, one.name)
        for name, part in zip(folders, parts, strict=True):
            write_scores(where / name, part, one.comparisons[part.name])
        values = (
            one.name, one.template_bytes, one.embed_ms, protocol, folders, list(remarks),
        )  # fmt: skip
        with write_aside(where / ABOUT) as aside:
            content = json.dumps(dict(zip(_KEYS, values, strict=True)), indent=1)
            aside.write_text(content + "\n", encoding="utf-8")


def read_kept(
    folder: Path, figuring: Figuring, protocol: Protocol
) -> tuple[list[Judged], list[Part], list[str]]:
    """What `keep_scores` wrote: recognisers, parts, remarks.

    Args:
        folder: That, or the folder of the report that they were kept with.
        figuring: How figures are made.
        protocol: Must be the one that they are of.

    Raises:
        ConfigError: If they are of another protocol.
        DataError: If there are none, or they cannot be read.
    """
    judged: list[Judged] = []
    parts: list[Part] = []
    remarks: list[str] = []
    for where in sorted(folder.glob(f"*/{ABOUT}")) or sorted(folder.glob(f"scores/*/{ABOUT}")):
        about = _read(where)
        if about["protocol"] != protocol:
            raise ConfigError(
                f"scores: {folder} has those of protocol {about['protocol']}, not of {protocol}; "
                f"add --protocol {about['protocol']}"
            )
        one = Judged(about["recogniser"], {}, about["template_bytes"], about["embed_ms"])
        parts, remarks = [], about["remarks"]
        for name in about["parts"]:
            part, templates, lookup = read_scores(where.parent / name)
            resamples = figuring.intervals if has_intervals(protocol, part.name) else 0
            one.comparisons[part.name] = figuring.comparison(part, templates, lookup, resamples)
            parts.append(part)
        judged.append(one)
    if not judged:
        raise DataError(f"scores: {folder} holds none; `evaluate --save_scores true` writes some")
    return judged, parts, remarks


def _read(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return {key: about[key] for key in _KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not what `evaluate --save_scores true` writes ({error!r})"
        ) from error


def _folder(number: int, name: str) -> str:
    return f"{number:02d}-{_slug(name)}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[-60:]
