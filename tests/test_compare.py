"""Systems side by side: the same studies or none, every test over the whole table, patients where slabs share one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from jaxstroke import command, compare
from jaxstroke.errors import UserError
from jaxstroke.judging import kept
from jaxstroke.metrics import scorecard, statistics

STUDIES = [f"case_{number}" for number in range(1, 13)]


def judge(
    folder: Path,
    systems: Mapping[str, float],
    *,
    studies: Sequence[str] = STUDIES,
    patients: Mapping[str, str] | None = None,
    data: str = "phantom",
    rules: str = "",
) -> Path:
    """A run folder whose evaluation has a row for each system and study; a system's number is how wrong it is."""
    lines, masks = [], []
    for index, study in enumerate(studies):
        reference = np.zeros((3, 12, 12), bool)
        reference[1, 2 : 6 + index % 4, 2:8] = True
        masks += [kept.line(study, "lesion", f"reference {reader}", reference) for reader in ("R1", "R2")]
        for system, wrong in systems.items():
            noise = np.random.default_rng([index, *system.encode()]).random(reference.shape) < wrong
            row = scorecard.score(reference ^ noise, reference, (5.0, 4.0, 4.0))
            masks.append(kept.line(study, "lesion", system, reference ^ noise))
            patient = (patients or {}).get(study, study)
            about = {"data": data, "study": study, "patient": patient, "target": "lesion", "system": system}
            lines.append({**about, **({"rules": rules} if rules else {}), **row})
    file = folder / "evaluation" / "test" / "scores.csv"
    file.parent.mkdir(parents=True)
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    kept.write(file.parent / kept.FILE, masks)
    return folder


