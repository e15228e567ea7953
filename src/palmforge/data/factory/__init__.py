"""Whole data sets from a generator: who is made, what is kept, and where it lies."""
