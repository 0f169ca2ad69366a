"""Requests and answers of a scenario as tensors of the Open Inference Protocol: a field each, a row an element."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from noria.serving.body import parse_value
from noria.serving.refusal import Refusal

_DATATYPES: Mapping[object, str] = {str: "BYTES", int: "INT64", float: "FP64", bool: "BOOL"}
_ELEMENTS: Mapping[str, tuple[type, ...]] = {"BYTES": (str,), "INT64": (int,), "FP64": (float, int), "BOOL": (bool,)}


@dataclass(frozen=True)
class Tensor:
    """A field as a tensor of one element a row.

    Attributes
    ----------
    is_json:
        Whether an element is the field's value as JSON text: lists, objects, and what may be null.
    is_required:
        Whether a request must bring it.
    """

    name: str
    datatype: str
    is_json: bool
    is_required: bool

    def value_of(self, element: object) -> object:
        """The field's value, or a Refusal."""
        fitting = _ELEMENTS[self.datatype]
        if not isinstance(element, fitting) or (isinstance(element, bool) and bool not in fitting):
            raise _wrong(self.name, f"an element is no {self.datatype}", "JSON text" if self.is_json else self.datatype)
        if not self.is_json:
            return element
        assert isinstance(element, str)
        return parse_value(element.encode("utf-8", "surrogatepass"), where=f"an element of tensor `{self.name}`")

    def element_of(self, value: object) -> object:
        """The field's value, as the tensor holds it."""
        return json.dumps(value, ensure_ascii=False) if self.is_json else value


def tensors_of(model: type[BaseModel]) -> list[Tensor]:
    """Those of a request, or of a response."""
    return [
        Tensor(
            name,
            _DATATYPES.get(field.annotation, "BYTES"),
            is_json=field.annotation not in _DATATYPES,
            is_required=field.is_required(),
        )
        for name, field in model.model_fields.items()
    ]


@dataclass(frozen=True)
class Column:
    """A tensor as a request brings it."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[object]


def rows_of(columns: Sequence[Column], tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    """The fields of each row.

    Raises
    ------
    Refusal
        When a tensor is missing, unknown, given twice, of another type, or of another length than the others.
    """
    known = {tensor.name: tensor for tensor in tensors}
    fields: dict[str, list[object]] = {}
    for column in columns:
        if column.name not in known:
            raise _wrong(column.name[:100], "the model has no such input", ", ".join(known))
        if column.name in fields:
            raise _wrong(column.name, "it is given twice", "each input once")
        fields[column.name] = _values(column, known[column.name])
    missing = [tensor.name for tensor in tensors if tensor.is_required and tensor.name not in fields]
    if missing or not fields:
        raise _wrong((missing or list(known))[0], "it is missing", ", ".join(known))
    lengths = {len(values) for values in fields.values()}
    if len(lengths) > 1:
        raise _wrong(next(iter(fields)), f"the inputs have {sorted(lengths)} elements", "one element a row in each")
    return [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]


def num_rows(columns: Sequence[Column]) -> int:
    """Of the longest tensor, as its shape says."""
    return max((column.shape[0] for column in columns if column.shape), default=0)


def _values(column: Column, tensor: Tensor) -> list[object]:
    if column.datatype != tensor.datatype:
        raise _wrong(tensor.name, f"its datatype is {column.datatype[:20]}", tensor.datatype)
    shape = list(column.shape)
    if not shape or shape[0] < 1 or shape[1:] not in ([], [1]):
        raise _wrong(tensor.name, "its shape does not fit", "[rows] or [rows, 1], with a row at least")
    values = [tensor.value_of(element) for element in _flat(column.data)]
    if len(values) != shape[0]:
        raise _wrong(tensor.name, f"its shape says {shape[0]:,} elements, and its data has {len(values):,}", "as many")
    return values


def _flat(data: Sequence[object]) -> Iterator[object]:
    """Row by row, however deep the lists are."""
    open_lists = [iter(data)]
    while open_lists:
        for element in open_lists[-1]:
            if isinstance(element, list):
                open_lists.append(iter(element))
                break
            yield element
        else:
            open_lists.pop()


def _wrong(name: str, what: str, expected: str) -> Refusal:
    return Refusal(400, f"tensor `{name}`: {what}", expected=expected, reason="invalid")
