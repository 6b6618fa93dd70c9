"""The papers' tables: every row is an experiment, what is measured is kept, and what is missing or failed is said."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import math
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import small_experiment
from small_studies import isles2022_root, lesion

from jaxstroke import papers, tables
from jaxstroke.data.prepare import prepare
from jaxstroke.data.study import read_study
from jaxstroke.errors import UserError
from jaxstroke.experiment import catalogue
from jaxstroke.inference import unlike
from jaxstroke.metrics import statistics
from jaxstroke.metrics.rules import find_rules
from jaxstroke.metrics.strata import VOLUMES
from jaxstroke.models import registry
from jaxstroke.papers import answers, filled, measure, plan, written
from jaxstroke.papers.declared import OF_A_RUN, SIZES, Answers, Paper, Row, Table, number
from jaxstroke.papers.measure import KEPT
from jaxstroke.process.signals import REQUEUE
from jaxstroke.runs.folder import RunFolder
from jaxstroke.training.display import Report

HOW = {"scale": "small", "repeats": None, "data": {}}
STUDIES = tuple(f"case_{one}" for one in range(12))


@pytest.mark.parametrize("table", papers.chosen(), ids=lambda table: table.name)
def test_a_declared_table_can_be_measured(table: Table) -> None:
    find_rules(table.rules)
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names) and table.against in names
    assert {column.score for column in table.columns} <= {*KEPT, "f1_of_means", *SIZES, *OF_A_RUN}
    for row in table.rows:
        assert len(row.figures) == len(table.columns), row.name
        assert row.stratum in ("", *VOLUMES)
        data = catalogue.load(row.experiment).data
        assert not row.target or row.target.partition("/")[0] in data.channels
        mean, _ = zip(*map(number, row.figures), strict=True)
        tops = (math.inf if column.score in SIZES else
                100 if column.factor == 100 or column.score not in ("dice", "f1_of_means") else 1
                for column in table.columns)  # fmt: skip
        assert all(math.isnan(one) or 0 < one <= top for one, top in zip(mean, tops, strict=True)), row.name


def test_every_row_of_the_papers_is_there() -> None:
    assert {table.name: len(table.rows) for table in papers.chosen()} == {
        "dme_net-fig1": 3, "dme_net-strata": 9, "dme_net-ablations": 3, "cross_domain-1-adc": 8,
        "cross_domain-1-dwi": 8, "cascade-1": 15, "cascade-2": 15, "cascade-stages": 3, "mdanet-1": 11,
        "mdanet-2": 7, "mdanet-3": 5, "mdanet-4": 3, "mdanet-5": 4, "mdanet-6": 5, "reliability-answers": 4,
        "reliability-unlike": 5,
    }  # fmt: skip
    assert papers.chosen("mdanet-4")[0].rows[0].figures[0] == "56.22 +- 1.27"
    with pytest.raises(UserError, match=r"mdanet-7: there is no such paper or table"):
        papers.chosen("mdanet-7")


@pytest.mark.parametrize("table", papers.chosen(), ids=lambda table: table.name)
def test_a_published_dice_is_also_what_the_experiment_says_that_was_published(table: Table) -> None:
    """Typed twice from the papers: digits that were swapped in one place are not in the other."""
    for row in table.rows if "dice" in {column.score for column in table.columns} and not table.rows[0].stratum else ():
        (printed,) = (
            figure for column, figure in zip(table.columns, row.figures, strict=True) if column.score == "dice"
        )
        told = (catalogue.folder() / f"{catalogue.base(row.experiment)}.py").read_text(encoding="utf-8")
        figure = re.escape(printed.partition(" ")[0].lstrip("0"))
        assert math.isnan(number(printed)[0]) or re.search(rf"(?<!\d)0?{figure}(?!\d)", told), f"{row.name}: {printed}"


def test_a_printed_size_is_also_what_the_catalogue_says_that_was_printed() -> None:
    for one_of in (1, 2, 5):
        (table,) = papers.chosen(f"mdanet-{one_of}")
        printed = {tuple(float(one) for one in row.figures[-2:]) for row in table.rows if row.figures[-1]}
        told = {(one.mib, one.gmac) for entry in registry.catalogue() for one in entry.published
                if one.source == f"MDANet, Table {one_of}" and one.mib}  # fmt: skip
        assert printed == told or one_of == 5 and printed - told == {(25.3, 11.22)}


def test_a_size_is_counted_at_full_scale_and_stands_beside_the_printed_one(tmp_path: Path) -> None:
    (table,) = papers.chosen("mdanet-5")
    size = measure._size("mdanet_isles18_fusion_none")  # pyright: ignore
    assert size["mib"] == pytest.approx(22.5, rel=0.01) and size["gmac"] == pytest.approx(10.88, rel=0.02)
    for one, study_s in zip(plan.planned(table, table.rows[0], **HOW), (0.1, 0.3, None), strict=True):
        plan.keep(tmp_path, one, {**measured(0, one.changes["data.fold"]), "size": size, "study_s": study_s})
    row = filled.filled(table, tmp_path, **HOW)[0]
    assert row.means["study_s"] == pytest.approx((0.2, math.sqrt(0.02)))
    cells = written.cells(table, row)
    assert cells[3:] == ["22.5", f"{size['mib']:.1f}", "10.88", f"{size['gmac']:.2f}", "3 of 3"]
    headings = written.page([(table, [row])], scale="small")
    assert "| Weights (MiB), published | ours, full scale |" in headings and "ours [PHANTOM]" in headings


def measured(shift: float, fold: int) -> dict:
    """A run that held out every third study, with Dice by the study's number and `shift`."""
    rows = [
        {"study": study, "target": "lesion", "system": "net", "precision": 0.5, "recall": 0.25,
         "dice": 0.4 + index / 100 + shift * (1 + index / 50), "reference_volume_ml": 5.0 * index}
        for index, study in enumerate(STUDIES) if index % 3 == fold
    ]  # fmt: skip
    rows += [{**row, "system": "tmax_6s", "dice": 0.0} for row in rows]
    return {
        "rows": rows, "held_out": len(rows) // 2, "phantom": True, "seconds": 60.0, "command": ["train", "--exp", "x"],
        "jaxstroke": "0", "commit": "c0ffee", "versions": {"jax": "0"}, "python": "3", "device": {"kind": "cpu"},
    }  # fmt: skip


