"""Between which values an image is shown, and how finely its values are kept for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Presets = tuple[tuple[str, float, float], ...]

# Name, low, high, in the units of the layouts. The narrow CT window is that in which early infarcts are looked for.
PRESETS: Mapping[str, Presets] = {
    "CT": (("stroke CT", 20, 60), ("brain CT", 0, 80)),
    "CTP": (("brain CT", 0, 80), ("vessels", 0, 200)),
    "ADC": (("ADC", 0, 3000), ("low ADC", 200, 1200)),
    "Tmax": (("Tmax, to 12 s", 0, 12), ("Tmax, to 20 s", 0, 20)),
    "MTT": (("MTT, to 20 s", 0, 20),),
}
# Beyond these nothing is looked at in a head; within them a byte tells values half a unit apart.
_WIDEST = {"CT": (-60.0, 140.0), "CTP": (-60.0, 260.0)}


def presets(word: str, image: np.ndarray) -> list[dict[str, Any]]:
    """The windows of an image: physical ones by its modality, else by its own values; the first is shown at once."""
    known = PRESETS.get(word, ())
    inside = image[image != 0]
    low, middle, high = np.percentile(inside, (1, 60, 99.5)) if inside.size else (0.0, 0.5, 1.0)
    own: list[tuple[str, float, float]] = [("its own range", min(0.0, float(low)), float(max(high, low + 1e-6)))]
    if word == "DWI":
        own = [("DWI", *own[0][1:]), ("bright DWI", float(middle), float(max(high, middle + 1e-6)))]
    return [{"name": name, "low": bottom, "high": top} for name, bottom, top in (*known, *own)]


def kept_range(word: str, image: np.ndarray, windows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The range whose values a page tells apart: all of the image's but for strays, and all of its windows."""
    if word in _WIDEST:
        return _WIDEST[word]
    low, high = (float(value) for value in np.percentile(image, (0.02, 99.98)))
    if word in PRESETS:  # a map in seconds or 1e-6 mm2/s: nothing is cut off inside its windows
        low, high = min(low, 0.0), max(high, *(float(window["high"]) for window in windows))
    return (low, high) if high > low else (low, low + 1.0)
