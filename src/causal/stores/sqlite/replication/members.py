"""Who belongs: how a site opens, joins, recovers, leaves, and how an origin ends.

Owns every change to the registry. All of it runs under the directory's `admin` lock, and each step can be repeated after a crash at
any point: numbers are given out before they are used, and files say themselves what is not finished.

An origin ends by a decision that is recorded: at what the most advanced live member holds, when all of them can be asked. Until
then it has no end, and positions past what is known are in doubt: behind, never applied and never lost. If members forget what only
they held, the end is moved back to what is left; never forward.
"""

from __future__ import annotations

import logging
from contextlib import closing, suppress
from math import inf
from typing import TYPE_CHECKING

import attrs

from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.sqlite.files.directory import CUT, Directory
from causal.stores.sqlite.files.registry import JOINING, LEFT, LIVE
from causal.stores.sqlite.files.schema import check_belongs, errors_of, open_shard
from causal.stores.sqlite.replication.rebuild import is_rebuilding, rebuild, restart
from causal.stores.sqlite.replication.recover import learn, recover
from causal.stores.sqlite.replication.replicate import replicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from causal.stores.sqlite.files.registry import Members
    from causal.stores.sqlite.files.shard import ShardFile
    from causal.stores.sqlite.replication.apply import Pulled

_log = logging.getLogger("causal")


def open_site(directory: Directory, site: str, names: Sequence[str], store: int) -> None:
    """Make a site of this process's own: known, complete, recovered, live. Raises: ConfigError, StoreError, Unreachable."""
    with directory.locks.admin():
        directory.registry.bind_store(store)
        add_shards(directory, names, site)
        if directory.members().sites.get(site, LEFT) == LEFT:
            _check_left(directory, site)
            _hand_over(directory, site)
            _wipe(directory, site)
            directory.registry.set_state(site, JOINING)
        attach_site(directory, site)
        if directory.members().sites[site] == JOINING:
            directory.registry.set_state(site, LIVE)


def attach_site(directory: Directory, site: str) -> None:
    """Have a site open in this process; the first to open it finds out what it may have forgotten. Raises: StoreError, Unreachable."""
    with directory.locks.admin():
        first = directory.locks.attach(site)
        try:
            if first or directory.members().sites[site] == JOINING:
                for name, index in directory.members().shards.items():
                    recover(directory, site, name, index)
            rebuild(directory, site)
            announce(directory, site)
            decide_ends(directory, site)
        except BaseException:
            if first:
                directory.locks.detach(site)
            raise


def add_shards(directory: Directory, names: Sequence[str], here: str) -> Mapping[str, int]:
    """Number new shards, make the files that were never made, for every member within reach, and return all shards."""
    with directory.locks.admin():
        for name in names:
            if name not in directory.members().shards:
                directory.registry.add_shard(name)
        shards = directory.members().shards
        for site in directory.members().in_state(LIVE):
            for name, index in shards.items():
                if directory.registry.file(site, index) is None:
                    try:
                        recover(directory, site, name, index, copy=False)
                    except StoreError as error:
                        if site == here:
                            raise
                        directory.complain(f"{site} has no file of shard {name} yet", error)
        return shards


def mend(directory: Directory, site: str, done: Pulled) -> None:
    """Do what replication alone cannot: a new origin for a site that has forgotten, a copy for one that lacks what no log keeps."""
    if done.forgotten:
        with directory.locks.admin():
            for name, index in directory.members().shards.items():
                recover(directory, site, name, index)
            announce(directory, site)
            decide_ends(directory, site)
    if done.gaps:
        restart(directory, site)
    elif any(is_rebuilding(file) for file in directory.files(site)):
        with directory.locks.admin():
            rebuild(directory, site)  # whoever began could not finish


# --- what members are told ---------------------------------------------------------------------------------------


def announce(directory: Directory, here: str) -> None:
    """Tell a site and all that it can reach of every origin and every end."""
    members = directory.members()
    if directory.is_up(here, CUT):
        return
    _tell(directory, here, members)
    for site in directory.peers(here):
        try:
            _tell(directory, site, members)
        except StoreError as error:
            directory.complain(f"{site} could not be told of origins yet", error)
        else:
            directory.content(f"{site} could not be told of origins yet")


def _tell(directory: Directory, site: str, members: Members) -> None:
    for file in directory.files(site):
        ends = {row[0]: inf if row[2] is None else row[2] for row in file.rows()}
        if any(
            i == file.index and (o not in ends or (it.end is not None and it.end < ends[o]))
            for (i, o), it in members.origins.items()
        ):
            with file.writing() as db:
                learn(db, members, file.index)


def decide_ends(directory: Directory, here: str) -> None:
    """End every origin that nobody numbers any more, if all live members can be asked; else leave it in doubt."""
    open_ended = [key for key, it in directory.members().origins.items() if not it.live and it.end is None]
    if not open_ended:
        return
    with directory.locks.admin():
        holders = [here, *directory.peers(here)]
        if not {*directory.members().in_state(LIVE)} <= {*holders}:
            return
        replicate(directory, here)  # what others hold of it is held here, too, before it ends
        # Who has forgotten, or left, may have been the only one to hold what an earlier decision counted on: those come first,
        # because an origin without an end is what makes them be looked at again.
        ended = [key for key, it in directory.members().origins.items() if it.end is not None]
        for index, origin in [*ended, *open_ended]:
            known = [directory.heard(name, index) for name in holders]
            if None in known:
                return
            held = [row[1] for rows in known if rows for row in rows.get(index, ()) if row[0] == origin]
            directory.registry.set_end(index, origin, max(held, default=0))
        announce(directory, here)


# --- leaving -----------------------------------------------------------------------------------------------------


