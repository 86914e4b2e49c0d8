"""Self-supervised representations of astronomical images, as scikit-learn estimators."""

import lazy_loader

from skastro.utils.threads import leave_cores_while_waiting

__version__ = "0.1.0"

# before anything loads torch, which reads these settings once
leave_cores_while_waiting()

# a name is imported when it is first used: reading a catalogue does not load torch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
