"""numpy and pandas values, for programs that use them: numpy's own file format, and columns of it.

Nothing here imports either library: a value of theirs means that the program did.
"""

from __future__ import annotations

import base64
import io
import sys
from typing import Any

TAGS = ("$numpy", "$pandas")


def is_array(cls: type) -> bool:
    """Tell a numpy or pandas value's class."""
    return cls.__module__.partition(".")[0] in {"numpy", "pandas"} and cls.__module__.partition(".")[0] in sys.modules


def dump_array(value: Any) -> dict[str, Any]:
    """Turn a numpy array or scalar, or a pandas table, column, index or time, into values the codec can say.

    Raises:
        ValueError: It is something else of these libraries, or holds objects.
    """
    if type(value).__module__.partition(".")[0] == "numpy":
        return _dump_numpy(value)
    return {"$pandas": type(value).__name__, **_dump_pandas(value)}


def _dump_numpy(value: Any) -> dict[str, Any]:
    numpy = sys.modules["numpy"]
    if type(value) is not numpy.ndarray and not isinstance(value, numpy.generic):
        msg = f"numpy's {type(value).__name__} is no array and no scalar"
        raise ValueError(msg)
    if value.dtype.hasobject:
        msg = "an array of objects"
        raise ValueError(msg)
    buffer = io.BytesIO()
    numpy.save(buffer, value, allow_pickle=False)
    kind = "array" if type(value) is numpy.ndarray else "scalar"
    return {"$numpy": base64.b64encode(buffer.getvalue()).decode(), "kind": kind}


def _dump_pandas(value: Any) -> dict[str, Any]:
    pandas: Any = sys.modules["pandas"]
    name = type(value).__name__
    if name == "DataFrame":
        columns = [_column(value.iloc[:, at]) for at in range(value.shape[1])]
        return {"columns": columns, "names": _index(value.columns), "index": _index(value.index)}
    if name == "Series":
        return {"column": _column(value), "index": _index(value.index), "name": value.name}
    if isinstance(value, pandas.Index):
        return {"index": _index(value)}
    if name in {"Timestamp", "Timedelta"}:
        zone = str(value.tz) if getattr(value, "tz", None) is not None else None
        return {"value": int(value.value), "unit": value.unit, "zone": zone, "text": str(value)}
    if name == "NAType":
        return {}
    msg = f"pandas' {name} is no table, column, index or time"
    raise ValueError(msg)


def _column(column: Any) -> dict[str, Any]:
    dtype = str(column.dtype)
    values = column.array
    if column.dtype.kind in "biufcmM" and hasattr(values, "to_numpy") and "," not in dtype and dtype.islower():
        return {"dtype": dtype, "values": values.to_numpy()}
    return {"dtype": dtype, "values": [None if item is None else item for item in column.tolist()]}


def _index(index: Any) -> dict[str, Any]:
    pandas: Any = sys.modules["pandas"]
    if type(index) is pandas.RangeIndex:
        return {"range": [index.start, index.stop, index.step], "name": index.name}
    if type(index) is pandas.MultiIndex:
        return {"tuples": index.tolist(), "names": list(index.names)}
    return {**_column(index.to_series()), "name": index.name}


def load_numpy(fields: dict[str, Any]) -> Any:
    """Rebuild what `dump_array` made of a numpy value."""
    numpy: Any = sys.modules["numpy"]
    array = numpy.load(io.BytesIO(base64.b64decode(fields["$numpy"])), allow_pickle=False)
    return array if fields["kind"] == "array" else array[()]


def load_pandas(fields: dict[str, Any]) -> Any:
    """Rebuild what `dump_array` made of a pandas value."""
    pandas: Any = sys.modules["pandas"]
    name = fields["$pandas"]
    if name == "DataFrame":
        index = _load_index(fields["index"])
        columns = {at: _load_column(c, index) for at, c in enumerate(fields["columns"])}
        frame = pandas.DataFrame(columns, index=index)
        frame.columns = _load_index(fields["names"])
        return frame
    if name == "Series":
        column = _load_column(fields["column"], _load_index(fields["index"]))
        column.name = fields["name"]
        return column
    if "index" in fields:
        return _load_index(fields["index"])
    if name == "Timestamp":
        stamp = pandas.Timestamp(fields["value"], unit="ns", tz="UTC" if fields["zone"] else None)
        return (stamp.tz_convert(fields["zone"]) if fields["zone"] else stamp).as_unit(fields["unit"])
    if name == "Timedelta":
        return pandas.Timedelta(fields["value"], unit="ns").as_unit(fields["unit"])
    return pandas.NA


def _load_column(column: dict[str, Any], index: Any) -> Any:
    pandas: Any = sys.modules["pandas"]
    return pandas.Series(column["values"], index=index, dtype=column["dtype"])


def _load_index(index: dict[str, Any]) -> Any:
    pandas: Any = sys.modules["pandas"]
    if "range" in index:
        return pandas.RangeIndex(*index["range"], name=index["name"])
    if "tuples" in index:
        return pandas.MultiIndex.from_tuples(index["tuples"], names=index["names"])
    return pandas.Index(index["values"], dtype=index["dtype"], name=index["name"])


def same_array(left: Any, right: Any) -> bool:
    """Compare two values of one of these libraries exactly, missing values included."""
    numpy: Any = sys.modules["numpy"]
    if type(left).__module__.partition(".")[0] == "numpy":
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        return bool(numpy.array_equal(left, right, equal_nan=left.dtype.kind in "fcmM"))
    if hasattr(left, "dtype") and str(left.dtype) != str(right.dtype):
        return False
    if (
        hasattr(left, "dtypes")
        and hasattr(left, "columns")
        and not left.dtypes.astype(str).equals(right.dtypes.astype(str))
    ):
        return False
    if hasattr(left, "equals"):
        return bool(left.equals(right)) and (not hasattr(left, "index") or bool(left.index.equals(right.index)))
    pandas: Any = sys.modules["pandas"]
    return left is right or bool(pandas.isna(left) and pandas.isna(right)) or bool(left == right)
