"""A directory of a public database → records."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from palmforge.data.databases.registry import Database, Form, Kind
from palmforge.data.images import is_image
from palmforge.data.records import PalmRecord
from palmforge.data.sidecar import Sidecar

_SESSIONS = {"F": "1", "S": "2", "I": "1", "II": "2"}


@dataclass(frozen=True)
class _Picture:
    """One picture whose name was understood."""

    path: Path
    name: str  # below the root, with forward slashes
    beside: frozenset[str]
    kind: Kind
    record: PalmRecord


def read(top: Path, database: Database) -> tuple[list[PalmRecord], dict[str, str]]:
    """Reads a directory by the names of its files. No picture is opened.

    Key points come from `keypoints.csv` in `top`, with paths relative to it, or from a JSON file
    beside a picture. Where crops and whole hands lie in one tree the crops are taken, unless the
    hands have key points: a set never mixes the two.

    Args:
        top: The release, or a folder of it.
        database: Its row of the registry.

    Returns:
        records: In no particular order.
        problems: Path → why it was left out. Files that are no pictures are none.
    """
    problems: dict[str, str] = {}
    sidecar = Sidecar(top)
    pictures, seen = [], []
    for picture in _pictures(top, database, problems):
        seen.append(picture.name)
        problem, points = sidecar.points_of(picture.path, picture.name, picture.beside)
        if problem is not None:
            problems[str(picture.path)] = problem
        else:
            pictures.append(replace(picture, record=replace(picture.record, keypoints=points)))
    problems.update(sidecar.unmet(seen))
    return [picture.record for picture in _one_kind(top, pictures, problems)], problems


def expected(database: Database) -> str:
    """The names that are taken, by example."""
    return " or ".join(form.example for form in database.forms)


def _pictures(top: Path, database: Database, problems: dict[str, str]) -> Iterator[_Picture]:
    patterns = [(form, _compiled(form)) for form in database.forms]
    for folder, names in _folders(top, re.compile(database.skip or r"(?!)"), problems):
        beside = frozenset(names)
        for path in (folder / name for name in names if is_image(Path(name))):
            name = path.relative_to(top).as_posix()
            for form, pattern in patterns:
                if (match := pattern.fullmatch(name)) is not None:
                    record = _record(path, database, match.groupdict())
                    yield _Picture(path, name, beside, form.kind, record)
                    break
            else:
                problems[str(path)] = f"not named like {expected(database)}: left out"


def _compiled(form: Form) -> re.Pattern[str]:
    return re.compile(rf"(?:.*?/)??{form.pattern}{form.suffix}", re.IGNORECASE)


def _folders(
    top: Path, skip: re.Pattern[str], problems: dict[str, str]
) -> Iterator[tuple[Path, list[str]]]:
    """Each folder and the sorted names of its files; hidden folders and copies are passed over."""

    def unreadable(error: OSError) -> None:
        problems[str(error.filename)] = f"cannot be read ({error.strerror}): left out"

    visited = set()
    for folder, below, names in os.walk(top, onerror=unreadable, followlinks=True):
        if (real := os.path.realpath(folder)) in visited:  # a link back up would never end
            below.clear()
            continue
        visited.add(real)
        for name in [name for name in below if skip.fullmatch(name)]:
            problems[os.path.join(folder, name)] = "masks or altered copies: left out"
        below[:] = sorted(n for n in below if n[0] != "." and not skip.fullmatch(n))
        yield Path(folder), sorted(names)


def _record(path: Path, database: Database, groups: dict[str, str | None]) -> PalmRecord:
    fields = {name: text.upper() for name, text in groups.items() if text is not None}
    if "session" in fields:
        fields["session"] = _SESSIONS.get(fields["session"], fields["session"])
    if database.numbers_per_palm is not None:
        palm = (int(fields["number"]) - 1) // database.numbers_per_palm + 1
        fields["subject"] = f"{palm:03d}"
    try:
        domain = database.domain.format(**fields)
    except KeyError:  # a variant without that part in its name
        domain = ""
    hand = fields.get("hand", "")[:1]
    identity = f"{hand}_{fields['subject']}" if hand else fields["subject"]
    device = dict(database.device_codes).get(fields.get("device", ""), "")
    return PalmRecord(str(path), fields["subject"], hand, identity, device, domain=domain)


def _one_kind(top: Path, pictures: list[_Picture], problems: dict[str, str]) -> list[_Picture]:
    """The crops, where there are crops and whole hands; the hands if they have key points."""
    hands = [picture for picture in pictures if picture.kind == "hand"]
    if len(hands) in (0, len(pictures)):
        return pictures
    located = any(picture.record.keypoints is not None for picture in hands)
    wanted, unwanted = ("hand", "roi") if located else ("roi", "hand")
    words = {"hand": "whole hands", "roi": "ROI crops"}
    counts = Counter(picture.path.parent for picture in pictures if picture.kind == unwanted)
    for folder, count in sorted(counts.items()):
        problems[str(folder)] = (
            f"{count} {words[unwanted]} left out, because {top} has {words[wanted]} as well: "
            "for the others give a root that holds nothing else"
        )
    return [picture for picture in pictures if picture.kind == wanted]
