"""What a report consists of: plain values, no layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALIGNMENTS = {"l": "left", "r": "right", "c": "center"}


@dataclass(frozen=True)
class Rate:
    """A share, shown in percent, with its interval.

    Attributes:
        value: In [0, 1]; NaN where there is none.
        low: Lower end of the interval in [0, 1], or None.
        high: Upper end.
        digits: Decimals of the percentage.
    """

    value: float
    low: float | None = None
    high: float | None = None
    digits: int = 2


Cell: TypeAlias = "str | int | float | Rate | None"


@dataclass(frozen=True)
class Heading:
    """The start of a section; level 2 or 3 (1 is the report's title)."""

    text: str
    level: int = 2

    def __post_init__(self) -> None:
        if self.level not in (2, 3):
            raise ValueError(f"heading {self.text!r}: level must be 2 or 3, got {self.level}")


@dataclass(frozen=True)
class Paragraph:
    """Plain text: nothing in it is taken for markup."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows under named columns; the first column names the row.

    Attributes:
        title: Shown above it.
        columns: Names.
        rows: As many cells each as there are columns. None and NaN are shown as "–".
        note: Shown below it.
        align: A letter a column of `l`, `r`, `c`; empty: words left, the rest right.
        is_private: It names files of people: reports show it, trackers are not given it.

    Raises:
        ValueError: A row or `align` of another length than `columns`, or another letter.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    align: str = ""
    is_private: bool = False

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: row {number} has {len(row)} cells, "
                    f"there are {len(self.columns)} columns"
                )
        if self.align and (
            len(self.align) != len(self.columns) or not set(self.align) <= set(ALIGNMENTS)
        ):
            raise ValueError(
                f"table {self.title!r}: align must be {len(self.columns)} letters of l, r, c, "
                f"got {self.align!r}"
            )

    @property
    def alignment(self) -> str:
        """A letter a column."""
        if self.align:
            return self.align
        return "".join(
            "r" if _all_numbers([row[column] for row in self.rows]) else "l"
            for column in range(len(self.columns))
        )


def _all_numbers(cells: list[Cell]) -> bool:
    told = [cell for cell in cells if cell is not None]
    return all(isinstance(cell, (Real, Rate)) for cell in told)


@dataclass(frozen=True, eq=False)
class Plot:
    """A drawing of numbers: curves, bars. Palms belong into a `PairList`.

    Attributes:
        title: Shown above it; leave the figure's own title empty.
        figure: A matplotlib figure. Long curves make long files: `det_figure(..., max_points=400)`.
        caption: Shown below it.
    """

    title: str
    figure: Figure
    caption: str = ""


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A matrix of numbers, coloured by size, for example EERs of domain against domain.

    Attributes:
        title: Shown above it.
        rows: [R] names.
        columns: [C] names.
        values: [R, C], in the unit in which they are to be shown; None or NaN: empty.
        corner: What rows and columns are, for example `enrolled ↓ probed →`.
        note: Shown below it.
        digits: Decimals shown.
        low: Value of the first colour; None: the smallest.
        high: Value of the last colour; None: the largest.

    Raises:
        ValueError: values are not [R, C].
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]
    corner: str = ""
    note: str = ""
    digits: int = 2
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.values]
        if lengths != [len(self.columns)] * len(self.rows):
            raise ValueError(
                f"heat map {self.title!r}: {len(self.rows)} rows of {len(self.columns)} values "
                f"are needed, got rows of {lengths}"
            )


@dataclass(frozen=True, eq=False)
class Pair:
    """Two palms side by side.

    Attributes:
        left: [H, W, 3] uint8 RGB.
        right: [H, W, 3] uint8 RGB.
        caption: Which they are and how far apart.

    Raises:
        ValueError: pictures of another shape or type.
    """

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    caption: str = ""

    def __post_init__(self) -> None:
        for side, image in (("left", self.left), ("right", self.right)):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise ValueError(
                    f"pair {self.caption!r}: {side} must be [H, W, 3] uint8, "
                    f"got {list(image.shape)} {image.dtype}"
                )


@dataclass(frozen=True, eq=False)
class PairList:
    """Pairs of palms. Biometric data: put it in only where the user allowed pictures.

    Attributes:
        title: Shown above them.
        pairs: The most telling first.
        note: Shown below them.
        limit: No more than these are shown.
    """

    title: str
    pairs: Sequence[Pair]
    note: str = ""
    limit: int = 12

    @property
    def shown(self) -> Sequence[Pair]:
        """The first `limit` pairs."""
        return self.pairs[: self.limit]

    @property
    def remark(self) -> str:
        """The note, and how many pairs were left out."""
        left_out = len(self.pairs) - len(self.shown)
        count = f"{len(self.shown)} of {len(self.pairs)} pairs." if left_out else ""
        return f"{self.note} {count}".strip()


@dataclass(frozen=True, eq=False)
class Details:
    """Blocks that are folded away until asked for."""

    summary: str
    blocks: Sequence[Block]


Block: TypeAlias = "Heading | Paragraph | Table | Plot | HeatMap | PairList | Details"


@dataclass(frozen=True, eq=False)
class Report:
    """The whole.

    Attributes:
        title: Of the page.
        subtitle: One sentence under it.
        blocks: In reading order.
        provenance: Where it came from: command, versions, git revision; may be nested.
        config_yaml: The resolved config.
    """

    title: str
    subtitle: str = ""
    blocks: Sequence[Block] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    config_yaml: str | None = None


def walk(blocks: Sequence[Block]) -> Iterator[Block]:
    """All blocks in reading order, also those inside `Details`."""
    for block in blocks:
        yield block
        if isinstance(block, Details):
            yield from walk(block.blocks)
