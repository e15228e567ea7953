"""A data set of rendered hands on disk, laid out as XJTU-UP."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from palmforge.data import keypoints
from palmforge.data.atomic import write_aside
from palmforge.data.progress import progress_bar
from palmforge.data.synthetic.camera import encode_jpeg, get_preset
from palmforge.data.synthetic.render import capture_keypoints14, render_palm, subject_and_hand
from palmforge.errors import DataError

FORMAT_VERSION = 1  # raise it when the same settings would give other pictures


@dataclass(frozen=True)
class SyntheticPalms:
    """What to render.

    Attributes:
        num_identities: palms; identities 2k and 2k + 1 are the left and right hand of person k.
        images_per_identity: captures of each palm in each domain.
        domains: domain codes of XJTU-UP: device initial and F(lash) or N(ature).
        size: side of the square pictures, in pixels.
        seed: everything random follows from it.
    """

    num_identities: int = 40
    images_per_identity: int = 10
    domains: tuple[str, ...] = ("IF", "IN")
    size: int = 384
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: unknown or repeated domain, nothing to render, or a number out of range.
        """
        object.__setattr__(self, "domains", tuple(self.domains))  # YAML gives lists
        for domain in self.domains:
            get_preset(domain)
        if not self.domains or len(set(self.domains)) < len(self.domains):
            raise ValueError(f"domains must be distinct and at least one, got {self.domains}")
        counts = (self.num_identities, self.images_per_identity)
        if min(counts) < 1 or self.size < 64 or self.seed < 0:
            raise ValueError(
                "num_identities and images_per_identity must be >= 1, size >= 64 and seed >= 0, "
                f"got {self}"
            )

    def file(self, identity: int, capture: int) -> str:
        """Path of a picture inside its domain's folder, such as `L_001/IMG_0001.JPG`.

        Args:
            identity: palm, from 0.
            capture: picture of that palm, from 1, as cameras count.

        Returns:
            The path, with forward slashes.
        """
        subject, hand = subject_and_hand(identity)
        return f"{hand}_{subject + 1:03d}/IMG_{capture:04d}.JPG"

    def write(self, root: str, num_workers: int = 0) -> None:
        """Render what is not there yet.

        Writes `root/{device}/{Flash|Nature}/{L|R}_{NNN}/IMG_{capture:04d}.JPG`, for each domain a
        `keypoints.csv` in its folder once all its pictures are there, and
        `root/synthetic.json`, which records these settings. The bytes do not depend on
        `num_workers`, nor on interruptions.

        Args:
            root: directory, made if need be.
            num_workers: processes; 0 and 1 render in this process.

        Raises:
            DataError: `root` was written with other settings.
        """
        self._claim(Path(root))
        todo = [domain for domain in self.domains if not self._complete(Path(root), domain)]
        rows: dict[str, list[list[str]]] = defaultdict(list)
        write_one = partial(_write_identity, self, root, todo)
        identities = range(self.num_identities if todo else 0)
        written = _map(write_one, identities, num_workers)
        for identity_rows in progress_bar(written, "rendering palms", len(identities)):
            for domain, row in identity_rows:
                rows[domain].append(row)
        for domain in todo:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([keypoints.HEADER, *sorted(rows[domain])])
            path = Path(root, get_preset(domain).folder, keypoints.CSV_NAME)
            _replace(path, text.getvalue().encode())

    def _claim(self, root: Path) -> None:
        """Record the settings in `root`, or check them against those recorded there.

        Domains may be added: the palms in them are the same.
        """
        path = root / "synthetic.json"
        settings = {"format_version": FORMAT_VERSION, **asdict(self), "domains": list(self.domains)}
        if path.exists():
            there = json.loads(path.read_text())
            domains = list(dict.fromkeys([*there["domains"], *self.domains]))
            if {**there, "domains": domains} != {**settings, "domains": domains}:
                raise DataError(
                    f"{path} was written with other settings ({there}); "
                    f"give {settings} another directory, or delete this one"
                )
            settings["domains"] = domains
        elif root.is_dir() and any(root.iterdir()):
            raise DataError(
                f"{root} holds files that were not rendered here; give an empty or new directory"
            )
        _replace(path, (json.dumps(settings, indent=2) + "\n").encode())

    def _complete(self, root: Path, domain: str) -> bool:
        """Whether a domain has its key points and all its pictures."""
        folder = root / get_preset(domain).folder
        return (folder / keypoints.CSV_NAME).exists() and all(
            (folder / self.file(identity, capture)).exists()
            for identity in range(self.num_identities)
            for capture in range(1, self.images_per_identity + 1)
        )


def _write_identity(
    palms: SyntheticPalms, root: str, domains: list[str], identity: int
) -> list[tuple[str, list[str]]]:
    """Write all pictures of one identity; return the (domain, row of keypoints.csv) of each."""
    rows = []
    for domain in domains:
        preset = get_preset(domain)
        for capture in range(1, palms.images_per_identity + 1):
            file = palms.file(identity, capture)
            path = Path(root, preset.folder, file)
            what = (identity, capture, domain, palms.size, palms.seed)
            if path.exists():
                points = capture_keypoints14(*what)
            else:
                image, truth = render_palm(*what)
                _replace(path, encode_jpeg(image, preset))
                points = truth.keypoints14
            rows.append((domain, [file, *(f"{value:.2f}" for value in np.ravel(points))]))
    return rows


def _replace(path: Path, data: bytes) -> None:
    """Write a file under another name first: a file that is there is whole."""
    with write_aside(path) as aside:
        aside.write_bytes(data)


def _map(function: Callable, jobs: Iterable, num_workers: int) -> Iterator:
    """Apply a function to jobs in order, in this process or in others."""
    if num_workers <= 1:
        yield from map(function, jobs)
        return
    # OpenCV's thread pool does not survive a fork: a child that uses it waits for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with multiprocessing.get_context().Pool(num_workers, cv2.setNumThreads, (1,)) as pool:
            yield from pool.imap(function, jobs)
    finally:
        cv2.setNumThreads(threads)
