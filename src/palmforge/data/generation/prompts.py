"""Words for palm images: a grammar from what is known of a picture to its prompt.

The grammar is a template and a few fields. A template is comma-separated segments with fields in
braces, `"a {hand} palm, {skin} skin, {illumination}, {device}, {pose}"`. What is not known of a
picture is left out, never invented: its segment is dropped, but in the first segment, and where
`{hand}` alone is not known, the word only (`"a palm"`). Names of people or palms are no field:
prompts ask for *new* identities.

Where the words come from:

* `PalmRecord`: hand, device, illumination, as far as the layout of the data set tells them;
* `ROOT/manifest.parquet` of rendered palms (`data synthesize`): light, camera, pose and skin too;
* `ROOT/captions.csv`, columns `file,text` with paths relative to ROOT: the user's own prompts.
  They win over the grammar, picture by picture.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from palmforge.data.generation.prompt_words import MANIFEST, WORDS, manifest_rows, words_of
from palmforge.data.records import PalmRecord
from palmforge.errors import ConfigError, DataError

DEFAULT_TEMPLATES = (
    "a {hand} palm, {skin} skin, {illumination}, {device}, {pose}",
    "a photograph of a {hand} palm, {pose}, {device}, {illumination}, {skin} skin",
    "the palm of a {hand} hand, {illumination}, {skin} skin, {pose}, {device}",
)

CAPTIONS = "captions.csv"
_FIELD = re.compile(r"\{([^{}]*)\}")
_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w+))")


def prompt_of(words: Mapping[str, str], templates: Sequence[str], seed: int) -> str:
    """One prompt.

    Args:
        words: Field → word, of `words_of`.
        templates: See the module.
        seed: >= 0; it chooses the template, `seed` modulo their number.

    Raises:
        ConfigError: If there is no template, or one of them has a field that is none of `WORDS`.
    """
    check_templates(templates)
    return _prompt(templates[seed % len(templates)], tuple(words.items()))


@lru_cache(maxsize=65536)  # there are few sentences: 2.1 → 0.8 s for 80,000 pictures
def _prompt(template: str, known: tuple[tuple[str, str], ...]) -> str:
    words, kept = dict(known), []
    for number, (text, fields) in enumerate(_segments(template)):
        unknown = [field for field in fields if field not in words]
        if number and any(field != "hand" for field in unknown):
            continue
        if fields:
            text = _ARTICLE.sub(_article, _filled(text, words))
        if text:
            kept.append(text)
    return ", ".join(kept) or "a palm"


def prompts_of(
    records: Sequence[PalmRecord],
    root: str,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    seed: int = 0,
) -> list[str]:
    """One prompt a record: a pure function of the seed and the picture's path under `root`.

    80,000 records with a manifest take about a second.

    Args:
        records: Pictures under `root`, in any order.
        root: The data set; its `manifest.parquet` and `captions.csv` are read where they are.
        templates: See the module.
        seed: Chooses a template for each picture.

    Raises:
        ConfigError: See `prompt_of`.
        DataError: If `captions.csv` or the manifest cannot be read as such.
    """
    check_templates(templates)
    top = Path(root).expanduser()
    files = [_relative(record.path, str(top)) for record in records]
    rows = manifest_rows(top / MANIFEST)
    captions = read_captions(top / CAPTIONS) if (top / CAPTIONS).exists() else {}
    if captions:
        _report(captions, files, top)
    return [
        captions.get(file)
        or prompt_of(words_of(record, rows.get(file)), templates, _file_seed(seed, file))
        for record, file in zip(records, files, strict=True)
    ]


def draw_prompts(
    num: int, templates: Sequence[str] = DEFAULT_TEMPLATES, seed: int = 0
) -> list[str]:
    """New prompts of the grammar's own words, each word as likely as the others of its field.

    Args:
        num: How many.
        templates: See the module.
        seed: >= 0; prompt i is a pure function of (seed, i). Prompts may repeat.

    Raises:
        ConfigError: See `prompt_of`.
    """
    check_templates(templates)
    prompts = []
    for number in range(num):
        rng = np.random.default_rng((seed, number))
        words = {field: choices[rng.integers(len(choices))] for field, choices in WORDS.items()}
        prompts.append(prompt_of(words, templates, int(rng.integers(len(templates)))))
    return prompts


def read_prompts(source: str | Sequence[str]) -> list[str]:
    """The user's prompts.

    Args:
        source: A text file with one prompt a line (blank lines and those that begin with # are left
            out), or the prompts themselves.

    Raises:
        DataError: If the file is missing or no text in UTF-8, or there is no prompt in it.
    """
    if isinstance(source, str):
        path = Path(source).expanduser()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"data.prompts: {source!r} is no text file in UTF-8 with a prompt a line ({error})."
                " A prompt itself is given in a list: --data.prompts='[a left palm]'"
            ) from error
        prompts = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    else:
        prompts = [prompt.strip() for prompt in source]
    prompts = [prompt for prompt in prompts if prompt]
    if not prompts:
        raise DataError(
            f"data.prompts: there is no prompt in {source!r}; write one a line, or leave the key "
            "out (null) for prompts of the grammar"
        )
    return prompts


def read_captions(path: Path) -> dict[str, str]:
    """The user's captions, of a CSV file with the header `file,text`.

    Returns:
        File as written (forward slashes) → caption.

    Raises:
        DataError: If it is no CSV in UTF-8, has another header, or a line without two cells, with
            an empty one, or of a file that an earlier line has captioned.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    if not rows or [name.strip() for name in rows[0]] != ["file", "text"]:
        raise DataError(f"{path}: the header must be file,text")
    captions: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(
                f"{path}, line {number}: a file and a text are needed, there are {len(cells)} "
                'cells. A text with commas stands in quotes: L_001/1.jpg,"a left palm, flash"'
            )
        name = cells[0].replace("\\", "/").removeprefix("./")
        if name in captions:
            raise DataError(f"{path}, line {number}: {name} has a caption already")
        captions[name] = cells[1]
    return captions


