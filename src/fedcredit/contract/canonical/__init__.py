"""The canonical data set: the tables that an institution's own data are mapped to, version by version.

``v1/*.yaml`` holds one page per table and the modalities; everything in it is public. A published version never
changes its meaning: a new meaning is a new folder. ``versions`` says which this release speaks.
"""

from fedcredit.contract.canonical.loading import canonical
from fedcredit.contract.canonical.table import CanonicalSet, CanonicalTable, ColumnRule, Head

__all__ = ["CanonicalSet", "CanonicalTable", "ColumnRule", "Head", "canonical"]
