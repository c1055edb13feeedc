"""What a site shows: FastAPI, Jinja2, and one stylesheet."""
