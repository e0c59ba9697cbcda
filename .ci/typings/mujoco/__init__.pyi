# MuJoCo ships no type information, and fills its module at import time: pyright sees every name of it as Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
