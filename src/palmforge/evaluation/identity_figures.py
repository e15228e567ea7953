"""Drawings of what dial and sharing of noise do to captures. They show numbers, no palm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palmforge.evaluation.identity import Findings, Judge
from palmforge.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def dial_figure(found: Findings) -> Figure:
    """Achieved over requested similarity, with its spread; dashed: what was asked for."""
    axes = _axes(len(found.dials), "m asked for")
    for panel, dial, judge in zip(axes, found.dials, found.judges, strict=True):
        asked = [row.asked for row in dial.achieved]
        mean = [row.mean for row in dial.achieved]
        band = ([row.low for row in dial.achieved], [row.high for row in dial.achieved])
        if judge.is_cosine:
            panel.plot([-1, 1], [-1, 1], color="0.6", linestyle="--", linewidth=1)
        panel.fill_between(asked, *band, color=COLOURS[5], alpha=0.35, linewidth=0)
        panel.errorbar(
            asked, mean, [row.deviation for row in dial.achieved], color=COLOURS[0], marker="o",
            markersize=4, capsize=3,
        )  # fmt: skip
        panel.set(ylabel=f"{judge.unit} to the reference, achieved", xlim=(-1.05, 1.05))
        panel.set_title(f"{_called(judge)}: ρ = {dial.spearman.value:.2f}", fontsize=9)
    return axes[0].figure  # type: ignore[no-any-return]


def noise_figure(found: Findings) -> Figure:
    """Mean similarities within and between palms, and how different pictures look, over K."""
    axes = _axes(len(found.judges) + 1, "K, steps whose noise is shared")
    steps = [setting.shared_steps for setting in found.noise]
    for panel, judge in zip(axes, found.judges, strict=False):
        own = found.of(judge, found.noise)
        for name, values, colour in (
            ("to the reference", [one.to_reference.mean() for one in own], COLOURS[0]),
            ("captures of a palm", [one.within for one in own], COLOURS[2]),
            ("captures of two palms", [one.between for one in own], COLOURS[1]),
        ):
            panel.plot(steps, values, color=colour, marker="o", markersize=4, label=name)
        panel.set(ylabel=judge.unit)
        panel.set_title(_called(judge), fontsize=9)
        panel.legend(fontsize=8, frameon=False)
    spread = [found.spread[setting] for setting in found.noise]
    axes[-1].plot(steps, spread, color=COLOURS[3], marker="o", markersize=4)
    axes[-1].set(ylabel="grey levels between captures of a palm", ylim=(0, 1.1 * max(spread)))
    axes[-1].set_title("pictures", fontsize=9)
    return axes[0].figure  # type: ignore[no-any-return]


def trade_figure(found: Findings) -> Figure:
    """How different captures of a palm look, over how alike recognisers find them: m and K."""
    axes = _axes(len(found.judges), "mean similarity of two captures of a palm")
    for panel, judge in zip(axes, found.judges, strict=True):
        for name, settings, colour in (
            ("m", found.dial, COLOURS[0]),
            ("K", found.noise, COLOURS[1]),
        ):
            own = found.of(judge, settings)
            across = [one.within for one in own]
            up = [found.spread[setting] for setting in settings]
            panel.plot(across, up, color=colour, marker="o", markersize=4, label=name)
            for x, y, setting in zip(across, up, settings, strict=True):
                value = setting.similarity if name == "m" else setting.shared_steps
                panel.annotate(
                    f"{name} = {value:g}", (x, y), xytext=(4, 4), textcoords="offset points",
                    fontsize=7, color=colour,
                )  # fmt: skip
        panel.set(ylabel="grey levels between them")
        panel.set_title(_called(judge), fontsize=9)
    return axes[0].figure  # type: ignore[no-any-return]


def _axes(count: int, label: str) -> list[Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * count, 3.8), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for panel in axes:
        panel.set_xlabel(label)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(True, color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)
    return axes


def _called(judge: Judge) -> str:
    name = judge.name if len(judge.name) <= 28 else f"…{judge.name[-27:]}"
    return f"{name} (the generator's)" if judge.own else name
