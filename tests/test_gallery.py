"""The gallery: its page is the script's, its pictures are there and small, and the script's pieces do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import browser
import numpy as np
import pytest
from PIL import Image
from small_runs import PLACES, evaluated_run

import scripts
from jaxstroke import papers
from jaxstroke.pages import report

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gallery.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return scripts.load("gallery")


def test_the_page_is_what_the_script_writes_and_every_picture_is_there(script: ModuleType) -> None:
    text = PAGE.read_text()
    assert text == script.page() and "scripts/gallery" in text and "phantoms" in text
    named = re.findall(r"\]\(pictures/(\S+\.png)\)", text)
    assert named == [picture.file_name for picture in script.PICTURES] and len(named) == len(set(named)) >= 9
    for name in named:
        with Image.open(PAGE.parent / "pictures" / name) as image:
            image.verify()
    figures = [figure.name for figure in papers.figures(papers.chosen())]
    assert {picture.name for picture in script.PICTURES} == {"overlay", "curves", "strip", "report", *figures}


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "pictures").glob("*")), ids=lambda path: path.name)
def test_a_picture_is_small(path: Path) -> None:
    assert path.stat().st_size <= 150_000


@pytest.mark.slow
def test_noise_is_brought_to_a_small_size(script: ModuleType, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (500, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.fromarray(noise // 255).save(tmp_path / "flat.png")
    script.put(tmp_path / "noise.png", tmp_path / "small.png")
    script.put(tmp_path / "flat.png", tmp_path / "same.png")
    assert (tmp_path / "small.png").stat().st_size <= script.MOST_BYTES < (tmp_path / "noise.png").stat().st_size
    np.testing.assert_array_equal(browser.pixels((tmp_path / "same.png").read_bytes()), noise // 255)


@pytest.mark.slow
@pytest.mark.skipif(browser.find() is None, reason="no Chromium here (Debian: apt install chromium)")
def test_a_report_is_seen_as_a_browser_shows_it(script: ModuleType, tmp_path: Path) -> None:
    run = evaluated_run(tmp_path, places=PLACES[:1])
    report.write(run.path / "report.html", [run])
    (picture,) = (one for one in script.PICTURES if one.name == "report")
    script.draw(picture, run, tmp_path / "report.png")
    pixels = browser.pixels((tmp_path / "report.png").read_bytes())
    assert pixels.shape == (760, 1100, 3)
    assert (np.abs(pixels.astype(int) - (230, 126, 0)).max(axis=-1) < 40).sum() > 100, "the predicted outline"
