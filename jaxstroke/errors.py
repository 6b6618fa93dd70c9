"""What the program says to a person when it cannot go on.

`UserError` is the one exception that doors turn into a single plain line and a non-zero exit.  Its text
names the file or the value, what is wrong with it, and what to do.  Everything else that escapes is a bug.
"""


class UserError(Exception):
    """A mistake or a circumstance that the person at the keyboard can mend; its text says how."""
