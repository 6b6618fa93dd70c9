"""What the papers' tables would take on a card, from what was counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_tables import HOW, measured

from jaxstroke import papers
from jaxstroke.experiment import catalogue
from jaxstroke.papers import cost, filled, plan, written


def test_the_public_data_of_every_table_are_known() -> None:
    rows = [row for table in papers.chosen() for row in table.rows if row.experiment]
    assert {catalogue.load(row.experiment).data.layout for row in rows} == cost.DATA.keys()


def test_the_full_scale_on_a_card_is_computed_from_what_was_counted(tmp_path: Path) -> None:
    """502 slices, four folds of five, four fifths of those to train on: 321.28 an epoch, 200 epochs, 64,256 examples.

    With 10 GMAC each: 64,256 * 10e9 * 3 * 2 operations in 78e12 a second are 49.4 s.
    """
    mdanet, dme_net = catalogue.load("mdanet_isles18"), catalogue.load("dme_isles18")
    assert cost.hours(mdanet, 10.0) * 3600 == pytest.approx(49.43, abs=0.01)
    # A step for 8 slices, two clips each: a fourth of a clip a slice.
    assert cost.examples(dme_net) == pytest.approx(64_256 / 4)
    assert cost.examples(catalogue.load("crossdomain_v1")) == pytest.approx(300 * 40 * 23)
    (table,) = papers.chosen("mdanet-5")
    assert cost.section([(table, filled.filled(table, tmp_path, **HOW))]) == []
    size = {"mib": 22.5, "gmac": 10.0}
    for one in plan.planned(table, table.rows[0], **HOW):
        plan.keep(tmp_path, one, {**measured(0, one.changes["data.fold"]), "size": size})
    page = written.page([(table, filled.filled(table, tmp_path, **HOW))], scale="small")
    assert "| `mdanet-5` | 1 of 4 | 5 | 0.8 to 0.8 | 0.07 |" in page and "Computed, not measured" in page
