"""Makes the pictures of docs/howto/shop.md anew: `python -m tests.examples.pictures`, from a place where the package is installed."""

from pathlib import Path

from examples.shop.controls import STANDS_STILL_S
from examples.shop.run.supervisor import Running
from tests.examples.chromium import Chromium

IMAGES = Path(__file__).parents[2] / "docs" / "howto" / "img"
SIZE = {"width": 1000, "height": 900}


def make() -> None:
    with Running() as shop, Chromium() as browser:
        eu, us = shop.settings.sites["eu"], shop.settings.sites["us"]
        shop.set_lag(STANDS_STILL_S)
        tab = browser.tab()
        tab.look(**SIZE)
        tab.go(f"{eu}/login")
        tab.click("button[value=alice]")
        tab.go(f"{eu}/people/alice")
        tab.js("document.querySelector('.choices button').value = 'alice-23'")
        tab.click(".choices button")
        tab.go(f"{us}/people/alice")
        tab.screenshot(IMAGES / "shop-profile.png")
        tab.go(f"{eu}/")
        tab.click('form[action="/posts"] button', text="The round teapot is rounder than it looks.")
        tab.look(**SIZE, dark=True)
        tab.go(f"{us}/search?q=teapot")
        tab.screenshot(IMAGES / "shop-search.png")


if __name__ == "__main__":
    make()
