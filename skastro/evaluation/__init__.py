"""Label efficiency, saved labels, calibration, and what each property is worth."""
