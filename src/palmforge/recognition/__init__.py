"""One interface for whatever turns ROIs into templates and compares them.

Example:
    >>> from palmforge.recognition import load
    >>> recognizer = load("synthetic-only")                 # doctest: +SKIP
    >>> templates = recognizer.embed(rois)                  # doctest: +SKIP
    >>> recognizer.distance(templates, templates).shape     # doctest: +SKIP
"""

from palmforge.recognition.embedding import EmbeddingRecognizer
from palmforge.recognition.recognizer import Recognizer
from palmforge.recognition.weights import load, save

__all__ = ["EmbeddingRecognizer", "Recognizer", "load", "save"]
