"""What the key-point files of a folder say about its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from palmforge.data import keypoints
from palmforge.data.records import Point


class Sidecar:
    """The `keypoints.csv` of a folder, if it has one, and the JSON files beside the pictures.

    Args:
        folder: Names in the CSV are relative to it.

    Raises:
        DataError: If there is a CSV that is not the documented one.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / keypoints.CSV_NAME
        self.points: dict[str, tuple[Point, ...]] = {}
        self.bad_lines: dict[str, str] = {}
        if self.path.is_file():
            self.points, self.bad_lines = keypoints.read_csv(self.path)

    def points_of(
        self, path: Path, name: str, beside: Iterable[str]
    ) -> tuple[str | None, tuple[Point, ...] | None]:
        """What is known of one picture: from the CSV line, else from the JSON file beside it.

        Args:
            path: The picture.
            name: As the CSV would call it.
            beside: Names of the files in its folder (a lookup each would cost on a network drive).

        Returns:
            problem: Why it is left out, or None.
            points: Its 14 points, or None where nobody gives any.
        """
        if name in self.bad_lines:
            return f"left out: {self.bad_lines[name]}", None
        listed = self.points.get(name)
        if listed is None and path.with_suffix(".json").name in beside:
            try:
                listed = keypoints.read_json(path.with_suffix(".json"))
            except ValueError as error:
                return f"left out: {error}", None
        if listed is None and self.points:  # never a whole hand in place of its palm
            return f"left out: not listed in {self.path}", None
        return None, listed

    def unmet(self, seen: Iterable[str]) -> Mapping[str, str]:
        """Path → complaint, for each line whose picture is not there."""
        names = sorted((self.points.keys() | self.bad_lines.keys()) - set(seen))
        complaint = f"listed in {keypoints.CSV_NAME}, but not there"
        return {str(self.path.parent / name): complaint for name in names}
