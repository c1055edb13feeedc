"""A browser without a window, driven through its own protocol over a pipe: no driver, no port, no package.

It is Debian's `chromium`, or whatever is called that. Its processes and its profile are gone with the block.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --remote-debugging-pipe".split()
MOVE = """
import fcntl, os, sys
there = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for number, fd in enumerate(there, start=3):
    os.dup2(fd, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
TIMEOUT_S = 60.0


class Chromium:
    """One browser with one profile, and so one cookie jar. Thread-safety: one thread."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        # The protocol is spoken at descriptors 3 and 4, which may be anything else in this process.
        ours = [sys.executable, "-c", MOVE, str(theirs_in), str(theirs_out)]
        self._process = subprocess.Popen(
            [*ours, PROGRAM, *OPTIONS, f"--user-data-dir={self._profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in, "rb", buffering=0), os.fdopen(ours_out, "wb", buffering=0)
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        self._in.close()
        self._out.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def tab(self) -> Tab:
        """Open another tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        return Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        return self.result(self.send(method, session, **parameters))

    def send(self, method: str, session: str | None = None, **parameters: Any) -> int:
        """Call a method, and return the number by which `result` knows its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        return self._number

    def result(self, number: int) -> dict[str, Any]:
        """Wait for an answer."""
        answer = self.event(lambda message: message.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def event(self, wanted: Any) -> dict[str, Any]:
        """Wait for a message, and take it out of those that have come."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            for message in self._events:
                if wanted(message):
                    self._events.remove(message)
                    return message
            assert time.monotonic() < deadline, "the browser does not answer"
            self._read()

    def _read(self) -> None:
        data = self._in.read(1 << 16)
        assert data, "the browser has ended"
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        self._events += map(json.loads, messages)


class Tab:
    """One tab. Thread-safety: one thread."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session
        self._call("Page.enable")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def look(self, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Be a screen of this size, for somebody who likes it dark, or not."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def go(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self.going(url)
        self.arrived()

    def going(self, url: str) -> None:
        """Go to a page without waiting for it."""
        self._forget_loads()
        self._browser.send("Page.navigate", self._session, url=url)

    def click(self, selector: str, **values: str) -> None:
        """Fill in what is named, click, and wait for the page that this leads to."""
        self.clicking(selector, **values)
        self.arrived()

    def clicking(self, selector: str, **values: str) -> None:
        """Fill in what is named, and click, without waiting."""
        self._forget_loads()
        for name, value in values.items():
            self.js(f"document.querySelector('[name={name}]').value = {json.dumps(value)}")
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def arrived(self) -> None:
        """Wait until a page is there."""
        self._browser.event(lambda m: m.get("method") == "Page.loadEventFired" and m.get("sessionId") == self._session)

    def js(self, expression: str) -> Any:
        """Return what JavaScript makes of something."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def html(self) -> str:
        """Return the page as it is."""
        return str(self.js("document.documentElement.outerHTML"))

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the screen."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _forget_loads(self) -> None:
        events = self._browser._events
        events[:] = [
            m for m in events if m.get("method") != "Page.loadEventFired" or m.get("sessionId") != self._session
        ]
