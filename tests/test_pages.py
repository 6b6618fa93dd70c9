"""The report: what it holds, that nothing of it can become a program, and how a real browser shows it."""

from __future__ import annotations

import html.parser
import json
import re
import zipfile
from pathlib import Path

import browser
import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv
from small_runs import PLACES, SHAPE, evaluated_run

from jaxstroke import report as door
from jaxstroke.data.layouts import find_layout
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.pages import charts, evaluated, report, view, windows
from jaxstroke.pages.seen import Seen
from jaxstroke.runs.folder import RunFolder

HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror="document.title=\'taken\'">'


class Elements(html.parser.HTMLParser):
    """Every element of a page with its attributes, and the text inside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes) -> None:
        self.found.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id") or "main" if tag == "script" else ""

    def handle_data(self, data) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag) -> None:
        self._script = ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return evaluated_run(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def page(run: RunFolder) -> Path:
    return report.write(run.path / "report.html", [run])


def test_the_page_needs_nothing_outside_itself(page: Path) -> None:
    elements = Elements(page.read_text())
    for tag, attributes in elements.found:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert (
        "@import" not in page.read_text().split("</style>")[0] and "url(" not in page.read_text().split("</style>")[0]
    )


def test_every_section_and_figure_of_a_phantom_is_marked_and_of_real_studies_none(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    parts = re.findall(r"<section.*?</h2>|<figure.*?</figure>|<dialog.*?</dialog>|<footer.*?</footer>", text, re.S)
    assert len(parts) > 14
    assert all("phantom data</span>" in part for part in parts)
    assert "PHANTOM DATA" in text.split("<main>")[0]
    real = evaluated_run(tmp_path, phantom=False, places=PLACES[:1])
    text = report.write(tmp_path / "real.html", [real]).read_text()
    assert "phantom data</span>" not in text and "images of patients" in text.split("<main>")[0]


def test_the_table_holds_every_row_and_worst_comes_first(page: Path, run: RunFolder) -> None:
    data = json.loads(Elements(page.read_text()).scripts["data"])
    rows = evaluated.rows(run.path / "evaluation" / "test" / "scores.csv")
    assert len(data["rows"]) == len(rows) == 2 * len(PLACES)
    assert page.read_text().count("<tr data-system=") == len(rows)
    first = {row["study"]: row["dice"] for row in rows if row["system"] == "unet_isles22"}
    assert [first[study["name"]] for study in data["studies"]] == sorted(first.values())
    assert all(study["view"] for study in data["studies"])


def test_a_hostile_name_stays_a_name(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path, names=[HOSTILE, "../../up", "a/b\\c"])
    text = report.write(tmp_path / "report.html", [run]).read_text()
    clean = Elements(report.write(tmp_path / "again.html", [run]).read_text())
    assert HOSTILE not in text
    assert not [
        attributes for tag, attributes in clean.found if "onerror" in attributes or attributes.get("src") == "x"
    ]
    assert HOSTILE in [study["name"] for study in json.loads(clean.scripts["data"])["studies"]]
    scripts = [attributes for tag, attributes in clean.found if tag == "script"]
    assert sum(attributes.get("type") is None for attributes in scripts) == 1, "one script runs: the page's own"
    made = [path.name for path in (run.path / "evaluation").rglob("*.png")]
    assert len(made) == len(PLACES) and all(re.fullmatch(r"[A-Za-z0-9_-]+\.png", name) for name in made)
    assert not list(tmp_path.glob("up*"))


def test_a_title_with_markup_is_escaped(run: RunFolder, tmp_path: Path) -> None:
    text = report.write(tmp_path / "report.html", [run], title="<b>$title</b>").read_text()
    assert "<title>&lt;b&gt;$title&lt;/b&gt;</title>" in text


@pytest.mark.parametrize("kind, largest", [(np.uint8, 255), (np.uint16, 4095), (np.uint16, 65535)])
def test_packing_gives_back_every_number(kind: type, largest: int) -> None:
    values = np.random.default_rng(0).integers(0, largest + 1, (3, 5, 7)).astype(kind)
    np.testing.assert_array_equal(view.unpack(view.pack(values), values.shape, values.itemsize), values)


def seen_of(run: RunFolder, number: int = 0) -> Seen:
    case = find_layout("isles2022").find(run.path.parent / "data")[number]
    study = read_study(case, images=("DWI", "ADC"), masks=("lesion",))
    mask = np.roll(study.masks["lesion"], 2, axis=2)
    return Seen(study, {"net": {"lesion": mask}}, {"lesion": mask.astype(np.float32)}, {})


def test_a_view_holds_the_studys_values_and_masks_where_they_were(run: RunFolder) -> None:
    seen = seen_of(run)
    made = view.view(seen, phantom=True, most_bytes=10**7)
    box = tuple(slice(at, at + size) for at, size in zip(made["corner"], made["shape"], strict=True))
    assert made["shrink"] == 1 and np.prod(made["shape"]) < np.prod(SHAPE), "the air around the head is left out"
    for volume in made["volumes"][:2]:
        expected = seen.study.images[volume["name"]][box]
        shown = view.values(volume, made["shape"])
        inside = (shown > volume["low"] + volume["step"]) & (shown < volume["low"] + 4094 * volume["step"])
        np.testing.assert_allclose(shown[inside], expected[inside], atol=0.51 * volume["step"])
        assert volume["step"] < 0.001 * np.ptp(expected)
    drawn = view.unpack(made["references"]["lesion"], made["shape"], 1)
    np.testing.assert_array_equal(drawn, seen.study.masks["lesion"][box])
    assert drawn.sum() == seen.study.masks["lesion"].sum()


def test_a_large_study_is_shown_more_coarsely_not_left_out(run: RunFolder) -> None:
    seen = seen_of(run)
    whole = view.view(seen, phantom=True, most_bytes=10**9)
    sizes = [len(json.dumps(view.view(seen, phantom=True, most_bytes=most))) for most in (27_000, 20_000)]
    small = view.view(seen, phantom=True, most_bytes=20_000)
    assert len(json.dumps(whole)) > 27_000 >= sizes[0] and sizes[1] <= 20_000
    assert small["shrink"] > 1 and small["spacing_mm"][1] == whole["spacing_mm"][1] * small["shrink"]


def test_views_beyond_the_room_of_a_page_are_those_in_the_middle(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [path.stat().st_size for path in (run.path / "evaluation/test/views").glob("*.json")]
    monkeypatch.setattr(report, "MOST_BYTES", 2 * max(sizes) + 10)
    text = report.write(run.path / "less.html", [run]).read_text()
    data = json.loads(Elements(text).scripts["data"])
    assert [study["view"] for study in data["studies"]] == [True, False, False, True]


def test_several_runs_share_a_page_and_a_rule_is_counted_once(run: RunFolder, tmp_path: Path) -> None:
    text = report.write(tmp_path / "both.html", [run, run], title="two folds").read_text()
    assert len(json.loads(Elements(text).scripts["data"])["rows"]) == 2 * len(PLACES)


def test_a_run_that_was_not_judged_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = evaluated_run(tmp_path, places=PLACES[:1])
    assert door.main([str(run.path), "--split", "validation", "-o", str(tmp_path / "page.html")]) == 0
    assert "Not judged yet" in (tmp_path / "page.html").read_text()
    assert "jaxstroke.evaluate" in capsys.readouterr().out


def test_mistakes_are_one_line(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run folder"):
        door.main([str(tmp_path)])
    with pytest.raises(UserError, match="-o is missing"):
        door.main([str(run.path), str(run.path)])
    broken = evaluated_run(tmp_path, places=PLACES[:1])
    (broken.path / "evaluation/test/views/0001.json").write_text("{")
    with pytest.raises(UserError, match="0001.json: it cannot be read .* evaluate the run again"):
        report.write(tmp_path / "page.html", [broken])


def test_a_violin_is_widest_where_most_values_are_and_bland_altmans_lines_are_right() -> None:
    axis = charts.linear("Dice", [0, 1], low=0, high=1)
    points = [charts.Point(0, value, 0, "", "#") for value in (0.1, 0.8, 0.81, 0.82)]
    drawn = charts.violins([points], ["net"], axis)
    corners = re.search(r'class="violin c0" points="([^"]*)"', drawn)
    assert corners is not None
    right = [tuple(map(float, corner.split(","))) for corner in corners[1].split()][:48]
    widest = max(right)[1]
    assert abs(widest - charts._y(axis, 0.81)) < 8
    altman = charts.bland_altman(points, ["net"], [1.0, 2.0, 6.0], [0.0, 2.0, 3.0])
    assert "bias +1.3 mL" in altman and "+1.96 SD +4.3 mL" in altman and "-1.96 SD -1.7 mL" in altman


def test_presets_are_in_the_units_of_the_image() -> None:
    image = np.linspace(0, 100, 1000).reshape(1, 10, 100)
    names = [preset["name"] for preset in windows.presets("CT", image)]
    assert names[:2] == ["stroke CT", "brain CT"] and windows.presets("CT", image)[0] == {
        "name": "stroke CT",
        "low": 20,
        "high": 60,
    }
    assert [preset["name"] for preset in windows.presets("DWI", image)] == ["DWI", "bright DWI"]
    assert windows.presets("ADC", image)[0]["high"] == 3000 and windows.presets("Tmax", image)[0]["high"] == 12


@pytest.mark.slow
def test_the_viewer_and_its_licence_travel_in_the_wheel(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = hatchling.WheelBuilder(str(Path(__file__).parent.parent)).build(
        directory=str(tmp_path), versions=["standard"]
    )
    names = zipfile.ZipFile(wheel).namelist()
    for part in (report.VIEWER, "NIIVUE-LICENSE.txt", "page.html", "page.css", "viewer.js", "unpack.js", "table.js"):
        assert f"jaxstroke/pages/parts/{part}" in names


# --- a real browser ---

NEEDS_BROWSER = pytest.mark.skipif(browser.find() is None, reason="no Chromium here (Debian: apt install chromium)")


def of_hue(picture: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixels of a colour, whatever grey shows through it."""
    hue, saturation, value = np.moveaxis(rgb_to_hsv(picture / 255), -1, 0)
    return (saturation > 0.35) & (value > 0.3) & (hue * 360 > low) & (hue * 360 < high)


