"""A full-text index in one SQLite file: its tables, how it is searched, how it is fed."""
