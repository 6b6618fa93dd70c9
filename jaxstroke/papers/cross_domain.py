"""Cross-domain (Gomez et al., MICCAI 2023): Table 1, its two halves a table each."""

from __future__ import annotations

from jaxstroke.papers.declared import Column, Figure, Paper, Row, Table

_COLUMNS = (Column("dice", "Dice", 1, 2), Column("precision", "Precision", 1, 2), Column("recall", "Sensitivity", 1, 2))
_PUBLISHED = {
    ("ADC", "R1"): (".28 +- .30 | .66 +- .43 | .15 +- .18", ".56 +- .28 | .71 +- .28 | .44 +- .30",
                    ".49 +- .29 | .68 +- .32 | .36 +- .27", ".51 +- .28 | .71 +- .29 | .43 +- .29"),
    ("ADC", "R2"): (".32 +- .30 | .60 +- .46 | .17 +- .19", ".60 +- .29 | .69 +- .33 | .51 +- .32",
                    ".53 +- .29 | .66 +- .37 | .41 +- .28", ".55 +- .29 | .69 +- .33 | .49 +- .30"),
    ("DWI", "R1"): (".45 +- .34 | .57 +- .37 | .45 +- .37", ".58 +- .30 | .61 +- .32 | .54 +- .36",
                    ".52 +- .29 | .62 +- .30 | .56 +- .34", ".62 +- .26 | .67 +- .29 | .55 +- .34"),
    ("DWI", "R2"): (".45 +- .34 | .59 +- .38 | .40 +- .34", ".61 +- .29 | .67 +- .33 | .51 +- .31",
                    ".53 +- .28 | .67 +- .30 | .52 +- .28", ".61 +- .28 | .71 +- .31 | .50 +- .31"),
}  # fmt: skip


def _table(image: str) -> Table:
    networks = ("Unimodal", "Dual V1", "Dual V2", "Dual V3")
    experiments = (f"crossdomain_unimodal_{image.lower()}", *(f"crossdomain_v{number}" for number in (1, 2, 3)))
    rows = [
        Row(f"{name}, radiologist {reader[1]}", experiment, figures, target=f"{image}/{reader}")
        for reader in ("R1", "R2")
        for name, experiment, figures in zip(networks, experiments, _PUBLISHED[image, reader], strict=True)
    ]
    return Table(
        name=f"cross_domain-1-{image.lower()}",
        title=f"{image}, against two readers",
        where="Cross-domain, Table 1",
        published_on="82 studies of one hospital, 31 held out; not public",
        columns=_COLUMNS,
        rows=tuple(rows),
        plan="seeds",
        repeats=1,
        over="over_studies",
        rules="cross_domain",
        against="Dual V1, radiologist 1",
        note="Reader 1 is trained on; Dice is of whole studies.",
    )


PAPER = Paper(
    "cross_domain",
    "Ischemic stroke segmentation from a cross-domain representation in multimodal diffusion studies",
    (_table("ADC"), _table("DWI")),
    (
        Figure(
            "cross_domain-fig2",
            "kappa between readers and the network",
            "Cross-domain, Fig. 2",
            "cross_domain-1-adc",
            "Dual V1, radiologist 1",
            "kappa",
        ),
        Figure(
            "cross_domain-fig4",
            "Dice of the network and of a second reader, both against the first",
            "Cross-domain, Fig. 4",
            "cross_domain-1-adc",
            "Dual V1, radiologist 1",
            "readers",
        ),
    ),
)
