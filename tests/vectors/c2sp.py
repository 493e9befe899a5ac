"""The C2SP vectors as they lie in c2sp_v1.json."""

from __future__ import annotations

import json
from typing import Any

from tests.vectors.make_c2sp_vectors import VECTORS as _FILE

VECTORS: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