def check_templates(templates: Sequence[str]) -> None:
    """Raises ConfigError where there is no template, or one is not as the module says."""
    if isinstance(templates, str) or not templates:
        raise ConfigError(f"templates: a list of at least one template is needed: {templates!r}")
    for template in templates:
        _segments(template)


@lru_cache(maxsize=1024)
def _segments(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    for field in _FIELD.findall(template):
        if field not in WORDS:
            raise ConfigError(
                f"template {template!r}: there is no field {{{field}}}; there are "
                + ", ".join(f"{{{name}}}" for name in WORDS)
            )
    if re.search(r"[{}]", _FIELD.sub("", template)) or not template.strip():
        raise ConfigError(f"template {template!r}: fields stand in braces, such as {{hand}}")
    return tuple((part.strip(), tuple(_FIELD.findall(part))) for part in template.split(","))


def _filled(text: str, words: Mapping[str, str]) -> str:
    return " ".join(_FIELD.sub(lambda match: words.get(match[1], ""), text).split())


def _article(match: re.Match[str]) -> str:
    """`a` or `an`, as the word behind it wants; LG is spelt out."""
    vowel = match[2][0].lower() in "aeiou" or match[2] == "LG"
    return f"{match[1]}n " if vowel else f"{match[1]} "


def _relative(path: str, top: str) -> str:
    """Forward slashes, and no system call for the usual case."""
    inside = path.startswith(top + os.sep)
    file = path[len(top) + 1 :] if inside else os.path.relpath(path, top)
    return file.replace(os.sep, "/")


def _file_seed(seed: int, file: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{file}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 1


def _report(captions: Mapping[str, str], files: Sequence[str], top: Path) -> None:
    """Warns of captions without picture and of pictures without caption."""
    known = set(files)
    lost = [name for name in captions if name not in known and not (top / name).exists()]
    if lost:
        warnings.warn(
            f"{top / CAPTIONS}: {len(lost)} of its files are not there: {', '.join(lost[:3])}",
            stacklevel=3,
        )
    bare = [file for file in files if file not in captions]
    if bare:
        warnings.warn(
            f"{top / CAPTIONS}: {len(bare)} of {len(files)} pictures have no caption, the grammar "
            f"gives them a prompt: {', '.join(bare[:3])}",
            stacklevel=3,
        )
