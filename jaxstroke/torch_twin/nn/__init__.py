"""The parts that the twins share, each beside the file of `jaxstroke.models.nn` that it mirrors."""
