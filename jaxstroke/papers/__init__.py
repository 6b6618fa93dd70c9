"""The tables of the papers as data, what measures them, and how they are written. One file a paper defines `PAPER`.

>>> [table.name for table in chosen("cross_domain")]
['cross_domain-1-adc', 'cross_domain-1-dwi']
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxstroke.errors import UserError, nearest
from jaxstroke.papers import cascade, cross_domain, dme_net, mdanet, reliability
from jaxstroke.papers.declared import Figure, Table

PAPERS = {file.PAPER.name: file.PAPER for file in (dme_net, cross_domain, cascade, mdanet, reliability)}


def chosen(name: str = "") -> tuple[Table, ...]:
    """The tables of a paper, one table, or all of them."""
    every = {table.name: table for paper in PAPERS.values() for table in paper.tables}
    if not name:
        return tuple(every.values())
    if name in PAPERS:
        return PAPERS[name].tables
    if name in every:
        return (every[name],)
    known = [*PAPERS, *every]
    raise UserError(f"{name}: there is no such paper or table.{nearest(name, known)} --list shows them")


def figures(tables: Sequence[Table]) -> tuple[Figure, ...]:
    """Those that are drawn of runs of these tables."""
    names = {table.name for table in tables}
    return tuple(figure for paper in PAPERS.values() for figure in paper.figures if figure.table in names)
