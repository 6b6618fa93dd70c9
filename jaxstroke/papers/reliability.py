"""What calibration, mirrored copies and an ensemble are worth, and when a study is called unlike; no paper says so."""

from __future__ import annotations

from jaxstroke.papers.declared import Answers, Column, Paper, Row, Table

_CALIBRATED = Answers("calibrated", calibrated=True)
_CHANGED = {
    "noise, as strong as the image's deviation": "noise",
    "ADC in other units (1/1000)": "units",
    "sides exchanged": "sides",
    "voxels twice as large": "spacing",
}


def _table(number: str, title: str, columns: tuple[Column, ...], rows: tuple[Row, ...], note: str) -> Table:
    return Table(
        name=f"reliability-{number}",
        title=title,
        where="Reliability",
        published_on="nothing of this",
        columns=columns,
        rows=rows,
        plan="seeds",
        repeats=3,
        over="over_folds",
        rules="isles22",
        against=rows[0].name,
        note=note,
    )


PAPER = Paper(
    "reliability",
    "From a network's output to an answer",
    (
        _table(
            "answers",
            "how runs answer",
            (
                Column("dice", "Dice"),
                Column("lesion_f1", "Lesion F1"),
                Column("held", "volumes within the 90 % interval (%)", 100, 1),
            ),
            (
                Row("single, above .5", "reliability", "- | - | -", answers=Answers("plain")),
                Row("single, calibrated", "reliability", "- | - | -", answers=_CALIBRATED),
                Row(
                    "mirrored, calibrated", "reliability", "- | - | -",
                    answers=Answers("mirrored", calibrated=True, mirrored=True),
                ),
                Row(
                    "all seeds together, mirrored, calibrated", "reliability", "- | - | -",
                    answers=Answers("together", calibrated=True, mirrored=True, together=True),
                ),
            ),
            "Rules are chosen by Dice, with mirrored copies, on validation studies; the second row applies its own "
            "without copies. Without a calibration there is no interval.",
        ),
        _table(
            "unlike",
            "which studies are called unlike those trained on",
            (Column("called_unlike", "called unlike (%)", 100, 1),),
            (
                Row("as they are", "reliability", "-", answers=_CALIBRATED),
                *(
                    Row(name, "reliability", "-", answers=Answers(f"calibrated-{word}", calibrated=True, change=word))
                    for name, word in _CHANGED.items()
                ),
            ),
            "Held-out studies, calibrated runs without mirrored copies. As they are, a study that is called unlike is "
            "a false alarm; else one that is not called so is missed. Exchanged sides cannot show.",
        ),
    ),
)  # fmt: skip
