"""MDANet (Zhang et al., 2024): Tables 1 to 6. Table 1's first column is also what Fig. 8 draws, fold by fold."""

from __future__ import annotations

import dataclasses

from jaxstroke.papers.declared import Column, Figure, Paper, Row, Table

_DICE = Column("dice", "DSC (%)", 100, 2)
_PRECISION = Column("precision", "Precision (%)", 100, 2)
_RECALL = Column("recall", "Recall (%)", 100, 2)
_F1 = Column("f1_of_means", "F1 of mean precision and recall", 1, 4)
_FOUR = (_DICE, _PRECISION, _RECALL, _F1)
_SIZE = (Column("mib", "Weights (MiB)", 1, 1), Column("gmac", "GMAC", 1, 2))
_OURS = "58.34 +- 2.11 | 60.22 +- 3.69 | 64.03 +- 2.89"
_UNET = "53.34 +- 0.85 | 57.09 +- 3.99 | 56.90 +- 3.40 | 0.5680"
_NO_SIMILARITY = "57.50 +- 2.32 | 60.19 +- 4.77 | 59.54 +- 2.96 | 0.5986"
_APPROXIMATE = "the paper copies its figures from elsewhere; ours is trained as the others, on an approximate network"


def _table(
    number: int,
    title: str,
    columns: tuple[Column, ...],
    against: str,
    *rows: Row,
    year: int = 2018,
    sizes: tuple[str, ...] = (),
) -> Table:
    """`sizes` is what the paper prints as "Param (M)" and "FLOPs (G)", row by row; these are MiB and GMAC."""
    if sizes:
        sized = zip(rows, sizes, strict=True)
        rows = tuple(dataclasses.replace(row, published=f"{row.published} | {size}") for row, size in sized)
    return Table(
        name=f"mdanet-{number}",
        title=title,
        where=f"MDANet, Table {number}" + (" and Fig. 8" if number in (1, 2) else ""),
        published_on=f"ISLES {year}, five folds",
        columns=columns,
        rows=rows,
        plan="folds",
        repeats=5,
        over="over_folds",
        rules="mdanet",
        against=against,
    )


def _ablation(name: str, variant: str, published: str) -> Row:
    return Row(name, f"mdanet_isles18_{variant}", published)