def keep(folder: Path, rows: Sequence[int] = (0, 1, 2), *, folds: Sequence[int] = (0, 1, 2)) -> Table:
    (table,) = papers.chosen("mdanet-4")
    for row in rows:
        for one in plan.planned(table, table.rows[row], **HOW):
            fold = one.changes["data.fold"]
            if fold in folds:
                plan.keep(folder, one, measured(0.1 * row, fold))
    return table


def test_means_are_of_folds_and_a_difference_is_tested_on_the_same_studies(tmp_path: Path) -> None:
    table = keep(tmp_path)
    rows = filled.filled(table, tmp_path, **HOW)
    by_fold = [np.mean([0.4 + index / 100 for index in range(fold, 12, 3)]) for fold in range(3)]
    assert rows[0].means["dice"] == pytest.approx((np.mean(by_fold), np.std(by_fold, ddof=1)))
    assert rows[0].means["f1_of_means"][0] == pytest.approx(1 / 3) and rows[0].runs == 3
    pairs = [[one.studies[study] for study in STUDIES] for one in rows]
    p = statistics.wilcoxon_signed_rank(pairs[0], pairs[2]).p  # both rows differ in every study: the same ranks
    assert rows[0].p == rows[1].p == pytest.approx(2 * p) and rows[0].stars == "***" and math.isnan(rows[2].p)


def test_a_study_without_a_defined_dice_is_left_out_of_the_pair_alone(tmp_path: Path) -> None:
    """Two masks without a lesion have none by some papers' rules; the difference used to be no number then."""
    add, *others = filled.filled(table := keep(tmp_path), tmp_path, **HOW)
    undefined = dataclasses.replace(add, studies={**add.studies, STUDIES[0]: math.nan})
    add, concat, _ = filled._tested(table, [undefined, *others])
    assert (add.pairs, concat.pairs) == (11, 12)
    assert add.difference == pytest.approx(-np.mean([0.2 * (1 + index / 50) for index in range(1, 12)]))


