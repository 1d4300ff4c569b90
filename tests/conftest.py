from __future__ import annotations

import sys
from pathlib import Path

# importlib mode puts nothing on the path; the small consortium is shared by several folders of tests.
sys.path.insert(0, str(Path(__file__).parent))
