"""int8: the smallest way of three that keeps the error rate.

Of the quickstart's student, the quarter-width teacher and `synthetic-only`, no one way was the best
(docs/export.md). What is quantised per channel, with unsigned activations, runs on x86 without
saturating; signed ones were four times slower there (2.1 against 8.3 ms for `synthetic-only`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palmforge.export.formats import INPUT, Pixels

_BATCH = 20
_LAYERS = ("Conv", "Gemm", "MatMul")
_LINEAR = ("Gemm", "MatMul")

# The smallest first.
WAYS = ("all layers", "all but the first and the last layer", "weights of the linear layers")


class _Calibration:
    """Feeds pictures, as onnxruntime's `CalibrationDataReader`."""

    def __init__(self, pixels: Pixels) -> None:
        self._batches = iter(pixels[row : row + _BATCH] for row in range(0, len(pixels), _BATCH))

    def get_next(self) -> dict[str, Pixels] | None:
        """The next batch, or None."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantize(float_file: Path, path: Path, way: str, calibration: Pixels) -> None:
    """Writes an int8 file of an ONNX file.

    Args:
        float_file: What `write_onnx` wrote.
        path: The new file.
        way: One of `WAYS`. The first two measure the ranges of activations on `calibration`.
        calibration: `[N, 3, S, S]` pictures of other palms than those that judge the result.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    model = onnx.load(float_file)
    del model.graph.value_info[:]  # the exporter's shapes; onnxruntime's inference rejects them
    layers = [node.name for node in model.graph.node if node.op_type in _LAYERS]
    common: dict[str, Any] = {"per_channel": True, "weight_type": QuantType.QInt8}
    with _quiet():
        if way == WAYS[2]:
            quantize_dynamic(model, path, op_types_to_quantize=list(_LINEAR), **common)
            return
        quantize_static(
            model,
            path,
            _Calibration(calibration),
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=list(_LAYERS),
            nodes_to_exclude=[layers[0], layers[-1]] if way == WAYS[1] else [],
            **common,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its advice to fold constants, which the exporter has done."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
