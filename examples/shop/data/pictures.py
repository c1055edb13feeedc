"""Pictures without a camera: a name makes a face, another name another one, always the same."""

from __future__ import annotations

import colorsys
import hashlib
from typing import Final

_EYES: Final = (
    '<circle cx="36" cy="44" r="5"/><circle cx="64" cy="44" r="5"/>',
    '<path d="M30 46q6-8 12 0M58 46q6-8 12 0" fill="none" stroke-width="4"/>',
    '<g fill="none" stroke-width="4"><circle cx="36" cy="44" r="9"/><circle cx="64" cy="44" r="9"/><path d="M45 44h10"/></g>',
    '<rect x="30" y="41" width="12" height="6" rx="3"/><rect x="58" y="41" width="12" height="6" rx="3"/>',
)
_MOUTHS: Final = (
    '<path d="M36 64q14 14 28 0" fill="none" stroke-width="4"/>',
    '<path d="M38 64h24" stroke-width="4"/>',
    '<path d="M36 62h28q-2 14-14 14t-14-14z"/>',
    '<circle cx="50" cy="67" r="6"/>',
)
_HATS: Final = (
    "",
    '<path d="M22 30q28-30 56 0z"/>',
    '<path d="M50 4l18 24h-36z"/>',
    '<path d="M20 28h60v5h-60zM32 8h36v20h-36z"/>',
)


_GOODS: Final = {
    "teapot": '<path d="M30 42q20-12 40 0q10 26-6 34h-28q-16-8-6-34zM71 48q16-6 18-14q6 14-18 32M30 48q-18-6-18 8q0 12 20 14M46 29h8"/>',
    "mug": '<path d="M28 30h40v38q0 10-10 10h-20q-10 0-10-10zM68 38q16-2 16 12t-16 14"/>',
    "lamp": '<path d="M34 20h26l12 26h-50zM47 46v36M30 84h34"/>',
    "chair": '<path d="M34 16v68M34 52h34v32M34 20h6v30h-6"/>',
    "notebook": '<path d="M28 18h46v66h-46zM38 18v66M46 34h20M46 44h20M46 54h14"/>',
    "clock": '<circle cx="50" cy="50" r="32"/><path d="M50 28v22l14 10"/>',
}


def goods(name: str) -> str | None:
    """Return the picture of a product as SVG; None for what we do not have."""
    if name not in _GOODS:
        return None
    hue = hashlib.blake2b(name.encode(), digest_size=2).digest()[1]
    light, dark = _colour(hue, 0.88, 0.5), _colour(hue, 0.32, 0.45)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-25 0 150 100" role="img">'
        f'<rect x="-25" width="150" height="100" fill="{light}"/>'
        f'<g fill="none" stroke="{dark}" stroke-width="4" stroke-linecap="round" stroke-linejoin="round">{_GOODS[name]}</g></svg>'
    )


def face(name: str) -> str:
    """Return the picture of a face as SVG."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    light, dark = _colour(digest[0], 0.84, 0.55), _colour(digest[0], 0.30, 0.45)
    parts = _EYES[digest[1] % 4] + _MOUTHS[digest[2] % 4] + _HATS[digest[3] % 4]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" role="img">'
        f'<rect width="100" height="100" fill="{light}"/>'
        f'<g fill="{dark}" stroke="{dark}" stroke-width="0" stroke-linecap="round">{parts}</g></svg>'
    )


def _colour(hue: int, lightness: float, saturation: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue / 256, lightness, saturation)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