def test_what_a_table_shows_is_said_from_its_figures(tmp_path: Path) -> None:
    table = keep(tmp_path)
    rows = filled.filled(table, tmp_path, **HOW)
    assert rows[0].difference == pytest.approx(-np.mean([0.2 * (1 + index / 50) for index in range(12)]))
    (words, _) = written.shown(table, rows)
    assert words == (
        '**What this shows on phantoms**, by Dice of 12 studies against "Subtract": below it lie '
        f"Add ({100 * rows[0].difference:+.2f}, p < .001); Concat ({100 * rows[1].difference:+.2f}, p < .001)."
    )
    mixed = [dataclasses.replace(rows[0], p=0.2), dataclasses.replace(rows[1], difference=0.03), rows[2]]
    assert written.shown(table, mixed)[0].endswith(
        "Above it lies Concat (+3.00, p < .001). Of the others nothing is shown: "
        f"Add ({100 * rows[0].difference:+.2f}, p = 0.200)."
    )
    fewer = [dataclasses.replace(rows[0], pairs=9), *rows[1:]]
    assert 'by Dice of 9 to 12 studies against "Subtract"' in written.shown(table, fewer)[0]
    nothing = [dataclasses.replace(rows[0], p=0.05), rows[2]]
    assert "nothing. No difference is beyond chance: Add (" in written.shown(table, nothing)[0]
    assert written.shown(table, rows[2:]) == [], "nothing was tested"


def test_dice_by_image_quality_where_every_study_tells_it(tmp_path: Path) -> None:
    (table,) = papers.chosen("mdanet-4")
    for one in plan.planned(table, table.rows[2], **HOW):
        tree = measured(0, one.changes["data.fold"])
        lines = [{**row, "quality": "motion" if row["dice"] > 0.495 else "good"} for row in tree["rows"]]
        plan.keep(tmp_path, one, {**tree, "rows": lines})
    rows = filled.filled(table, tmp_path, **HOW)
    assert rows[2].by_quality == {"good": (pytest.approx(0.445), 10), "motion": (pytest.approx(0.505), 2)}
    page = written.page([(table, rows)], scale="small")
    assert "| DSC (%) by image quality [PHANTOM] | good | motion |\n|---|---|---|\n| Subtract | 44.50 (10) |" in page
    keep(tmp_path)
    assert "by image quality" not in written.page([(table, filled.filled(table, tmp_path, **HOW))], scale="small")


def test_a_stratum_holds_its_studies_alone(tmp_path: Path) -> None:
    table = papers.chosen("dme_net-strata")[0]
    for one in plan.planned(table, table.rows[0], **HOW):
        plan.keep(tmp_path, one, measured(0.0, one.changes["data.fold"]))
    rows = {row.row.name: row for row in filled.filled(table, tmp_path, **HOW)}
    small, large = rows["DME-Net, < 10 mL"], rows["DME-Net, > 50 mL"]
    assert set(small.studies) == {"case_1"} and set(large.studies) == {"case_11"}
    assert len(rows["DME-Net, all"].studies) == 12


def test_what_is_kept_counts_until_the_experiment_or_its_file_changes(tmp_path: Path) -> None:
    table = keep(tmp_path)
    one = plan.planned(table, table.rows[0], **HOW)[0]
    assert plan.is_measured(plan.kept(tmp_path, one))
    path = tmp_path / one.file_name
    tree = json.loads(path.read_text())
    path.write_text(json.dumps({**tree, "held_out": 99}))
    with pytest.raises(UserError, match="damaged or was changed by hand"):
        plan.kept(tmp_path, one)
    older = {name: value for name, value in tree["experiment"].items() if name != "cascade"}
    plan.keep(tmp_path, one, {**measured(0, 0), "experiment": older})
    assert plan.is_measured(plan.kept(tmp_path, one)), "a field that came since, and is as it was by default"
    plan.keep(tmp_path, one, {"failed": "train ended with 2"})
    assert not plan.is_measured(plan.kept(tmp_path, one))
    plan.keep(tmp_path, one, {**measured(0, 0), "experiment": {**tree["experiment"], "scale": "full"}})
    assert plan.kept(tmp_path, one) == {}


