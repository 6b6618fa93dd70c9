"""The cascade (Florez et al., 2024): Tables 1 and 2, the first stage, and the whole cascade of its abstract."""

from __future__ import annotations

from jaxstroke.papers.declared import Column, Figure, Paper, Row, Table

_DICE = (Column("dice", "Dice", 1, 2),)
_WORDS = {"plain": "neither", "mr": "MR", "mr_att": "MR, ATT"}
_IMAGES = {
    "ct": "NCCT", "cbv": "CBV", "cbf": "CBF", "tmax": "TMax", "mtt": "MTT", "tmax_cbv": "TMax+CBV",
    "tmax_cbf": "TMax+CBF", "cbv_cbf": "CBV+CBF", "tmax_cbv_cbf": "TMax+CBV+CBF", "all": "all",
}  # fmt: skip
_PUBLISHED_1 = {
    "plain": (".20 +- .26", ".51 +- .30", ".57 +- .26", ".50 +- .25", ".56 +- .30"),
    "mr": (".26 +- .24", ".51 +- .27", ".58 +- .22", ".55 +- .26", ".57 +- .26"),
    "mr_att": (".24 +- .19", ".54 +- .28", ".57 +- .23", ".55 +- .28", ".55 +- .21"),
}
_PUBLISHED_2 = {
    "plain": (".58 +- .25", ".58 +- .24", ".53 +- .26", ".60 +- .24", ".62 +- .23"),
    "mr": (".61 +- .23", ".62 +- .20", ".54 +- .27", ".63 +- .21", ".63 +- .22"),
    "mr_att": (".60 +- .23", ".62 +- .21", ".55 +- .25", ".61 +- .25", ".63 +- .16"),
}


def _table(number: int, title: str, published: dict[str, tuple[str, ...]], against: str) -> Table:
    images = list(_IMAGES)[:5] if number == 1 else list(_IMAGES)[5:]
    rows = [
        Row(f"{_IMAGES[word]}; {_WORDS[way]}", f"cascade_stage1_{way}_{word}", figure)
        for way, figures in published.items()
        for word, figure in zip(images, figures, strict=True)
    ]
    return Table(
        name=f"cascade-{number}",
        title=title,
        where=f"Cascade, Table {number}",
        published_on="ISLES 2018, 19 of 94 studies held out",
        columns=_DICE,
        rows=tuple(rows),
        plan="folds",
        repeats=5,
        over="over_studies",
        rules="cascade",
        against=against,
        note="The paper holds one set of 19 studies out; here each study is held out once.",
    )


_WHOLE = Table(
    name="cascade-stages",
    title="one stage and two",
    where="Cascade, abstract and Fig. 4",
    published_on="ISLES 2018, 19 of 94 studies held out",
    columns=(*_DICE, Column("precision", "Precision", 1, 2)),
    rows=(
        Row("first stage", "cascade_stage1", ".63 +- .16 | -"),
        Row("both stages", "cascade_isles18", ".66 | .67"),
        Row("both stages, maps of its own training studies", "cascade_isles18_in_sample", "- | -"),
    ),
    plan="folds",
    repeats=5,
    over="over_studies",
    rules="cascade",
    against="both stages",
)

PAPER = Paper(
    "cascade",
    "Deep cascade architecture for stroke lesion segmentation and synthetic parametric maps",
    (
        _table(1, "one image at a time", _PUBLISHED_1, f"CBF; {_WORDS['mr']}"),
        _table(2, "images together", _PUBLISHED_2, f"all; {_WORDS['mr_att']}"),
        _WHOLE,
    ),
    (
        Figure(
            "cascade-fig4",
            "the map that the first stage gives to the second",
            "Cascade, Fig. 4",
            "cascade-stages",
            "both stages",
            "maps",
            {"synthetic": "synthetic map", "decoder1/gate/attention": "attention, second stage"},
        ),
    ),
)
