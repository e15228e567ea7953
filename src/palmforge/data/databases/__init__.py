"""Public palmprint databases: what each is (registry), how it is read (reader), its page (page)."""

from palmforge.data.databases.reader import read
from palmforge.data.databases.registry import DATABASES, Database, Form

__all__ = ["DATABASES", "Database", "Form", "read"]
