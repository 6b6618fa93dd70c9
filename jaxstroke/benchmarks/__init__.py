"""How fast the program is: steps, forwards, the stream, a whole study; each beside what it is held against."""
