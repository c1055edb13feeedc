"""Carriers: how tokens travel, and thin adapters for what they travel in. Nothing here is imported by the rest of the package."""
