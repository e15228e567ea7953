"""LightningModules: networks, losses and metrics put together as a method."""

from palmforge.modules.ccnet import CCNetRecognizer
from palmforge.modules.deidentifier import Deidentifier
from palmforge.modules.exemplar_inpainter import ExemplarInpainter
from palmforge.modules.hashing_student import HashingStudent
from palmforge.modules.hashing_teacher import HashingTeacher
from palmforge.modules.identity_controlnet import IdentityControlNet
from palmforge.modules.identity_generator import IdentityGenerator
from palmforge.modules.landmarks import PalmDetectorModule, PalmLandmarksModule
from palmforge.modules.palm_autoencoder import PalmAutoencoder
from palmforge.modules.palm_factory import PalmFactory
from palmforge.modules.recognizer import MarginRecognizer

__all__ = [
    "CCNetRecognizer",
    "Deidentifier",
    "ExemplarInpainter",
    "HashingStudent",
    "HashingTeacher",
    "IdentityControlNet",
    "IdentityGenerator",
    "MarginRecognizer",
    "PalmAutoencoder",
    "PalmDetectorModule",
    "PalmFactory",
    "PalmLandmarksModule",
]