def leave(directory: Directory, site: str) -> None:
    """Take a site out: others get what they can of its writes, then its origins end. Raises: ConfigError for the last site."""
    with directory.locks.admin():
        stay = [name for name in directory.members().in_state(LIVE) if name != site]
        if directory.members().sites.get(site) not in {LIVE, JOINING} or not stay:
            raise ConfigError(f"{site} cannot leave {directory.path}: it is not there, or there is no other site")
        if not directory.is_up(site, CUT) and directory.heard(site) is not None:
            try:
                for file in directory.files(site):
                    with file.writing() as db:
                        db.execute("UPDATE watermark SET mine = 0")
                _give(directory, site)
            except BaseException:
                with suppress(StoreError):  # if it cannot now, its own replicator will
                    lead_again(directory, site)
                raise
        directory.registry.set_state(site, LEFT)
        here = next((name for name in stay if not directory.is_up(name, CUT)), stay[0])
        decide_ends(directory, here)


def _give(directory: Directory, site: str) -> None:
    """Let others have what a site holds: one of them is enough, the rest have it from there. Raises: StoreError if nobody could."""
    given, failed = False, None
    for name in directory.peers(site):
        try:
            replicate(directory, name, leaver=site)
            given = True
        except StoreError as error:
            failed = error
    if failed is not None and not given:
        raise failed


def lead_again(directory: Directory, site: str) -> None:
    """Let a member number its origins again: somebody began to take it out, and failed or died. Raises: StoreError."""
    if not _leaderless(directory, site):
        return
    with directory.locks.admin():  # nobody is at it
        for file, own in _leaderless(directory, site):
            with file.writing() as db:
                db.execute("UPDATE watermark SET mine = (origin = ?)", (own,))


def _leaderless(directory: Directory, site: str) -> list[tuple[ShardFile, int]]:
    """Return a member's files that number nothing, each with the origin that is its own."""
    members = directory.members()
    if members.sites.get(site) != LIVE:
        return []
    owned = [(file, file.rows(), members.own(site, file.index)) for file in directory.files(site)]
    return [
        (file, own)
        for file, rows, own in owned
        if own is not None and not any(row[3] for row in rows) and any(row[0] == own for row in rows)
    ]


def fence(directory: Directory, site: str) -> None:
    """Let a site that has left, and hears of it only now, take no more writes and learn where its origins ended."""
    if directory.members().sites.get(site) != LEFT:
        return
    with directory.locks.admin():  # it may be about to return, under an origin that must stay its own
        if directory.members().sites.get(site) != LEFT or directory.is_up(site, CUT):
            return
        for file in directory.files(site):
            if any(row[3] for row in file.rows()):
                with file.writing() as db:
                    db.execute("UPDATE watermark SET mine = 0")
        announce(directory, site)


def mark_closed(directory: Directory) -> None:
    """Record that sites were closed properly, where this process is the last to have them open: they have forgotten nothing."""
    with directory.locks.admin():
        for site in directory.locks.attached:
            if directory.members().sites.get(site) == LIVE and directory.locks.alone_with(site):
                for index in directory.members().shards.values():
                    record = directory.registry.file(site, index)
                    if record is not None and record.relaxed and directory.file(site, index).flush():
                        directory.registry.set_file(site, index, attrs.evolve(record, relaxed=False))


def _check_left(directory: Directory, site: str) -> None:
    """Refuse files of another directory, or of a site that never left this one: a site that joins empties what it finds."""
    members = directory.members()
    for name in members.shards:
        path = directory.file_path(site, name)
        if not path.exists():
            continue
        with closing(open_shard(path)) as db, errors_of(path):
            meta = dict(db.execute("SELECT name, value FROM meta"))
        if meta:
            check_belongs(meta, path, members.cluster, site, name)
            if site not in members.sites:
                raise StoreError(
                    f"{path} holds data of a site that cluster.sqlite does not know, so that is older: restore the one that "
                    "belongs to it, or move the file away and let the site copy its data from another"
                )


def _hand_over(directory: Directory, site: str) -> None:
    """Let members have what a returning site still holds of origins whose end is in doubt; then it may be decided.

    Raises: Unreachable if it can reach none of them: what only it holds must not be emptied before.
    """
    members = directory.members()
    others = members.in_state(LIVE)
    if members.sites.get(site) == LEFT and others and not directory.peers(site):
        raise Unreachable(f"{site} has to copy its data from {' or '.join(others)}, and cannot reach them")
    if members.sites.get(site) == LEFT and directory.heard(site) is not None:
        announce(directory, site)
        _give(directory, site)
        for name in directory.peers(site):
            decide_ends(directory, name)
        announce(directory, site)


def _wipe(directory: Directory, site: str) -> None:
    """Empty the files of a site that had left, for its return. What only they hold is kept in a file of its own."""
    members = directory.members()
    for name, index in members.shards.items():
        path = directory.file_path(site, name)
        if not path.exists():
            continue
        with closing(open_shard(path)) as db, errors_of(path):
            mine = {origin for (shard, origin), it in members.origins.items() if shard == index and it.site == site}
            marks = db.execute('SELECT origin, applied, "end" FROM watermark').fetchall()
            if any(applied > end if end is not None else applied and origin in mine for origin, applied, end in marks):
                aside = next(p for n in range(10_000) if not (p := path.with_suffix(f".lost-{n}")).exists())
                db.execute("VACUUM INTO ?", (str(aside),))
                _log.warning("%s: writes that may be lost since %s left are kept in %s", path, site, aside)
            db.execute("BEGIN IMMEDIATE")
            for table in ("data", "log", "watermark", "meta"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            db.execute("COMMIT")
