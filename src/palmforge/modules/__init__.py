"""LightningModules: networks, losses and metrics put together as a method."""

from palmforge.modules.ccnet import CCNetRecognizer
from palmforge.modules.hashing_student import HashingStudent
from palmforge.modules.hashing_teacher import HashingTeacher
from palmforge.modules.landmarks import PalmDetectorModule, PalmLandmarksModule
from palmforge.modules.recognizer import MarginRecognizer

__all__ = [
    "CCNetRecognizer",
    "HashingStudent",
    "HashingTeacher",
    "MarginRecognizer",
    "PalmDetectorModule",
    "PalmLandmarksModule",
]
