"""A data card: what made a set, what was rejected and why, what may be done with it."""

from __future__ import annotations

from typing import Any

from palmforge.data.factory.ledger import CAPTURE, REFERENCE
from palmforge.data.factory.plan import FactoryPlan

_HEAD = """---
license: other
task_categories: [image-feature-extraction]
tags: [palmprint, biometrics, synthetic]
---
# {name}

{palms:,} synthetic palms × {captures} captures, {size} × {size} pixels, made by PalmForge (`train.py predict`, `PalmFactory`).
None is of a person; whether they give training images away, `train.py audit` tells.
"""  # noqa: E501
_LICENCE = """
## Licence

The pictures are made by models. Their licences bind what is made with them (Stable Diffusion: CreativeML OpenRAIL-M, whose use restrictions
go on to whoever gets the pictures), and so may the terms of the palms they were trained on. Fill in `license` above before you publish.
"""  # noqa: E501


def data_card(
    name: str, plan: FactoryPlan, size: int, made_by: dict[str, Any], settings: dict[str, Any]
) -> str:
    """The card in Markdown, with the header that data set hubs read.

    Args:
        name: Of the set.
        plan: Whole.
        size: Pixels a side.
        made_by: Provenance: setting → value.
        settings: Of the plan and the filters.
    """
    parts = [_HEAD.format(name=name, palms=len(plan.complete()), captures=plan.captures, size=size)]
    parts.append(
        "\n## What was rejected\n\n| | made | rejected | why | not needed |\n"
        "|:---|---:|---:|:---|---:|"
    )
    spare = {REFERENCE: 0, CAPTURE: plan.num_surplus}
    made = {REFERENCE: plan.num_judged, CAPTURE: sum(map(len, plan.attempts.values()))}
    for kind in (REFERENCE, CAPTURE):
        reasons = ", ".join(f"{why} {count:,}" for why, count in plan.rejected[kind].most_common())
        total = plan.rejected[kind].total()
        row = (f"{kind}s", f"{made[kind]:,}", f"{total:,}", reasons or "none", f"{spare[kind]:,}")
        parts.append(f"| {' | '.join(row)} |")
    given_up = sum(map(plan.given_up, plan.accepted))
    parts.append(
        f"\n{given_up:,} palms were given up, for too few of their captures were good (those: "
        "`given up`). `not needed`: good, but there were enough. `attempts.parquet` lists every "
        "picture that was made; its `reason` is empty for those that are in the set."
    )
    for title, told in (("What made it", made_by), ("Settings", settings)):
        parts.append(f"\n## {title}\n\n| | |\n|:---|:---|")
        parts += [f"| {key} | {_cell(value)} |" for key, value in told.items()]
    parts.append(_LICENCE)
    return "\n".join(parts)


def _cell(value: Any) -> str:
    text = "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
    return f"`{text}`" if text else ""
