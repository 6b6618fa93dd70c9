"""Procedural patients: studies computed from anatomy and physics, written as the public data sets lie on disk."""

from jaxstroke.phantoms.dataset import LAYOUTS, MARKER, generate

__all__ = ["LAYOUTS", "MARKER", "generate"]
