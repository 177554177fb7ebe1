"""numpy and pandas values, for programs that use them: numpy's own file format, and columns of it.

Nothing here imports either library: a value of theirs means that the program did. What is said of a value is meant to
be all of it (dtypes, levels, codes, frequencies), so that saying the copy once more and getting the same text is the
proof that nothing was lost: ``==`` and ``equals`` overlook missing values, names and types.
"""

from __future__ import annotations

import base64
import io
import sys
from typing import Any


def is_array(cls: type) -> bool:
    """Tell a numpy or pandas value's class."""
    library = cls.__module__.partition(".")[0]
    return library in {"numpy", "pandas"} and library in sys.modules


def dump_array(value: Any) -> dict[str, Any]:
    """Turn a numpy array or scalar, or a pandas table, column, index or time, into values the codec can say.

    Raises:
        ValueError: It is something else of these libraries, or holds objects.
    """
    if type(value).__module__.partition(".")[0] == "numpy":
        return _dump_numpy(value)
    return {"$pandas": type(value).__name__, **_dump_pandas(value)}


def _dump_numpy(value: Any) -> dict[str, Any]:
    numpy: Any = sys.modules["numpy"]
    if type(value) is not numpy.ndarray and not isinstance(value, numpy.generic):
        msg = f"numpy's {type(value).__name__} is no array and no scalar"
        raise ValueError(msg)
    if value.dtype.hasobject:
        msg = "an array of objects; a list says the same"
        raise ValueError(msg)
    buffer = io.BytesIO()
    numpy.save(buffer, value, allow_pickle=False)
    kind = "array" if type(value) is numpy.ndarray else "scalar"
    return {"$numpy": base64.b64encode(buffer.getvalue()).decode(), "kind": kind}


def load_numpy(fields: dict[str, Any]) -> Any:
    """Rebuild what `dump_array` made of a numpy value."""
    numpy: Any = _library("numpy")
    array = numpy.lib.format.read_array(io.BytesIO(base64.b64decode(fields["$numpy"])), allow_pickle=False)
    return array if fields["kind"] == "array" else array[()]


def _library(name: str) -> Any:
    if name not in sys.modules:
        msg = f"the journal holds a value of {name}, which this program has not imported"
        raise ValueError(msg)
    return sys.modules[name]


# -- pandas -----------------------------------------------------------------------------------------------------------


def _dump_pandas(value: Any) -> dict[str, Any]:
    pandas: Any = sys.modules["pandas"]
    cls = type(value)
    if cls is pandas.DataFrame:
        columns = [_column(value.iloc[:, at]) for at in range(value.shape[1])]
        return _noted(value, {"columns": columns, "names": _index(value.columns), "index": _index(value.index)})
    if cls is pandas.Series:
        return _noted(value, {"column": _column(value), "index": _index(value.index), "name": value.name})
    if isinstance(value, pandas.Index):
        return {"index": _index(value)}
    if value is pandas.NA or value is pandas.NaT:
        return {}
    if cls is pandas.Timestamp:  # the moment in UTC: the zone alone says which of two equal hours it is
        return {"moment": str(value.asm8), "unit": value.unit, "zone": value.tz}
    if cls is pandas.Timedelta:
        return {"count": int(value.asm8.astype("int64")), "unit": value.unit}
    msg = f"pandas' {cls.__name__} is no table, column, index or time"
    raise ValueError(msg)


def _noted(value: Any, fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "attrs": value.attrs} if value.attrs else fields


def _column(values: Any) -> dict[str, Any]:
    """Say a column, or the values of an index."""
    numpy: Any = sys.modules["numpy"]
    pandas: Any = sys.modules["pandas"]
    dtype = values.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        codes = numpy.asarray(values.array.codes)
        return {"codes": codes, "categories": _index(dtype.categories), "ordered": bool(dtype.ordered)}
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return {"utc": values.array.tz_convert(None).to_numpy(), "zone": dtype.tz}
    if isinstance(dtype, numpy.dtype) and not dtype.hasobject:
        return {"array": values.to_numpy()}
    name = f"string[{dtype.storage}]" if str(dtype) == "string" else str(dtype)
    return {"dtype": name, "values": list(values.array)}


def _index(index: Any) -> dict[str, Any]:
    pandas: Any = sys.modules["pandas"]
    if type(index) is pandas.RangeIndex:
        return {"range": [index.start, index.stop, index.step], "name": index.name}
    if type(index) is pandas.MultiIndex:
        numpy: Any = sys.modules["numpy"]
        levels = [_index(level) for level in index.levels]
        return {"levels": levels, "codes": [numpy.asarray(c) for c in index.codes], "names": list(index.names)}
    fields = {**_column(index), "name": index.name}
    return {**fields, "freq": index.freqstr} if getattr(index, "freq", None) is not None else fields


def load_pandas(fields: dict[str, Any]) -> Any:
    """Rebuild what `dump_array` made of a pandas value."""
    pandas: Any = _library("pandas")
    numpy: Any = _library("numpy")
    name = fields["$pandas"]
    found: Any
    if name == "DataFrame":
        index = _load_index(fields["index"])
        columns = {at: _load_column(column).set_axis(index) for at, column in enumerate(fields["columns"])}
        found = pandas.DataFrame(columns, index=index)
        found.columns = _load_index(fields["names"])
        found.attrs.update(fields.get("attrs", {}))
    elif name == "Series":
        found = _load_column(fields["column"]).set_axis(_load_index(fields["index"]))
        found.name = fields["name"]
        found.attrs.update(fields.get("attrs", {}))
    elif "index" in fields:
        found = _load_index(fields["index"])
    elif name == "Timestamp":
        found = pandas.Timestamp(numpy.datetime64(fields["moment"], fields["unit"]))
        found = found.tz_localize("UTC").tz_convert(fields["zone"]) if fields["zone"] is not None else found
    elif name == "Timedelta":
        found = pandas.Timedelta(numpy.timedelta64(fields["count"], fields["unit"]))
    else:
        found = {"NAType": pandas.NA, "NaTType": pandas.NaT}[name]
    return found


def _load_column(column: dict[str, Any]) -> Any:
    pandas: Any = sys.modules["pandas"]
    if "codes" in column:
        categories = _load_index(column["categories"])
        return pandas.Series(pandas.Categorical.from_codes(column["codes"], categories, ordered=column["ordered"]))
    if "utc" in column:
        return pandas.Series(column["utc"]).dt.tz_localize("UTC").dt.tz_convert(column["zone"])
    if "array" in column:
        return pandas.Series(column["array"])
    return pandas.Series(column["values"], dtype=column["dtype"])


def _load_index(index: dict[str, Any]) -> Any:
    pandas: Any = sys.modules["pandas"]
    if "range" in index:
        return pandas.RangeIndex(*index["range"], name=index["name"])
    if "levels" in index:
        levels = [_load_index(level) for level in index["levels"]]
        return pandas.MultiIndex(levels, index["codes"], names=index["names"], verify_integrity=False)
    column = _load_column(index)
    found = pandas.Index(column, dtype=column.dtype, name=index["name"], tupleize_cols=False)
    if "freq" in index:
        found.freq = index["freq"]
    return found
