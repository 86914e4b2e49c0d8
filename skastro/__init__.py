"""Self-supervised representations of astronomical images, as scikit-learn estimators."""

import lazy_loader

__version__ = "0.1.0.dev0"

# a name is imported when it is first used: reading a catalogue does not load torch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
