"""Read your own writes on an eventually consistent system: the public names."""

__version__ = "0.1.0"
