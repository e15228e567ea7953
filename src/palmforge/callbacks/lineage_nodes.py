"""What a run reads and makes, as nodes of a graph: names, counts and digests, no content."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from palmforge.data.digests import file_digest
from palmforge.data.webdataset import file_of

Kind = Literal["dataset", "roi-cache", "generated-set", "model", "report"]
MANIFEST = "manifest.parquet"
_SETTINGS = {  # beside the manifest, in every folder that `predict` writes
    "generation.json": "generated",
    "factory.json": "made by the factory",
    "deidentification.json": "de-identified",
}
_LONGEST = 100  # wandb takes 128; what comes behind a name has room


@dataclass(frozen=True)
class Node:
    """One thing that a run reads or makes.

    Attributes:
        name: Legal for wandb, without a folder: it leaves the machine.
        kind: wandb's artifact type.
        digest: SHA-256. The same thing has the same one in every run, wherever it lies.
        facts: Numbers and words for whoever looks at it. No path, and no file name of a picture.
        path: Where it lies here. It is never told.
    """

    name: str
    kind: Kind
    digest: str
    facts: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def reference(self, role: str) -> dict[str, str]:
        """How other nodes call it.

        Args:
            role: What it is to them: `teacher`, `data`.
        """
        return {"role": role, "name": self.name, "type": self.kind, "sha256": self.digest}


Inputs = list[tuple[str, Node]]  # role, node


def legal_name(*parts: str) -> str:
    """A name that wandb takes: letters, digits, `_`, `.`, `-`, 100 at most, never empty.

    What is too long, or has letters that are lost, ends with a digest: two names stay two.
    """
    text = "/".join(part for part in parts if part)
    name = re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.")
    if len(name) > _LONGEST or not name or not text.isascii():
        tail = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = "-".join(filter(None, (name[: _LONGEST - 9], tail)))
    return name


def inputs_of_data(datamodule: Any) -> Inputs:
    """The data set, its ROI cache, and generated sets that train besides it.

    Of `predict` runs that make pictures: the photographs or palms that they start from, if any.

    Args:
        datamodule: Set up.
    """
    plan: Any = getattr(datamodule, "plan", None)
    if hasattr(plan, "sources"):  # photographs that are repainted
        files = [os.path.join(plan.root, source) for source in plan.sources]
        return [("data", data_node(plan.root, files, {"images": len(files)}))]
    if (folder := getattr(datamodule, "references", None)) is not None and plan is not None:
        return [("references", folder_node(Path(folder).expanduser()))]
    reads = plan is None or hasattr(datamodule, "references")
    if not reads or not hasattr(datamodule, "scan"):
        return []
    return _scanned(datamodule)


def _scanned(datamodule: Any) -> Inputs:
    scan = datamodule.scan
    people = {record.identity for record in scan.records}
    facts = {
        "layout": scan.layout,
        "domains": scan.domains,
        "identities": len(people),
        "images": len(scan.records),
        "problems": len(scan.problems),
    }
    data = data_node(scan.root, [record.path for record in scan.records], facts)
    found: Inputs = [("data", data)]
    palms = getattr(datamodule, "palms", datamodule)
    cache = getattr(palms, "cache", None)
    if hasattr(cache, "settings"):
        found.append(("rois", _rois_node(data, cache, getattr(palms, "localizer", None))))
    for folder in getattr(palms, "added", []):
        found.append(("added", folder_node(Path(folder).expanduser())))
    return found


def selection(datamodule: Any) -> dict[str, Any]:
    """What of the data a run sees: not the data set's, so it is told of the run's models.

    Returns:
        `protocol`, and the number of images and identities of `train`, `val` and `test`.
    """
    split = getattr(datamodule, "split", None)
    if split is None or getattr(datamodule, "plan", None) is not None:
        return {}
    told: dict[str, Any] = {"protocol": getattr(datamodule, "protocol", "by people")}
    for name in ("train", "val", "test"):
        records = getattr(split, name)
        people = {record.identity for record in records}
        told[name] = {"images": len(records), "identities": len(people)}
    return told


def data_node(root: str, files: Iterable[str], facts: dict[str, Any]) -> Node:
    """A data set, told by its list of pictures: hashing those of 100,000 palms takes minutes.

    A folder that a generator wrote is told by its manifest, as the run that made it did.

    Args:
        root: Its folder. Only the last part of its name is told.
        files: Its pictures; their names in `root` and their sizes make the digest.
        facts: Counts.
    """
    if is_generated(Path(root)):
        return folder_node(Path(root))
    digest = hashlib.sha256()
    sizes: dict[str, int] = {}
    for path in sorted(files):
        file = file_of(path)
        if file not in sizes:
            sizes[file] = os.stat(file).st_size if os.path.isfile(file) else -1
        name = os.path.relpath(path, root).replace(os.sep, "/")
        digest.update(f"{name}\t{sizes[file]}\n".encode())
    return Node(legal_name(Path(root).resolve().name), "dataset", digest.hexdigest(), facts)


def folder_node(folder: Path) -> Node:
    """A folder of pictures; one that `predict` wrote is a generated set, told by its manifest."""
    if not is_generated(folder):
        files = [str(path) for path in folder.rglob("*") if path.is_file()]
        return data_node(str(folder), files, {"files": len(files)})
    table = pq.ParquetFile(folder / MANIFEST)
    facts: dict[str, Any] = {"images": table.metadata.num_rows}
    if "identity" in table.schema_arrow.names:
        identities = table.read(columns=["identity"])["identity"]
        facts["identities"] = len(identities.unique())
    for name, how in _SETTINGS.items():
        if (folder / name).is_file():
            facts |= {"how": how, "settings_sha256": file_digest(folder / name)}
    digest = file_digest(folder / MANIFEST)
    return Node(legal_name(folder.resolve().name), "generated-set", digest, facts)


def is_generated(folder: Path) -> bool:
    """Whether `predict` wrote it. What the renderer writes is a data set: domains are chosen."""
    names = (MANIFEST, *_SETTINGS)
    manifest, *settings = ((folder / name).is_file() for name in names)
    return manifest and any(settings)


def _rois_node(data: Node, cache: Any, localizer: str | None) -> Node:
    """The ROIs are decided by the data set, these settings, and how palms are located."""
    located = cache.points.identity if cache.points is not None else None
    facts = {
        **asdict(cache.settings),
        "localizer": None if localizer is None else Path(localizer).name,
        "data": data.reference("data"),
    }
    content = json.dumps([facts, located], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Node(f"{data.name}-rois", "roi-cache", digest, facts)


def report_node(
    file: Path | None, experiment: str, metrics: dict[str, float | None]
) -> Node | None:
    """The numbers of a test; None without any. Its file also holds paths: it stays here.

    Args:
        file: That a report wrote, or None.
        experiment: Whose.
        metrics: By name.
    """
    if file is None and not metrics:
        return None
    content = json.dumps(metrics, sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest() if file is None else file_digest(file)
    facts = {"metrics": metrics, "file": None if file is None else file.name}
    return Node(legal_name(experiment, "report"), "report", digest, facts)