def yellow(picture: np.ndarray) -> np.ndarray:
    return of_hue(picture, 45, 70)


def orange(picture: np.ndarray) -> np.ndarray:
    return of_hue(picture, 20, 45)


def blue(picture: np.ndarray) -> np.ndarray:
    return of_hue(picture, 180, 220)


@NEEDS_BROWSER
@pytest.mark.slow
def test_in_a_browser(page: Path, tmp_path: Path) -> None:
    with browser.opened(tmp_path) as tab:
        tab.size(1280, 900)
        tab.open(page)
        _the_table_sorts_and_filters(tab)
        _the_keyboard_alone_opens_a_study(tab)
        _the_canvas_shows_the_lesion(tab)
        _keys_change_what_is_shown(tab)
        _narrow_and_dark(tab)
        assert not tab.errors, tab.errors
        assert not [one for one in tab.requests if not one.startswith(("file:///", "data:", "blob:"))]
        assert sum(one.startswith("file:///") for one in tab.requests) == 1, "the page alone is read"


def _the_table_sorts_and_filters(tab: browser.Page) -> None:
    shown = "[...document.querySelectorAll('#studies-table tbody tr:not([hidden])')]"
    assert tab.ask(f"{shown}.length") == len(PLACES), "the network's rows, until others are asked for"
    column = "document.querySelectorAll('#studies-table thead button')[3]"
    for order in (1, -1):
        tab.ask(f"{column}.click()")
        dice = tab.ask(f"{shown}.map((row) => Number(row.cells[3].dataset.value))")
        assert dice == sorted(dice, reverse=order < 0) and len(dice) == len(PLACES)
    tab.ask("const find = document.getElementById('find'); find.value = '0002'; find.dispatchEvent(new Event('input'))")
    assert tab.ask(f"{shown}.map((row) => row.cells[0].textContent)") == ["sub-strokecase0002"]
    tab.ask("find.value = ''; find.dispatchEvent(new Event('input'))")


