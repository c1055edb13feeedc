"""Pictures without a camera: a name makes a face, another name another one, always the same."""

from __future__ import annotations

import colorsys
import hashlib
from typing import Final

_EYES: Final = (
    '<circle cx="36" cy="44" r="5"/><circle cx="64" cy="44" r="5"/>',
    '<path d="M30 46q6-8 12 0M58 46q6-8 12 0" fill="none" stroke-width="4"/>',
    '<circle cx="36" cy="44" r="9" fill="none" stroke-width="4"/><circle cx="64" cy="44" r="9" fill="none" stroke-width="4"/>'
    '<path d="M45 44h10" stroke-width="4"/>',
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
