"""A small shop at two sites, with everything that comes between a user and their own writes.

A cache, a search index, a second service, background jobs, and replicas that lag as much as you like: `make shop`, or
`python -m examples.shop --help`. Each page says, at its foot, what was done so that it is right. Every one of those things can be left out
while the shop runs, so that you see what it is for.

Read `web/page.py` first: the whole of what a request does with a session is there. Then `jobs.py` and `orders.py`, for what goes on
elsewhere, and `stores.py`, for how little differs between the embedded store and PostgreSQL.
"""
