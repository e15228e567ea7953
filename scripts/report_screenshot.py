#!/usr/bin/env python3
"""Photographs a report: `python scripts/report_screenshot.py report.html out.png --dark`.

Needs Chromium and its driver (`apt-get install chromium chromium-driver`) and selenium.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


def missing() -> str | None:
    """What of the browser is not on this machine; None: nothing."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            return f"no {name} on this machine: apt-get install chromium chromium-driver"
    return None


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser with a profile of its own, which keeps logs of console and network."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        browser = webdriver.Chrome(options, service)
        try:
            browser.get("about:blank")  # leave the start page, which loads and logs much of its own
            yield browser
        finally:
            browser.quit()


def show(browser: Any, page: Path, width: int, dark: bool, height: int = 800) -> None:
    """Opens a page at a width in CSS pixels, in the light or dark theme."""
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    screen = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
    browser.get(page.resolve().as_uri())


def photograph(browser: Any, height: int | None = None) -> bytes:
    """The open page as PNG, from its top; None: all of it."""
    size = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"], "height": height or size["height"]}
    options = {"captureBeyondViewport": True, "clip": clip}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", options)
    return base64.b64decode(shot["data"])


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("html", type=Path)
    parser.add_argument("png", type=Path)
    parser.add_argument("--width", type=int, default=1200, help="CSS pixels; 390 is a phone")
    parser.add_argument("--height", type=int, help="cut off below; default: the whole page")
    parser.add_argument("--dark", action="store_true", help="the dark theme")
    arguments = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    with chromium() as browser:
        show(browser, arguments.html, arguments.width, arguments.dark)
        arguments.png.write_bytes(photograph(browser, arguments.height))


if __name__ == "__main__":
    main()
