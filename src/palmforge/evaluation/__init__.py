"""Protocols: which palms are compared with which, by which recogniser, and what is reported.

palms (`data`) → who is compared with whom (`parts`) → templates and distances (`run`) → figures
(`figures`) → report (`summary`). Distances can be kept and read again (`scores`).
"""
