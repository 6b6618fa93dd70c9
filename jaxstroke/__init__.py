"""jaxstroke: segmentation of acute ischemic stroke lesions in JAX and Flax. Research software, not a medical device."""

__version__ = "0.1.0"
