"""Engines: one file or folder each; they never import each other."""
