"""Effective receptive fields of several backbones: measured, kept on disk, drawn and written.

request.py says what is measured and what comes of it, run.py measures, store.py keeps, and
figures.py, table.py, report.py and export.py show.
"""
