"""The built book for the tests of this folder: its files, a server for them, a browser."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import build, notebook, pdf

ROOT = Path(__file__).parents[2]
# Without a graphics card the browser draws WebGL in software if it is told so; pages are not to go that way, which takes three times as long.
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS = ["--no-sandbox", *WEBGL, "--disable-gpu-compositing", "--disable-gpu-rasterization"]
BROWSER = next(filter(None, map(shutil.which, pdf.BROWSERS)), None)


@pytest.fixture(scope="session")
def html() -> Path:
    """The book as `make book` leaves it, on the surrogate: nbval has executed the notebooks on it, if it came first."""
    command, environment = [sys.executable, "-m", "tools.build"], {**os.environ, "LAI_DATA": "none"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(done.stdout.strip().splitlines()[-1]).parent


@pytest.fixture(scope="session")
def executed(html: Path) -> dict[str, Any]:
    """The chapters that the pages are made of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAI_DATA", "none")
        book, around = build.Book(ROOT), build.surroundings(ROOT)
        return {path.stem: notebook.read(build.cached(book, path, around)) for path in book.notebooks()}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH; Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=FLAGS)
        yield chromium
        chromium.close()
