"""One interface for whatever turns ROIs into templates and compares them.

Example:
    >>> from palmforge.recognition import load
    >>> recognizer = load("synthetic-only")                 # doctest: +SKIP
    >>> templates = recognizer.embed(rois)                  # doctest: +SKIP
    >>> recognizer.distance(templates, templates).shape     # doctest: +SKIP
"""

from palmforge.recognition.competitive_code import CompetitiveCode
from palmforge.recognition.embedding import EmbeddingRecognizer
from palmforge.recognition.hashing import HashingRecognizer
from palmforge.recognition.multi_order_code import MultiOrderCode
from palmforge.recognition.recognizer import Recognizer
from palmforge.recognition.weights import (
    load,
    load_embedding,
    load_network,
    save,
    weights_path,
)

__all__ = [
    "CompetitiveCode",
    "EmbeddingRecognizer",
    "HashingRecognizer",
    "MultiOrderCode",
    "Recognizer",
    "load",
    "load_embedding",
    "load_network",
    "save",
    "weights_path",
]
