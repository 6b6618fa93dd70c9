"""jaxstroke: segmentation of acute ischemic stroke lesions in JAX and Flax. Research software, not a medical device."""

from jaxstroke import compiler

__version__ = "0.1.0"

compiler.apply_settings()  # before anyone's `import jax` looks for devices
