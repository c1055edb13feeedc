"""Applications to read, run and copy. Nothing here is part of the package."""
