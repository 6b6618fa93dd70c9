"""Prepared studies kept on disk: their form, what they were made of, and how they are made."""
