"""One file a network. `registry` finds them; `nn/` below holds the parts they share."""
