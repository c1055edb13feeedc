"""The last to leave: a process that ends the servers and removes their files when whoever started them is gone, killed or not.

Owns nothing else, and imports nothing but the standard library: it is run by its path, before and without the package. It reads its
standard input, one folder a line to watch over. The end of input means that the parent has ended; so does having another parent.
HAZARD: what kills the watchdog as well, or the machine, leaves files in the temporary folder behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_SERVER = ("postgres", "initdb", "pg_")


def inside(folder: str | Path) -> list[int]:
    """Return the processes that work below a folder. A server and all its children work in its data directory."""
    if not Path("/proc/self/cwd").exists():
        return _with_pid_files(Path(folder))
    root = os.path.realpath(folder)
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is another's
                at = os.readlink(f"/proc/{entry}/cwd").removesuffix(" (deleted)")
                if (at == root or at.startswith(root + "/")) and _is_server(entry):
                    found.append(int(entry))
    return found


def _is_server(pid: str) -> bool:
    return (
        Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith(_SERVER)
    )  # not a shell in which somebody looks around


def _with_pid_files(folder: Path) -> list[int]:
    """Without /proc: the servers that left their process id below a folder, and their children."""
    roots = set()
    for path in folder.rglob("postmaster.pid"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            roots.add(int(path.read_text(encoding="utf-8").splitlines()[0]))
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=False).stdout  # noqa: S607
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [
        int(pid) for pid, parent, name in rows if "postgres" in name and (int(pid) in roots or int(parent) in roots)
    ]


def end_all(folder: str | Path, timeout_s: float = 5.0) -> None:
    """End every process that works below a folder: first as PostgreSQL's immediate shutdown, which leaves no shared memory behind."""
    deadline = time.monotonic() + timeout_s
    polite = True
    while pids := inside(folder):
        if time.monotonic() > deadline:
            if not polite:
                return
            polite, deadline = False, time.monotonic() + timeout_s
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if polite:
                    os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGQUIT if polite else signal.SIGKILL)
        time.sleep(0.02)


def main() -> None:
    """Watch until the parent is gone, then clean up."""
    parent = int(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent's end is the only reason to end
    folders: list[str] = []
    text = b""
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0]:
            data = os.read(0, 65536)
            text += data
            *lines, text = text.split(b"\n")
            folders += [os.fsdecode(line) for line in lines]
            if not data:
                break
    for folder in reversed(folders):
        for _ in range(3):  # a server that was just being started
            end_all(folder)
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.lexists(folder):
                break


if __name__ == "__main__":
    main()
