"""The courier that Flower runs beside an institution's daemon."""
