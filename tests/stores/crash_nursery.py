"""A process that forks workers on a directory and kills them with SIGKILL at the moment it is told: run by `test_crash.py`.

It has nothing open itself, so that each worker starts as a fresh process would, without the cost of starting Python. One line of JSON
asks for a round of workers, one line of JSON answers with what each acknowledged before it was killed.
"""

import json
import math
import os
import selectors
import signal
import sqlite3
import sys
import time
import traceback
from typing import Any, NoReturn

from causal.core.frontier import Frontier
from causal.stores.sqlite import SQLiteEngine, SQLiteLink


def engine(path: str, site: str) -> SQLiteEngine:
    return SQLiteEngine(path, site=site, replicate="manual", first_origin=1)


def write(path: str, site: str, seed: int, ack: int) -> NoReturn:
    """Acknowledge transactions of four keys, each with a key of its own, for ever."""
    link = engine(path, site).open()
    n = 0
    while True:
        transact(link, site, f"{site}/{seed}/{n}", ack)
        n += 1


def transact(link: SQLiteLink, site: str, name: str, ack: int) -> None:
    handle = link.write(site, 0, Frontier())
    tx = handle.connection
    count = tx.get("count", 0) + 1
    tx.put("first", [name, count])
    tx.put(f"write/{name}", name)
    tx.put("count", count)
    tx.put("last", [name, count])
    position = handle.commit(Frontier()).position
    assert position is not None
    os.write(ack, f"{position.offset} {name}\n".encode())


def replicate(path: str, site: str, seed: int, ack: int) -> NoReturn:
    """Apply others' writes, for ever."""
    link = engine(path, site).open()
    while True:
        os.write(ack, f"{link.step().applied} applied\n".encode())


def replicate_all(path: str, site: str, seed: int, ack: int) -> NoReturn:
    """Apply others' writes from the beginning, for ever: the site leaves and joins again under way."""
    while True:
        link: SQLiteLink = engine(path, site).open()
        os.write(ack, f"{link.step().applied} applied\n".encode())
        link.close()


def write_three(path: str, site: str, seed: int, ack: int) -> None:
    """Acknowledge three transactions, and close."""
    link = engine(path, site).open()
    for n in range(3):
        transact(link, site, f"{site}/{seed}/{n}", ack)
    link.close()


def replicate_once(path: str, site: str, seed: int, ack: int) -> None:
    """Apply what there is, and close."""
    link = engine(path, site).open()
    link.step()
    link.collect()
    link.close()


def leave(path: str, site: str, seed: int, ack: int) -> None:
    """Take a site out."""
    engine(path, "eu").leave(site)


WORK = {
    "write": write,
    "replicate": replicate,
    "reopen": replicate_all,
    "write three": write_three,
    "replicate once": replicate_once,
    "leave": leave,
}


def die_at(statement: int) -> None:
    """Let this process kill itself where its nth statement of SQL would begin."""
    connect, left = sqlite3.connect, iter(range(statement, -1, -1))

    def counted(sql: str) -> None:
        if next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(counted)
        return connection

    sqlite3.connect = traced


def start(path: str, worker: dict[str, Any]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        if "statement" in worker:
            die_at(worker["statement"])
        WORK[worker["kind"]](path, worker["site"], worker["seed"], writing)
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must never return into its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def play(path: str, workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run workers at the same time; kill each so many microseconds after so many acknowledgements."""
    selector = selectors.DefaultSelector()
    heard = [b""] * len(workers)
    started = [start(path, worker) for worker in workers]
    kill_at: dict[int, float] = {}
    running = set(range(len(workers)))
    for nth, (_, pipe) in enumerate(started):
        selector.register(pipe, selectors.EVENT_READ, nth)
    deadline = time.monotonic() + 120
    while running:
        for nth in running - kill_at.keys():
            if heard[nth].count(b"\n") >= workers[nth].get("acks", math.inf):
                kill_at[nth] = time.monotonic() + workers[nth]["then_us"] / 1e6
        now = time.monotonic()
        for nth in [n for n, at in kill_at.items() if at <= now and n in running]:
            os.kill(started[nth][0], signal.SIGKILL)
            running.discard(nth)
        wait = min([kill_at[n] - now for n in running & kill_at.keys()], default=1.0)
        for key, _ in selector.select(max(wait, 0)):
            data = os.read(key.fd, 65536)
            heard[key.data] += data
            if not data:
                selector.unregister(key.fd)
                running.discard(key.data)
        if now > deadline:
            raise TimeoutError(f"workers do not get on: {workers}")
    answer = []
    for nth, (pid, pipe) in enumerate(started):
        _, status = os.waitpid(pid, 0)
        while data := os.read(pipe, 65536):
            heard[nth] += data
        os.close(pipe)
        lines = heard[nth].decode().split("\n")[:-1]
        answer.append(
            {
                "killed": os.WIFSIGNALED(status),
                "code": os.waitstatus_to_exitcode(status),
                "acks": [line.split(" ", 1) for line in lines],
            }
        )
    selector.close()
    return answer


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(play(request["path"], request["workers"])), flush=True)


if __name__ == "__main__":
    main()
