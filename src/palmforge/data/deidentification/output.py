"""The directory of de-identified photographs: pictures, manifest, and what could not be done."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.deidentification.crops import paste
from palmforge.data.deidentification.photographs import (
    Hand,
    Photograph,
    is_grey,
    output_names,
    picture_digest,
)
from palmforge.data.deidentification.plan import DeidentificationPlan
from palmforge.data.generation.output import is_there, refuse_foreign
from palmforge.data.images import read_image
from palmforge.errors import BadImage, ConfigError, DataError

MANIFEST, PROBLEMS = "manifest.parquet", "problems.csv"
_PARTS = ".parts"  # rows of a group each, until the last picture is there
_COLUMNS = ("source", "left_out", "reason")
_SCHEMA = pa.schema(
    {
        "file": pa.string(), "source": pa.string(), "variant": pa.int64(), "width": pa.int64(),
        "height": pa.int64(), "hands": pa.list_(pa.string()),
        "quads": pa.list_(pa.list_(pa.float64())), "boxes": pa.list_(pa.list_(pa.int64())),
        "seeds": pa.list_(pa.int64()), "notes": pa.list_(pa.string()), "settings": pa.string(),
    }
)  # fmt: skip
Row = dict[str, Any]


class DeidentifiedFolder:
    """Where results go.

    Attributes:
        done: Sources that are not written again.
        made_by: Settings, for the manifest.

    Args:
        out: The directory.
        plan: What is done.
        others: Files of the input that are no pictures → why.
        feather: Of `paste`, as a share of a crop's side.
        jpeg_quality: null: PNG.
    """

    def __init__(
        self,
        out: Path,
        plan: DeidentificationPlan,
        others: dict[str, str],
        feather: float,
        jpeg_quality: int | None,
    ) -> None:
        self.out, self.plan, self.others = out, plan, others
        self.feather, self.jpeg_quality = feather, jpeg_quality
        suffix = ".png" if jpeg_quality is None else ".jpg"
        names = output_names(plan.sources, plan.preparation.variants, suffix)
        self.names = dict(zip(plan.sources, names, strict=True))
        self.done: set[str] = set()
        self.made_by: Row = {}

    @property
    def problems_path(self) -> Path:
        """Of the table of problems."""
        return self.out / PROBLEMS

    def look(self) -> set[str]:
        """Sources that are done: all their files are there, or why they cannot be is known."""
        rows, problems = self._read()
        files = {row["file"] for row in rows}
        whole = {source for source, names in self.names.items() if files.issuperset(names)}
        return whole | {p["source"] for p in problems if p["left_out"]}

    def sweep(self, done: set[str]) -> None:
        """Deletes what a killed process was writing."""
        for source in self.names.keys() - done:
            for path in (self.out / name for name in self.names[source]):
                for aside in path.parent.glob(f".{glob.escape(path.name)}.*"):
                    aside.unlink()

    def write(
        self,
        photographs: Sequence[Photograph],
        repainted: Sequence[Sequence[Sequence[Tensor | None]]],
    ) -> None:
        """The pictures of a group that are not there yet, then its rows."""
        rows: list[Row] = []
        problems: list[Row] = []
        for photograph, hands in zip(photographs, repainted, strict=True):
            if photograph.source in self.done:
                continue
            found = self._write(photograph, hands)
            if isinstance(found, str):
                problems.append({"source": photograph.source, "left_out": True, "reason": found})
                continue
            rows += found
            problems += [
                {"source": photograph.source, "left_out": False, "reason": note}
                for note in photograph.notes
            ]
        if not rows and not problems:
            return
        text = "\n".join(photograph.source for photograph in photographs)
        path = self.out / _PARTS / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        if path.exists():  # of a killed run; one of its pictures was lost since
            more, other = json.loads(path.read_text(encoding="utf-8"))
            rows, problems = more + rows, other + problems
        with write_aside(path) as aside:
            aside.write_text(json.dumps([rows, problems]), encoding="utf-8")

    def _write(
        self, photograph: Photograph, hands: Sequence[Sequence[Tensor | None]]
    ) -> list[Row] | str:
        """All variants of a picture, or why there are none."""
        if photograph.reason is not None:
            return photograph.reason
        if not hands or any(made is None for variants in hands for made in variants):
            return "the model gave numbers that are not finite"
        path = Path(self.plan.root) / photograph.source
        try:
            original, _ = read_image(path)
        except BadImage as error:
            return f"unreadable: {error.reason}"
        if picture_digest(original) != photograph.digest:
            return "it was changed while it was worked on"
        profile = color_profile(path)
        rows = []
        for variant, file in enumerate(self.names[photograph.source]):
            made = [one for one in (variants[variant] for variants in hands) if one is not None]
            picture = composed(original, photograph.hands, made, self.feather)
            save_picture(self.out / file, picture, profile, self.jpeg_quality)
            rows.append(self._row(photograph, variant, file, picture))
        return rows

    def _row(self, photograph: Photograph, variant: int, file: str, picture: np.ndarray) -> Row:
        hands = photograph.hands
        return {
            "file": file,
            "source": photograph.source,
            "variant": variant,
            "width": picture.shape[1],
            "height": picture.shape[0],
            "hands": [hand.handedness for hand in hands],
            "quads": [np.ravel(hand.quad).tolist() for hand in hands],
            "boxes": [[hand.box.left, hand.box.top, hand.box.side] for hand in hands],
            "seeds": [hand.seeds[variant] for hand in hands],
            "notes": photograph.notes,
            "settings": json.dumps(self.made_by, sort_keys=True),
        }

    def join(self) -> tuple[list[Row], list[Row]]:
        """All rows and all problems in one table each, in the order of their names."""
        rows, problems = self._read()
        known = {problem["source"] for problem in problems}
        problems += [
            {"source": source, "left_out": True, "reason": why}
            for source, why in self.others.items()
            if source not in known
        ]
        rows = sorted({row["file"]: row for row in rows}.values(), key=lambda r: r["file"])
        unique = {(p["source"], p["reason"]): p for p in problems}
        problems = [unique[key] for key in sorted(unique)]
        with write_aside(self.out / MANIFEST) as aside:
            pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), aside)
        with (
            write_aside(self.problems_path) as aside,
            aside.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, _COLUMNS)
            table.writeheader()
            table.writerows({**p, "left_out": "yes" if p["left_out"] else "no"} for p in problems)
        shutil.rmtree(self.out / _PARTS, ignore_errors=True)
        return rows, problems

    def _read(self) -> tuple[list[Row], list[Row]]:
        """Rows whose files are there, and problems.

        Raises:
            DataError: If a table is damaged.
        """
        path = self.out / MANIFEST
        try:
            rows = pq.read_table(path).to_pylist() if path.exists() else []
            path = self.problems_path
            problems: list[Row] = []
            if path.exists():
                with path.open(newline="", encoding="utf-8") as file:
                    problems = [
                        {**row, "left_out": row["left_out"] == "yes"}
                        for row in csv.DictReader(file)
                    ]
            for path in sorted((self.out / _PARTS).glob("[0-9a-f]*.json")):
                more, other = json.loads(path.read_text(encoding="utf-8"))
                rows, problems = rows + more, problems + other
        except (ValueError, KeyError) as error:  # pyarrow's, json's and csv's
            raise DataError(
                f"{path}: damaged ({error}). Delete it: its pictures are made again"
            ) from error
        return [row for row in rows if is_there(self.out / row["file"])], problems


def composed(
    original: np.ndarray, hands: Sequence[Hand], repainted: Sequence[Tensor], feather: float
) -> np.ndarray:
    """A photograph with its palms repainted, `[H, W, 3]` uint8; a grey one stays grey.

    Args:
        original: `[H, W, 3]` uint8.
        hands: Of the photograph.
        repainted: `[3, S, S]` uint8, one for each hand.
        feather: Of `paste`, as a share of a crop's side.
    """
    picture = original.copy()
    for hand, made in zip(hands, repainted, strict=True):
        pixels = made.permute(1, 2, 0).numpy()
        if is_grey(original):
            pixels = np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
        paste(picture, pixels, hand.box, hand.full_mask, feather * hand.box.side)
    return picture


def save_picture(
    path: Path, picture: np.ndarray, profile: bytes | None, jpeg_quality: int | None = None
) -> None:
    """`[H, W, 3]` uint8 RGB, whole or not at all, with no metadata but a colour profile."""
    options: dict[str, Any] = {"format": "PNG"}
    if jpeg_quality is not None:
        options = {"format": "JPEG", "quality": jpeg_quality, "subsampling": 0}
    with write_aside(path) as aside:
        Image.fromarray(picture).save(aside, icc_profile=profile, **options)


def color_profile(path: Path) -> bytes | None:
    """The ICC profile of an RGB picture; one of other inks says nothing of its RGB pixels."""
    try:
        with Image.open(path) as picture:
            profile = picture.info.get("icc_profile")
    except Exception:  # read_image says what is wrong with it
        return None
    is_rgb = isinstance(profile, bytes) and profile[16:20] == b"RGB "
    return profile if is_rgb else None


def is_new_folder(out: Path, settings: str, images: Path) -> bool:
    """Whether nothing has been done there yet; it can be written to.

    Args:
        out: Where results go.
        settings: Name of the file that tells how they were made.
        images: The photographs.

    Raises:
        ConfigError: If it is the photographs' folder, in it or around it, or holds other files.
        DataError: If it cannot be written to.
    """
    refuse_inside(out, images)
    is_new = not (out / settings).exists()
    if is_new:
        refuse_foreign(out, "data.out", "were not written here")
    check_writable(out, "data.out")
    return is_new


def made_by(module: Any) -> dict[str, Any]:
    """What a `Deidentifier` tells of itself; a model in a folder is known by what is in it."""
    settings = {**module.provenance, **module.digests()}
    if settings["model_sha256"] is not None:
        settings.pop("model")
    return settings


def refuse_inside(out: Path, images: Path) -> None:
    """Originals and results never mix.

    Raises:
        ConfigError: If one directory is the other, or lies in it.
    """
    first, second = out.resolve(), images.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise ConfigError(
            f"data.out: {out} is the folder of the photographs ({images}), in it or around it; "
            "give a directory beside it: nothing may mix with the originals"
        )
