"""Photographs of hands whose palms are to be repainted (paper 001)."""