PAPER = Paper(
    "mdanet",
    "MDANet: multimodal difference aware network for brain stroke segmentation",
    (
        _table(
            1, "networks on CT perfusion", (*_FOUR, *_SIZE), "MDANet",
            Row("U-Net", "unet_isles18", _UNET),
            Row("Attention U-Net", "attention_unet_isles18", "54.37 +- 2.36 | 54.61 +- 4.32 | 62.41 +- 2.23 | 0.5817"),
            Row("U-Net++", "unet_plus_plus_isles18", "55.04 +- 2.61 | 55.96 +- 5.03 | 62.47 +- 3.06 | 0.5886"),
            Row("MSNet", "msnet_isles18", "54.99 +- 2.72 | 55.23 +- 4.43 | 63.36 +- 1.96 | 0.5891"),
            Row("TransUNet", "trans_unet_isles18", "52.34 +- 3.73 | 53.42 +- 6.64 | 59.05 +- 5.11 | 0.5571"),
            Row("SwinUNet", "swin_unet_isles18", "48.50 +- 3.85 | 51.42 +- 5.01 | 55.25 +- 8.27 | 0.5275"),
            Row("OctopusNet", "octopus_net_isles18", "57.92 | - | - | -", note=_APPROXIMATE),
            Row("Abulnaga et al.", "psp_net_isles18", "54.00 | - | - | -", note=_APPROXIMATE),
            Row("Pool-UNet", "pool_unet_isles18", "56.04 | 67.82 | 56.54 | 0.6167", note=_APPROXIMATE),
            Row("Perf-UNet", "perfu_net_isles18", "56.40 | 56.50 | 64.40 | 0.6019", note=_APPROXIMATE),
            Row("MDANet", "mdanet_isles18", f"{_OURS} | 0.6195"),
            sizes=("30.0 | 10.81", "29.9 | 9.92", "35.0 | 26.69", "20.3 | 6.96", "175.3 | 19.19", "106.0 | 6.14",
                   *(4 * ("- | -",)), "25.3 | 11.22"),
        ),
        _table(
            2, "networks on DWI and ADC", (*_FOUR, *_SIZE), "MDANet",
            Row("U-Net", "unet_isles22", "63.93 +- 3.26 | 74.55 +- 1.98 | 62.11 +- 5.07 | 0.6764"),
            Row("Attention U-Net", "attention_unet_isles22", "68.20 +- 0.86 | 72.95 +- 2.47 | 70.65 +- 2.01 | 0.7173"),
            Row("U-Net++", "unet_plus_plus_isles22", "69.57 +- 1.24 | 74.94 +- 1.19 | 70.91 +- 1.53 | 0.7286"),
            Row("MSNet", "msnet_isles22", "68.66 +- 1.30 | 74.59 +- 2.65 | 69.42 +- 2.69 | 0.7184"),
            Row("TransUNet", "trans_unet_isles22", "69.75 +- 1.23 | 75.03 +- 2.11 | 69.80 +- 1.90 | 0.7228"),
            Row("Swin-UNet", "swin_unet_isles22", "55.08 +- 3.02 | 56.36 +- 4.00 | 65.40 +- 3.69 | 0.6039"),
            Row("MDANet", "mdanet_isles22", "70.44 +- 0.97 | 75.30 +- 2.71 | 72.22 +- 1.63 | 0.7368"),
            year=2022,
            sizes=("30.0 | 2.69", "29.9 | 2.47", "35.0 | 6.66", "20.3 | 1.73", "175.3 | 4.61", "105.4 | 6.10",
                   "25.3 | 3.57"),
        ),
        _table(
            3, "parts added in turn", _FOUR, "DASC, MSC, GCFB, SL",
            Row("U-Net", "unet_isles18", _UNET),
            _ablation("DASC", "dasc", "55.31 +- 3.36 | 57.53 +- 4.81 | 59.89 +- 3.64 | 0.5869"),
            _ablation("DASC, MSC", "dasc_msc", "56.64 +- 1.99 | 57.39 +- 2.83 | 62.57 +- 5.40 | 0.5987"),
            _ablation("DASC, MSC, GCFB", "dasc_msc_gcfb", _NO_SIMILARITY),
            Row("DASC, MSC, GCFB, SL", "mdanet_isles18", f"{_OURS} | 0.6195"),
        ),
        _table(
            4, "what a skip does with the groups", (_DICE, _PRECISION, _RECALL), "Subtract",
            _ablation("Add", "skip_add", "56.22 +- 1.27 | 58.32 +- 2.71 | 60.06 +- 0.50"),
            _ablation("Concat", "skip_concat", "57.72 +- 2.90 | 60.01 +- 2.27 | 59.71 +- 5.87"),
            Row("Subtract", "mdanet_isles18", _OURS),
        ),
        _table(
            5, "what stands in the middle", (_DICE, *_SIZE), "ours",
            _ablation("Baseline", "fusion_none", "56.32 +- 1.87"),
            _ablation("Non-local", "fusion_non_local", "56.98 +- 1.60"),
            _ablation("Transformer", "fusion_transformer", "57.14 +- 1.48"),
            Row("ours", "mdanet_isles18", "58.34 +- 2.11"),
            sizes=("22.5 | 10.88", "27.6 | 11.22", "61.7 | 15.83", "25.3 | 11.22"),
        ),
        _table(
            6, "weight of the similarity loss", _FOUR, "1",
            Row("0", "mdanet_isles18_dasc_msc_gcfb", _NO_SIMILARITY, note="Table 3's fourth row"),
            _ablation("0.25", "similarity_025", "58.19 +- 2.38 | 61.67 +- 4.80 | 61.16 +- 2.88 | 0.6142"),
            _ablation("0.5", "similarity_050", "58.11 +- 1.87 | 61.31 +- 2.42 | 60.80 +- 3.54 | 0.6095"),
            _ablation("0.75", "similarity_075", "58.25 +- 2.21 | 61.54 +- 3.96 | 63.20 +- 3.36 | 0.6236"),
            Row("1", "mdanet_isles18", f"{_OURS} | 0.6195"),
        ),
    ),
    (
        Figure(
            "mdanet-fig11", "attention of the difference-aware skips, finest first", "MDANet, Fig. 11", "mdanet-1",
            "MDANet", "maps", {f"skip{level}/attention": f"attention, level {level}" for level in range(1, 5)},
        ),
    ),
)  # fmt: skip
