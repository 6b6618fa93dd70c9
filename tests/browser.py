"""A headless Chromium, driven over its DevTools protocol: what a page does is asked of the real thing.

`find()` is None where no Chromium is installed; the tests then say so. A page is opened from disk, as people open it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# WebGL is drawn by the processor; a container has little shared memory and often only root.
_WORDS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars", "--mute-audio",
)  # fmt: skip


def find() -> str | None:
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; `errors` are what its console complained of, `requests` every address that it asked for."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._asked = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **words: Any) -> dict[str, Any]:
        self._asked += 1
        self._connection.send(json.dumps({"id": self._asked, "method": method, "params": words}))
        while True:
            message = json.loads(self._connection.recv())
            if message.get("id") == self._asked:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        words = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = words["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and words["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in words["args"]))
        elif event.get("method") == "Log.entryAdded" and words["entry"]["level"] == "error":
            self.errors.append(words["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(words["request"]["url"][:200])

    def open(self, path: Path, fragment: str = "") -> None:
        self.call("Page.navigate", url=path.absolute().as_uri() + fragment)
        self.wait("document.readyState === 'complete'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 30.0) -> None:
        until = time.monotonic() + seconds
        while not self.ask(condition):
            assert time.monotonic() < until, f"after {seconds} s it is still not so that {condition}; {self.errors}"
            time.sleep(0.05)

    def press(self, key: str, text: str = "") -> None:
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowUp": 38, "ArrowDown": 40}
        code = codes.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = text or (key if len(key) == 1 else "\r" if key == "Enter" else "")
        words = {"key": key, "windowsVirtualKeyCode": code, "nativeVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **words, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **words)

    def size(self, width: int, height: int, scheme: str = "light") -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self) -> np.ndarray:
        """What is seen, (height, width, 3) uint8."""
        return pixels(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


def pixels(png: bytes) -> np.ndarray:
    import io

    from matplotlib.image import imread

    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(np.uint8)


@contextlib.contextmanager
def opened(folder: Path, *more: str) -> Iterator[Page]:
    """A tab of a fresh browser whose files lie in `folder`; both are gone afterwards."""
    import websocket

    program = find()
    assert program is not None
    with (folder / "chromium.log").open("w") as log:
        words = [program, *_WORDS, *more, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            port = _port(folder / "profile" / "DevToolsActivePort", process)
            with contextlib.closing(websocket.create_connection(_tab(port), suppress_origin=True, timeout=60)) as tab:
                yield Page(tab)
        finally:
            process.terminate()
            process.wait(20)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + 60
    while not (file.exists() and file.read_text().count("\n") >= 1):
        assert process.poll() is None and time.monotonic() < until, (file.parent.parent / "chromium.log").read_text()
        time.sleep(0.05)
    return int(file.read_text().split()[0])


def _tab(port: int) -> str:
    """The address of the one tab."""
    for _ in range(100):
        ask = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        ask.request("GET", "/json/list")
        tabs = [tab for tab in json.loads(ask.getresponse().read()) if tab["type"] == "page"]
        ask.close()
        if tabs:
            return tabs[0]["webSocketDebuggerUrl"]
        time.sleep(0.05)
    raise AssertionError("the browser opened no tab")