def compared(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert compare.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_differences_and_tests_are_those_of_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = judge(tmp_path / "good", {"good": 0.02}), judge(tmp_path / "bad", {"bad": 0.1})
    tree = compared(capsys, good, bad, "--scores", "dice,recall")
    assert tree["phantom"] is True and tree["unit"] == "studies" and len(tree["differences"]) == 2

    def dice(run: Path) -> list[float]:
        with (run / "evaluation" / "test" / "scores.csv").open() as file:
            return [float(row["dice"]) for row in csv.DictReader(file)]

    one = tree["differences"][0]
    ours, theirs = dice(good), dice(bad)
    assert (one["first"], one["second"], one["score"], one["difference"]["n"]) == ("good", "bad", "dice", 12)
    assert one["difference"]["mean"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert one["difference"]["low"] < one["difference"]["mean"] < one["difference"]["high"]
    p = [difference["wilcoxon"]["p"] for difference in tree["differences"]]
    assert p[0] == pytest.approx(statistics.wilcoxon_signed_rank(ours, theirs).p)
    assert [difference["wilcoxon_holm"] for difference in tree["differences"]] == pytest.approx(statistics.holm(p))
    assert one["wilcoxon_holm"] > p[0]


def test_volumes_and_kappa(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judge(tmp_path / "run", {"exact": 0.0, "wrong": 0.2})
    exact, wrong = compared(capsys, run)["agreement"]
    assert exact["volumes"]["mean_difference"] == 0 and exact["kappa"]["mean"] == 1
    assert exact["kappa_level"] == "almost perfect"
    apart = np.subtract(wrong["predicted_ml"], wrong["reference_ml"])
    assert wrong["volumes"]["mean_difference"] == pytest.approx(apart.mean())
    assert wrong["volumes"]["upper_limit"] == pytest.approx(apart.mean() + 1.96 * apart.std(ddof=1))


def test_kappa_between_readers_and_networks_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = judge(tmp_path / "one", {"net": 0.02}), judge(tmp_path / "two", {"net": 0.1, "other": 0.1})
    pairs = {(line["first"], line["second"]): line for line in compared(capsys, one, two)["kappa"]}
    second = f"net ({two})"
    assert pairs["reference R1", "reference R2"]["kappa"]["mean"] == 1
    assert pairs["reference R1", "net"]["kappa"]["mean"] > pairs["reference R1", second]["kappa"]["mean"]
    assert pairs["net", second]["kappa"]["n"] == 12 and len(pairs) == 10
    masks = kept.read(one, "test", ["net"])["case_3", "lesion"], kept.read(two, "test", ["net"])["case_3", "lesion"]
    assert pairs["net", second]["values"][2] == statistics.cohens_kappa(masks[0]["net"], masks[1]["net"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (2, 9, 16)])
def test_a_kept_mask_comes_back(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    for mask in (rng.random(shape) < 0.3, np.zeros(shape, bool), np.ones(shape, bool)):
        np.testing.assert_array_equal(kept.mask_of(kept.line("s", "t", "m", mask)), mask)


def test_a_damaged_mask_is_told(tmp_path: Path) -> None:
    run = judge(tmp_path / "run", {"a": 0.1, "b": 0.1})
    file = run / "evaluation" / "test" / kept.FILE
    lines = json.loads(file.read_text())
    for change in ({"bits": "eJw="}, {"box": [[0, 99], [0, 1], [0, 1]]}, {"shape": [10**6] * 3}, {"bits": 3}):
        file.write_text(json.dumps([{**lines[0], **change}]))
        with pytest.raises(UserError, match="masks.json: it is damaged"):
            compare.main([str(run)])


def test_tables_pictures_and_every_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = judge(tmp_path / "run", {"a": 0.02, "b": 0.05, "c": 0.2})
    out = tmp_path / "out"
    assert compare.main([str(run), "--all-pairs", "--scores", "dice", "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert "a - b" in told and "b - c" in told and "[PHANTOM]" in told and "limits of agreement" in told
    assert len(json.loads((out / "comparison.json").read_text())["differences"]) == 3
    for name in ("differences", "bland_altman", "kappa"):
        assert (out / f"{name}.png").stat().st_size > 5000
    assert len(compared(capsys, run, "--scores", "dice", "--systems", "b,c")["differences"]) == 1


def test_a_rule_judged_beside_two_runs_stands_there_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = judge(tmp_path / "one", {"net": 0.02, "rule": 0.1})
    two = judge(tmp_path / "two", {"net": 0.02, "rule": 0.1})
    (two / "evaluation" / "test" / "scores.csv").write_text(
        (two / "evaluation" / "test" / "scores.csv").read_text().replace(",net,", ",other,")
    )
    names = [one["system"] for one in compared(capsys, one, two)["agreement"]]
    assert names == ["net", "rule", "other"]


def test_slabs_of_a_patient_are_one_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patients = {study: f"p{index // 2}" for index, study in enumerate(STUDIES)}
    run = judge(tmp_path / "run", {"a": 0.02, "b": 0.1}, patients=patients)
    tree = compared(capsys, run, "--scores", "dice,hd95_mm")
    assert tree["unit"] == "patients" and [one["difference"]["n"] for one in tree["differences"]] == [6, 6]
    assert compared(capsys, run, "--by-study", "--scores", "dice")["differences"][0]["difference"]["n"] == 12


def test_other_studies_are_refused(tmp_path: Path) -> None:
    run = judge(tmp_path / "run", {"a": 0.02})
    fewer = judge(tmp_path / "fewer", {"b": 0.02}, studies=STUDIES[:-1])
    with pytest.raises(UserError, match=r"not judged on the same studies as .*: case_12 \(lesion\) was judged by a"):
        compare.main([str(run), str(fewer)])
    others = judge(tmp_path / "others", {"b": 0.02}, studies=[*STUDIES[1:], STUDIES[0]])
    with pytest.raises(UserError, match="is another study than that of .*reference_volume_ml"):
        compare.main([str(run), str(others)])
    ruled = judge(tmp_path / "ruled", {"b": 0.02}, rules="isles24")
    with pytest.raises(UserError, match="scored by the rules isles24, .* by isles22"):
        compare.main([str(run), str(ruled)])


def test_mistakes_are_one_plain_line(tmp_path: Path) -> None:
    run = judge(tmp_path / "run", {"a": 0.02})
    (tmp_path / "empty").mkdir()
    evaluate = re.escape(command.text("evaluate"))
    for words, told in (
        ([run], "only a was judged there; name another run"),
        ([run, tmp_path / "empty"], f"empty: it was not evaluated on test studies yet; first: {evaluate} "),
        ([run, tmp_path / "gone"], "gone: there is no such run folder"),
        ([run, run, "--scores", "dise"], "--scores dise: there is no such score"),
        ([run, "--systems", "x"], "--systems x: it was not judged there; there are a"),
    ):
        with pytest.raises(UserError, match=told):
            compare.main([str(word) for word in words])
