"""What stands for arrays, and their dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
DTYPES = ("float64", "float32")
