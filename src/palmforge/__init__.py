"""PalmForge: generate, recognise and anonymise palmprints."""

__version__ = "0.1.0"