def _the_keyboard_alone_opens_a_study(tab: browser.Page) -> None:
    for _ in range(80):
        tab.press("Tab")
        if tab.ask("document.activeElement.matches('#studies-table tbody a')"):
            break
    number = int(tab.ask("document.activeElement.hash").rpartition("-")[2])
    tab.press("Enter")
    tab.wait(f"viewer.ready.study === {number} && viewer.ready.drawn > 0", 60)
    assert tab.ask("document.getElementById('viewer-notice').hidden"), "NiiVue runs: no notice of a fallback"
    assert tab.ask("document.activeElement.closest('dialog') !== null")
    assert "true positive" in tab.ask("document.getElementById('readout').textContent")


def _the_canvas_shows_the_lesion(tab: browser.Page) -> None:
    """What is yellow, orange and blue on the screen has the area and the place that the masks have."""
    tab.ask("location.hash = 'study-0'")
    tab.wait("viewer.ready.study === 0")
    tab.press("c")  # contours away
    tab.ask("const o = document.getElementById('opacity'); o.value = 100; o.dispatchEvent(new Event('input'))")
    before = tab.ask("viewer.ready.drawn")
    tab.press("f")
    tab.wait(f"viewer.ready.drawn > {before} && document.getElementById('show-fill').checked")
    frame = tab.ask(
        "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('canvas').getBoundingClientRect())"
    )
    left, top, width, height = (round(value) for value in frame)
    picture = tab.picture()[top : top + height, left : left + width]
    agreed, wrong, missed = yellow(picture), orange(picture), blue(picture)
    (x0, y0), (x1, y1) = (tab.ask(f"viewer.place(2, {row}, {row})") for row in (0, 10))
    pixels_each = abs((x1 - x0) * (y1 - y0)) / 100
    # A square of 8 x 8, predicted two columns aside: 6 columns agree, 2 are missed, 2 are wrong.
    for found, voxels in ((agreed, 48), (wrong, 16), (missed, 16)):
        assert found.sum() == pytest.approx(voxels * pixels_each, rel=0.2)
    crosshair = tab.ask("viewer.crosshair()")
    x, y = tab.ask(f"viewer.place(...{json.dumps(crosshair)})")
    rows, columns = np.nonzero(agreed | wrong | missed)
    assert abs(rows.mean() - y) < 1.5 * abs(y1 - y0) / 10 and abs(columns.mean() - x) < 1.5 * abs(x1 - x0) / 10
    assert np.nonzero(wrong)[1].mean() > np.nonzero(missed)[1].mean(), "rolled to higher columns: to the patient's left"
    tab.press("f")
    tab.press("c")


