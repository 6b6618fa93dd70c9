"""The parts that networks share: blocks, resizing, attention, memory, graph."""
