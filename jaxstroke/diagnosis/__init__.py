"""What this machine and this installation are like, as far as jaxstroke minds: findings, each with its remedy."""

from jaxstroke.diagnosis.finding import Finding
from jaxstroke.diagnosis.machine import findings

__all__ = ["Finding", "findings"]
