"""The files: ONNX, torch.export's and ExecuTorch's, each written whole and run again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError
from palmforge.export.exportable import Exportable

Format = Literal["onnx", "onnx-int8", "torch_export", "executorch"]
Pixels = NDArray[np.uint8]
Run = Callable[[Pixels], list[NDArray[Any]]]  # [N, 3, S, S] → the outputs

FILES: dict[Format, str] = {
    "onnx": "model.onnx",
    "onnx-int8": "model.onnx",
    "torch_export": "model.pt2",
    "executorch": "model.pte",
}
INPUT = "image"
LARGEST_BATCH = 64  # of ExecuTorch, which plans its memory ahead; the others take any
OPSETS = range(18, 24)  # what torch's exporter writes
_NEEDED = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "onnx-int8": ("onnx", "onnxscript", "onnxruntime"),
    "torch_export": (),
    "executorch": ("executorch",),
}


def check_format(format: Format, opset: int) -> None:
    """Finds out now, not after the pictures are rendered, what is missing.

    Raises:
        ConfigError: A package is not installed, or no such opset can be written.
    """
    missing = [name for name in _NEEDED[format] if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"format: {format} needs {', '.join(missing)}. Install: pip install {' '.join(missing)}"
        )
    if format.startswith("onnx") and opset not in OPSETS:
        raise ConfigError(
            f"opset: torch's exporter writes {OPSETS[0]} to {OPSETS[-1]}, not {opset}"
        )


def captured(what: Exportable, largest_batch: int | None = None) -> torch.export.ExportedProgram:
    """The network as a graph of any batch size.

    Raises:
        ConfigError: torch.export cannot follow its forward.
    """
    pictures = torch.zeros(2, 3, what.image_size, what.image_size, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=largest_batch)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(what.module, (pictures,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export lets anything through
        raise ConfigError(
            f"ckpt: torch.export cannot follow {what.network_class}: {_first_line(error)}"
        ) from error


def write_onnx(what: Exportable, path: Path, opset: int) -> None:
    """One file, weights inside.

    Raises:
        ConfigError: There is an operation that this opset does not have.
    """
    program = captured(what)
    try:
        # Its progress is for those who debug the exporter.
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            written = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=list(what.outputs),
                dynamo=True,
                opset_version=opset,
                verbose=False,
            )
            assert written is not None
            with write_aside(path) as aside:
                written.save(aside, external_data=False)
        _onnx_runner(path)
    except Exception as error:  # the exporter's, and onnxruntime's at loading
        raise ConfigError(
            f"opset: {what.network_class} cannot be written as ONNX opset {opset}: "
            f"{_first_line(error)}"
        ) from error


def write_torch_export(what: Exportable, path: Path) -> None:
    """What `torch.export.load` reads."""
    program = captured(what)
    with write_aside(path) as aside:
        torch.export.save(program, aside)


def write_executorch(what: Exportable, path: Path) -> None:
    """For ExecuTorch's runtime, with XNNPACK's kernels; batches of 1 to `LARGEST_BATCH`."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = captured(what, LARGEST_BATCH)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    with write_aside(path) as aside:
        aside.write_bytes(lowered.to_executorch().buffer)


def runner(path: Path, format: Format) -> Run:
    """Runs a file that was written, on one thread where that is the file's to say."""
    if format == "torch_export":
        module = torch.export.load(path).module()
        return lambda pixels: [o.numpy() for o in module(torch.from_numpy(pixels))]
    if format == "executorch":
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")
        return lambda pixels: [o.numpy().copy() for o in method.execute([torch.from_numpy(pixels)])]
    return _onnx_runner(path)


def _onnx_runner(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {INPUT: pixels})


def in_batches(run: Run, pixels: Pixels, size: int = LARGEST_BATCH) -> NDArray[Any]:
    """The first output for any number of pictures."""
    parts = [run(pixels[row : row + size])[0] for row in range(0, len(pixels), size)]
    return np.concatenate(parts)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