def _keys_change_what_is_shown(tab: browser.Page) -> None:
    slice_told = "document.getElementById('slice').value"
    before = int(tab.ask(slice_told))
    tab.press("ArrowUp")
    assert int(tab.ask(slice_told)) == before + 1
    tab.press("2")
    assert tab.ask("document.querySelector('input[name=image]:checked').dataset.name") == "ADC"
    for asked in ("coronal", "sagittal", "planes", "volume", "axial"):
        tab.press("v")
        assert tab.ask("document.getElementById('view').value") == asked
    title = tab.ask("document.getElementById('viewer-title').textContent")
    tab.press("n")
    tab.wait(f"document.getElementById('viewer-title').textContent !== {json.dumps(title)}")
    tab.press("Escape")
    tab.wait("!document.getElementById('viewer').open")
    assert tab.ask("document.activeElement.matches('#studies-table a')"), "back where one was"


def _narrow_and_dark(tab: browser.Page) -> None:
    light = tab.picture().mean()
    tab.size(360, 740, "dark")
    assert tab.ask("document.documentElement.scrollWidth") <= 360, "nothing is wider than the screen"
    assert tab.picture().mean() < 90 < 180 < light
    tab.ask("location.hash = 'study-1'")
    tab.wait("viewer.ready.study === 1")
    assert tab.ask("document.getElementById('canvas').getBoundingClientRect().width") <= 360
    assert tab.ask("document.getElementById('screen').getBoundingClientRect().height") > 150


@NEEDS_BROWSER
@pytest.mark.slow
def test_without_webgl_slices_are_pictures_and_a_name_does_not_run(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path, names=[HOSTILE], places=PLACES[:1])
    page = report.write(tmp_path / "report.html", [run])
    with browser.opened(tmp_path, "--disable-3d-apis") as tab:
        tab.size(900, 700)
        tab.open(page, "#study-0")
        tab.wait("viewer.ready.study === 0")
        assert "no WebGL 2" in tab.ask("document.getElementById('viewer-notice').textContent")
        assert tab.ask("document.getElementById('viewer-title').textContent") == HOSTILE
        assert tab.ask("document.title") != "taken" and not tab.ask("document.querySelector('img[src=x]')")
        picture = tab.picture()
        assert orange(picture).sum() > 100 and blue(picture).sum() > 50  # both contours
        tab.ask("const s = document.createElement('script'); s.text = 'document.title = 1'; document.head.append(s)")
        assert tab.ask("document.title") not in ("taken", "1"), "the page's policy lets no other script run"
