"""The registry as a page: `python -m palmforge.data.databases.page > docs/databases.md`."""

from __future__ import annotations

from palmforge.data.databases.registry import DATABASES, Database

_KINDS = {"hand": "whole hands", "roi": "ROI crops"}
_INTRO = """# Public palmprint databases

Printed from the registry in `src/palmforge/data/databases/registry.py` by
`python -m palmforge.data.databases.page > docs/databases.md`; a test holds the two together.

```
python train.py data summary /data/tongji --layout tongji
python train.py fit --config configs/experiment/dhn_teacher.yaml \\
    --data.root=/data/tongji --data.layout=tongji --data.domains=null
```

- None of them is downloaded, and none comes with this repository: ask their owners. Palm pictures
  are biometric data.
- Files are told by their path, whatever folders stand before it, in any case of letters. A picture
  whose name is not understood is left out and named as a problem; other files are passed over.
- An identity is (subject, hand): `L_001`. *Domain* is what `data.domains` and `cross_domain` choose
  by.
- *Whole hands* need `--data.localizer=default`, or key points in `ROOT/keypoints.csv` (paths below
  ROOT) or in `NAME.json` beside the picture. Where one tree has hands and ROI crops, the crops are
  taken, unless the hands have key points: a set never mixes the two.
- We had no release at hand. *Layout*: **read** means in the source that is named below (an official
  page, the authors' code, the listing of an archive, code that walks the tree); **not verified**,
  that no source was found and the variants we know of are taken. If yours is named otherwise,
  `data summary` lists what was not understood; please tell us.
- Counts are as published. What was not looked up says so: check it before you print it.
"""


def markdown_table() -> str:
    """The table of the page, a row a database."""
    head = ("layout", "database", "identities", "images", "pictures", "domains", "layout is")
    rows = [
        (
            f"`{d.name}`", d.title, f"{d.identities:,}", f"{d.images:,}", _kinds(d), d.domain_note,
            "read" if d.verified else "not verified",
        )
        for d in DATABASES.values()
    ]  # fmt: skip
    lines = [head, ("---", "---", "---:", "---:", "---", "---", "---"), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown() -> str:
    """The whole page."""
    sections = [_section(database) for database in DATABASES.values()]
    return "\n".join([_INTRO, markdown_table(), "", *sections])


def _section(database: Database) -> str:
    facts = [
        ("Identities and images", f"{database.identities:,} palms, {database.images:,} images"),
        ("Devices", database.devices),
        ("Licence", database.licence),
        ("Ask", database.access),
        ("Layout", _layout(database)),
        ("Layout from" if database.verified else "**Layout not verified**", database.source),
        ("Domains", database.domain_note),
        ("Cite", database.citation),
        ("Note", database.notes),
        ("From memory", database.from_memory),
    ]
    lines = [f"- {name}: {text}" for name, text in facts if text]
    return "\n".join([f"## {database.title} (`{database.name}`)", "", *lines, ""])


def _layout(database: Database) -> str:
    if not database.forms:
        return "`iPhone/Flash/L_001/IMG_1.JPG` (either)"
    return ", ".join(f"`{form.example}` ({_KINDS[form.kind]})" for form in database.forms)


def _kinds(database: Database) -> str:
    if not database.forms:
        return "either"
    return ", ".join(dict.fromkeys(_KINDS[form.kind] for form in database.forms))


if __name__ == "__main__":
    print(markdown(), end="")