def test_a_missing_and_a_failed_run_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "results"
    table = keep(folder, (1, 2))
    keep(folder, (0,), folds=(0,))
    plan.keep(folder, plan.planned(table, table.rows[0], **HOW)[2], {"failed": "train ended with 2"})
    assert tables.main(["mdanet-4", "--scale", "small", "--no-training", "-o", str(tmp_path)]) == 0
    told, page = capsys.readouterr().out, (tmp_path / "results.md").read_text()
    assert "missing, Add: fold-1-of-3: not measured" in told and "fold-2-of-3: train ended with 2" in told
    section = page.partition("## MDANet, Table 4")[2].partition("\n## ")[0]
    assert "[PHANTOM]" in section and "| 56.22 +- 1.27 | 44.50 |" in section and "| 1 of 3 |" in section
    assert "**Add lacks fold-1-of-3: not measured; fold-2-of-3: train ended with 2.**" in section
    assert "lacks" not in section.replace("Add lacks", "") and "c0ffee" in section
    assert "| 57.72 +- 2.90 | 56.60 +- 1.20*** |" in section
    assert "`cascade-1` (Cascade, Table 1)" in page.partition("## Not measured")[2]
    with (folder / "mdanet-4.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["data"] for line in lines} == {"phantom"} and len(lines) == 9
    assert (folder / "mdanet-4.png").stat().st_size > 5000
    shared = page.partition("## MDANet, Table 1")[2].partition("\n## ")[0]
    assert "Not measured: U-Net; Attention U-Net" in shared and "3 of 3" in shared, "MDANet's run counts here too"


def test_a_figure_that_lies_there_is_on_the_page_with_its_mark(tmp_path: Path) -> None:
    keep(tmp_path / "results")
    words = ["mdanet-4", "--scale", "small", "--no-training", "-o", str(tmp_path)]
    for there in (False, True):
        assert tables.main(words) == 0
        page = (tmp_path / "results.md").read_text()
        section = page.partition("## MDANet, Fig. 11: ")[2].partition("\n## ")[0]
        assert bool(section) == there
        (tmp_path / "results" / "mdanet-fig11.png").write_bytes(b"a picture")
    assert "[PHANTOM]" in section and "](results/mdanet-fig11.png)" in section and "Cascade, Fig. 4: " not in page


def test_how_long_it_takes_is_said_from_what_was_measured(tmp_path: Path) -> None:
    table = keep(tmp_path, (2,))
    todo = plan.of_tables([table], ["Add"], **HOW)
    assert len(todo) == 3 and plan.seconds(tmp_path, todo, plan.of_tables([table], **HOW)) == 180.0
    assert plan.seconds(tmp_path / "none", todo, todo) is None


@pytest.mark.slow
def test_a_run_that_fails_is_kept_as_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    words = ["mdanet-4", "--scale", "small", "--seeds", "2", "--rows", "Add", "--data", "isles2018=data"]
    assert tables.main(words) == 1
    said = capfd.readouterr()
    assert "2 runs are to be trained" in said.out and "2 runs failed" in said.err
    assert "missing, Add: fold-1-of-2: train ended with 2" in said.out


def test_mistakes_in_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, told in (
        (["mdanet-4", "--rows", "Ad"], "--rows Ad: there is no such row"),
        (["mdanet-4", "--seeds", "1"], "goes by folds, and at least 2"),
        (["--data", str(tmp_path)], "LAYOUT=PATH"),
        (["--data", "isles2018=nowhere"], "there is no folder nowhere"),
    ):
        with pytest.raises(UserError, match=told):
            tables.main([*words, "--no-training"])
    monkeypatch.setenv("JAXSTROKE_DATA", str(tmp_path))
    with pytest.raises(UserError, match="JAXSTROKE_DATA names one data set"):
        tables.main(["--list"])


def test_a_page_of_all_folds_is_made_once_they_are_judged_and_again_when_one_is_judged_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (table,) = papers.chosen("mdanet-4")
    own = plan.planned(table, table.rows[2], **HOW)
    made: list[Path] = []

    def write(out: Path, runs: Sequence[object], **named: object) -> Path:
        assert len(runs) == 3
        out.write_text("page")
        made.append(out)
        return out

    monkeypatch.setattr(measure.report, "write", write)
    monkeypatch.setattr(measure, "is_judged", lambda one: measure._summary(one).is_file())  # pyright: ignore
    for one in own:
        assert measure.pages(own) == [], "not all are judged"
        summary = one.run / "evaluation" / one.split / "summary.json"
        summary.parent.mkdir(parents=True)
        summary.write_text("{}")
    (page,) = measure.pages(own)
    assert page.name.startswith("mdanet_isles18-small-folds") and measure.pages(own) == []
    later = page.stat().st_mtime + 5
    os.utime(own[1].run / "evaluation" / own[1].split / "summary.json", (later, later))
    assert measure.pages(own) == [page] and made == [page, page]


def of_reliability(number: int) -> Table:
    return papers.chosen("reliability")[number]


def test_a_flag_and_an_interval_have_their_means_over_seeds(tmp_path: Path) -> None:
    """Two of twelve studies are called unlike by one seed and three by another: .208 +- .059, and no Dice is asked."""
    table = of_reliability(1)
    noisy = table.rows[1]
    for one, called in zip(plan.planned(table, noisy, **HOW), (2, 3, 0), strict=True):
        rows = [
            {"study": study, "target": "lesion", "system": "net", "called_unlike": float(number < called)}
            for number, study in enumerate(STUDIES)
        ]
        if called:
            plan.keep(tmp_path, one, {**measured(0, 0), "rows": rows})
    row = filled.filled(table, tmp_path, **HOW)[1]
    shares = (2 / 12, 3 / 12)
    assert row.means["called_unlike"] == pytest.approx((np.mean(shares), np.std(shares, ddof=1)))
    assert row.by_run == pytest.approx(shares) and (row.runs, row.planned) == (2, 3) and math.isnan(row.p)
    assert row.missing == ("seed-2: not measured",)


def test_a_score_that_an_answer_does_not_have_is_no_undefined_one(tmp_path: Path) -> None:
    """Without a calibration there is no interval; a lesion-wise score of studies without lesions is undefined."""
    table = of_reliability(0)
    for one in plan.planned(table, table.rows[0], **HOW):
        rows = [{**row, "lesion_f1": None} for row in measured(0, 0)["rows"]]
        plan.keep(tmp_path, one, {**measured(0, 0), "rows": rows})
    cells = written.cells(table, filled.filled(table, tmp_path, **HOW)[0])
    assert (cells[4], cells[6]) == ("undefined", "-")
    (sized,) = papers.chosen("mdanet-5")
    for one in plan.planned(sized, sized.rows[0], **HOW):
        plan.keep(tmp_path, one, measured(0, one.changes["data.fold"]))
    cells = written.cells(sized, filled.filled(sized, tmp_path, **HOW)[0])
    assert cells[4] == "**missing**", "it has a size, which was not counted"


def test_runs_that_answer_in_several_ways_are_trained_and_calibrated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, *_, together = (plan.planned(of_reliability(0), row, **HOW) for row in of_reliability(0).rows)
    as_they_are = plan.planned(of_reliability(1), of_reliability(1).rows[0], **HOW)
    assert as_they_are == plan.planned(of_reliability(0), of_reliability(0).rows[1], **HOW), "kept once"
    assert len(together) == 1 and [one.run for one in together[0].every_seed] == [one.run for one in plain]
    assert len({one.file_name for table in (0, 1) for one in plan.of_tables([of_reliability(table)], **HOW)}) == 22
    done: list[str] = []

    def through(one: plan.Planned, door: str, words: Sequence[str]) -> None:
        done.append(f"{door} {one.mark}")

    judged: list[tuple[list[str], str]] = []

    def judge(runs: Sequence[RunFolder], how: Answers, **_: object) -> list:
        judged.append(([run.path.name for run in runs], how.name))
        return []

    monkeypatch.setattr(measure, "_through", through)
    monkeypatch.setattr(measure, "_is_trained", lambda one: f"train {one.mark}" in done)
    monkeypatch.setattr(measure, "_found", lambda one, rows: {"rows": rows})
    monkeypatch.setattr(answers, "are_calibrated", lambda runs: "calibrate seed-0" in done)
    monkeypatch.setattr(answers, "judge", judge)
    for one in (plain[1], as_they_are[2], together[0]):
        assert measure.measure(one) == (0, {"rows": []})
    assert done == ["train seed-1", "train seed-0", "train seed-2", "calibrate seed-0"]
    assert judged == [
        (["reliability-small-seed-1"], "plain"),
        (["reliability-small-seed-2"], "calibrated"),
        ([f"reliability-small-seed-{seed}" for seed in range(3)], "together"),
    ]


def test_a_change_shows_in_what_it_is_of(tmp_path: Path) -> None:
    """Exchanged sides in nothing, as it is said of them."""
    case = isles2022_root(tmp_path, [lesion((3, 24, 24), {1: (8, 8)}, side=6)])[0]
    study, rng = read_study(case, images=("DWI", "ADC")), np.random.default_rng(0)
    data = small_experiment(**{"data.spacing_mm": 2.0}).data
    seen = unlike.ranges([unlike.figures_of(study, prepare(study, data), data)])

    def reasons(word: str) -> str:
        changed = answers.CHANGES[word](study, rng)
        return "; ".join(unlike.reasons(unlike.figures_of(changed, prepare(changed, data), data), seen))

    assert reasons("noise") and "ADC size" in reasons("units") and "spacing" in reasons("spacing")
    assert "DWI size" not in reasons("units") and reasons("sides") == ""


_TOY = {
    "data.size": 32, "data.spacing_mm": 6.0, "data.phantom_cases": 6, "model.width": 2, "training.epochs": 2,
    "training.steps_per_epoch": 2, "augment.probability": 0.0,
}  # fmt: skip


def _in_this_process(door: str, words: list[str]) -> int:
    return importlib.import_module(f"jaxstroke.{door}").main(words)


@pytest.mark.slow
def test_a_table_that_is_stopped_and_goes_on_is_that_of_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two folds that two rows share, really trained and judged; stopped after the first step of the second."""
    (whole,) = papers.chosen("mdanet-1")
    rows = tuple(Row(name, "unet_isles18", "1 | 2") for name in ("U-Net", "the same"))
    columns = tuple(column for column in whole.columns if column.score in ("dice", "mib"))
    table = dataclasses.replace(whole, columns=columns, rows=rows, against="U-Net")
    planned, stepped, calls = plan.planned, Report.stepped, iter(range(1000))

    def in_toy_sizes(*words: Any, **how: Any) -> list[plan.Planned]:
        return [dataclasses.replace(one, changes={**one.changes, **_TOY}) for one in planned(*words, **how)]

    def stop_early(self: Report, *figures: float) -> None:
        stepped(self, *figures)  # type: ignore[arg-type]
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(papers, "PAPERS", {"mdanet": Paper("mdanet", "", (table,))})
    monkeypatch.setattr(plan, "planned", in_toy_sizes)
    monkeypatch.setattr(measure.job, "watch", _in_this_process)
    monkeypatch.setattr(measure.report, "write", lambda out, *_, **__: out)  # a page a run takes most of the time
    monkeypatch.chdir(tmp_path)
    words = ["--scale", "small", "--seeds", "2", "-o", "out"]
    with monkeypatch.context() as patch:
        patch.setattr(Report, "stepped", stop_early)
        assert tables.main(words) == REQUEUE
    assert "2 runs are to be trained" in capfd.readouterr().out
    assert len(list(Path("out/results").glob("*.json"))) == 1 and not Path("out/results.md").exists()
    assert tables.main(words) == 0
    told = capfd.readouterr().out
    assert "1 runs are to be trained" in told and "resuming runs/tables/unet_isles18-small-fold-1-of-2" in told
    kept = [json.loads(path.read_text())["rows"] for path in sorted(Path("out/results").glob("*.json"))]
    studies = [line["study"] for rows in kept for line in rows if line["system"] == "unet_isles18"]
    assert len(kept) == 2 and len(studies) == len(set(studies)) == 6, "each is held out once"
    lines = list(csv.DictReader(Path("out/results/mdanet-1.csv").read_text().splitlines()))
    assert [line["runs"] for line in lines] == ["2"] * 4 and all(float(line["measured"]) >= 0 for line in lines)

    (tmp_path / "one go").mkdir()
    monkeypatch.chdir(tmp_path / "one go")
    second = plan.planned(table, rows[0], scale="small", repeats=2, data={})[1]
    assert measure.measure(second)[1]["rows"] == kept[1]
