"""LightningModules: networks, losses and metrics put together as a method."""

from palmforge.modules.hashing_student import HashingStudent
from palmforge.modules.hashing_teacher import HashingTeacher

__all__ = ["HashingStudent", "HashingTeacher"]
