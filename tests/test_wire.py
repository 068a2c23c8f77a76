"""The codec: what crosses comes back the same, and hostile values and bytes end in a WireError."""

from __future__ import annotations

import json
import math
import time
from collections import namedtuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from mi_course import wire
from mi_course.wire import DTYPES, MAGIC, Ask, Call, Error, Limits, Observation, Ref, Reply, WireError, decode, encode

# ---------------------------------------------------------------------------------------------------------------------
# Round trips


def same(a: object, b: object) -> bool:
    """Equal in value, type, dtype and shape; NaN equals NaN, and −0.0 is not 0.0."""
    if isinstance(a, torch.Tensor):
        return (
            type(b) is torch.Tensor
            and a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(a.isnan(), b.isnan())
            and torch.equal(a.nan_to_num(), b.nan_to_num())
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(k, j) and same(a[k], b[j]) for k, j in zip(a, b, strict=True))
    return a == b


TENSORS = [
    *[torch.tensor([0, 1, 1, 0]).to(dtype).reshape(2, 2) for dtype in sorted(DTYPES, key=str)],
    torch.tensor(1.5),
    torch.tensor(True),
    torch.empty(0),
    torch.empty(3, 0, 2, dtype=torch.int64),
    torch.tensor([math.nan, math.inf, -math.inf, -0.0]),
    torch.tensor([1.0, 3.14159], dtype=torch.bfloat16),
]
VALUES = [None, True, False, 0, -1, 2**63 - 1, -(2**63), 0.1, -0.0, math.nan, math.inf, -math.inf, 5e-324, "", "é∀😀"]
VALUES += ["\x00\n\"\\'", "\ud800 alone", [], (), {}, [[[]]], ({},), {"~": "tensor"}, {"~": {"~": "tuple", "v": []}}]
VALUES += [{1: 2, (1, ("a", None)): [3]}, {None: 0, True: 1, 2.5: 2}, [1, (2, [3, {"k": (torch.ones(2), 4)}])]]


@pytest.mark.parametrize("value", VALUES + TENSORS, ids=lambda v: str(v)[:30].encode("ascii", "replace").decode())
def test_what_crosses_comes_back(value):
    assert same(decode(encode(value)), value)
    assert same(wire.plain(value), value)


def test_a_tensor_crosses_as_its_numbers_alone():
    whole = torch.arange(24.0).reshape(4, 6)
    for view in (whole.T, whole[::2, 1::3], whole[0].expand(5, 6), whole[1, 2], whole.flip(0)):
        back = decode(encode([view, view]))
        assert same(back, [view.contiguous(), view.contiguous()])
        assert len(encode(whole[0, :1])) < 250, "the rest of the storage crossed too"
    learnt = torch.nn.Parameter(torch.ones(2, 3))
    for value in (learnt, learnt * 2, torch.complex(whole, whole).imag.conj()):
        back = decode(encode(value))
        assert type(back) is torch.Tensor
        assert not back.requires_grad
        assert torch.equal(back, value.detach())


def test_plain_shares_nothing():
    tensor, inner = torch.zeros(2), [1]
    bare = wire.plain({"t": tensor, "l": inner})
    tensor += 1
    inner.append(2)
    assert same(bare, {"t": torch.zeros(2), "l": [1]})


def test_what_numpy_and_torch_return_becomes_plain():
    pair = namedtuple("pair", "a b")
    top = torch.tensor([3.0, 1.0, 2.0]).topk(2)
    assert same(wire.plain(top), (torch.tensor([3.0, 2.0]), torch.tensor([0, 2])))
    assert same(wire.plain(pair(1, [2])), (1, [2]))
    assert same(wire.plain([np.float32(0.5), np.int64(3), np.bool_(True), np.str_("x")]), [0.5, 3, True, "x"])
    for array in (np.arange(6.0).reshape(2, 3).T, np.arange(4, dtype=">i4")[::-1], np.array(2.0), np.zeros((0, 2))):
        seen = decode(encode({"a": array}))["a"]
        assert seen.shape == array.shape
        assert seen.tolist() == array.tolist()


MODEL = Ref("model", {"config": {"n_layers": 1}, "seed": 3})
RECORDS = [
    MODEL,
    Call((1, MODEL, torch.ones(2)), "hook_factory", {"feed": [(torch.zeros(1), Ref("hook", {"model": MODEL}))]}),
    Ask((Call(), Call((None,), watch=("model", "arguments"))), limit_s=2, max_reply_bytes=1000),
    Error("ValueError", ("ValueError", "Exception"), "no", "line 1 of f: raise"),
    Observation("abc", (Reply("returned", [1.0, math.nan], None, {"calls": [[1.0]]}), Reply("timed_out")), "printed"),
    Observation("abc", (Reply("raised", None, Error("E", (), "")),)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: type(r).__name__)
def test_records_come_back(record):
    back = decode(encode(record))
    assert type(back) is type(record)
    assert repr(back) == repr(record)


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
)
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2).map(tuple), max_leaves=3)
tensors = st.builds(
    lambda shape, dtype, seed: torch.randint(0, 2, tuple(shape), generator=torch.Generator().manual_seed(seed)).to(
        dtype
    ),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(sorted(DTYPES, key=str)),
    st.integers(0, 99),
)
plain_values = st.recursive(
    scalars | tensors,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(plain_values)
def test_every_plain_value_comes_back(value):
    assert same(decode(encode(value)), value)
    assert same(decode(encode(wire.plain(value))), value)


# ---------------------------------------------------------------------------------------------------------------------
# Hostile bytes


def frame(tree: object, tensors: dict[str, torch.Tensor] | None = None, blob: bytes | None = None) -> bytes:
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return MAGIC + len(text).to_bytes(8, "little") + text + (save(tensors or {}) if blob is None else blob)


def refused(data: bytes, about: str = "", limits: Limits | None = None) -> None:
    began = time.monotonic()
    with pytest.raises(WireError, match=about or None):
        decode(data, limits)
    assert time.monotonic() - began < 5


GOOD = encode(Observation("id", (Reply("returned", {"t": torch.arange(3.0), "n": [1, 2.5, (None, "x")]}),)))


def test_a_torn_message_is_refused_at_every_length():
    for length in range(len(GOOD)):
        refused(GOOD[:length])
    refused(GOOD + b"\x00")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_end_in_a_wire_error_or_a_plain_value(flips):
    data = bytearray(GOOD)
    for place, byte in flips:
        data[place] = byte
    try:
        message = decode(bytes(data))
    except WireError:
        return
    encode(message)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_noise_ends_in_a_wire_error(noise, as_tensors):
    refused(frame({}, blob=noise) if as_tensors else frame(b"\x80" + noise))


def announced(shape: list[int], end: int) -> bytes:
    """A safetensors header that promises what is not there."""
    header = json.dumps({"0": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
    return len(header).to_bytes(8, "little") + header


T = {"~": "tensor", "n": 0, "dtype": "float32", "shape": [2]}
REPLY = {"~": "reply", "status": "returned", "value": 1, "error": None, "watched": {"~": "dict", "v": []}}
REF = {"~": "ref", "kind": "model", "options": {"~": "dict", "v": []}}
TWO = {"0": torch.zeros(2)}


@pytest.mark.parametrize(
    ("data", "about"),
    [
        (b"", "not a message"),
        (b"MIC2" + b"\0" * 20, "MIC2"),
        (MAGIC + (2**63).to_bytes(8, "little") + b"{}", "torn"),
        (MAGIC + b"\xff" * 8, "torn"),
        (frame(b"[" * 100_000 + b"]" * 100_000), "nested"),
        (frame(b'{"~":' * 900 + b"1" + b"}" * 900), ""),
        (frame(b"\xff\xfe"), "not JSON"),
        (frame('"é"'.encode()), "not JSON"),
        (frame(b"NaN"), "in JSON"),
        (frame(b"[Infinity]"), "in JSON"),
        (frame(b"1e999"), "in JSON"),
        (frame(b"9" * 5000), ""),
        (frame(2**63), "63"),
        (frame([T]), "missing"),
        (frame([T, T], TWO), "named before"),
        (frame([], TWO), "does not name"),
        (frame({**T, "n": "0"}, TWO), "number"),
        (frame({**T, "n": True}, TWO), "number"),
        (frame({**T, "n": [[[]]]}, TWO), "number"),
        (frame({**T, "dtype": "float64"}, TWO), "announced as"),
        (frame({**T, "dtype": None}, TWO), "dtype"),
        (frame({**T, "shape": [2, 1]}, TWO), "shape"),
        (frame({**T, "shape": [2.0]}, TWO), "shape"),
        (frame({**T, "shape": 2}, TWO), "shape"),
        (frame({**T, "extra": 2}, TWO), "malformed"),
        (frame({**T, "dtype": "uint16"}, {"0": torch.zeros(2, dtype=torch.uint16)}), "announced"),
        (frame({**T, "dtype": "complex64"}, {"0": torch.zeros(2, dtype=torch.complex64)}), "announced"),
        (frame({"~": "module"}), "unknown"),
        (frame({}), "unknown"),
        (frame({"~": []}), "unknown"),
        (frame({"~": "float", "v": "1.5"}), "malformed"),
        (frame({"~": "float", "v": []}), "malformed"),
        (frame({"~": "tuple", "v": 3}), "malformed"),
        (frame({"~": "dict", "v": [[1, 2, 3]]}), "pair"),
        (frame({"~": "dict", "v": [[[1], 2]]}), "key"),
        (frame({"~": "dict", "v": [[1, 2], [1, 3]]}), "twice"),
        (frame({"~": "dict", "v": [[T, 2]]}, TWO), "key"),
        (frame({**REPLY, "status": "passed"}), "status"),
        (frame({**REPLY, "status": 1}), "expected str"),
        (frame({**REPLY, "points": 5}), "fields"),
        (frame({k: v for k, v in REPLY.items() if k != "error"}), "fields"),
        (frame({**REPLY, "error": "x"}), "expected Error"),
        (frame({**REPLY, "watched": []}), "expected dict"),
        (frame({**REPLY, "watched": {"~": "dict", "v": [[1, 2]]}}), "key"),
        (frame({**REPLY, "value": REPLY}), "may not stand"),
        (frame({**REPLY, "value": [REF]}), "may not stand"),
        (frame({"~": "observation", "ask": "a", "replies": [REPLY], "printed": ""}), "expected tuple"),
        (frame({"~": "observation", "ask": "a", "replies": {"~": "tuple", "v": [1]}, "printed": ""}), "no Reply"),
        (frame({"~": "observation", "ask": 1, "replies": {"~": "tuple", "v": []}, "printed": ""}), "expected str"),
        (frame({}, blob=(2**40).to_bytes(8, "little") + b"{}"), ""),
        (frame({}, blob=announced([10**12], 4 * 10**12)), ""),
        (frame({}, blob=announced([2**32, 2**32], 0)), ""),
        (frame({}, blob=announced([-1], 0)), ""),
    ],
)  # fmt: skip
def test_hostile_bytes_are_refused(data, about):
    refused(data, about)


@pytest.mark.parametrize("depth", [16, 17, 100, *range(300, 1001, 50), *range(960, 1000, 3), 5000])
def test_nesting_is_refused_wherever_it_stands(depth):
    deep = b"[" * depth + b"]" * depth
    for tree in (deep, b'{"~":%s}' % deep, b'{"~":"tensor","n":0,"dtype":"float32","shape":%s}' % deep):
        if tree != deep or depth > 17:
            refused(frame(tree, TWO))


def test_bombs_are_refused_before_they_go_off():
    refused(frame(b"[" + b"[]," * 15_000_000 + b"[]]"), "more than")
    refused(frame(b"[" + b"1," * 300_000 + b"1]"), "more than")
    header = json.dumps({f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)})
    refused(frame([], blob=len(header).to_bytes(8, "little") + header.encode()), "header")
    refused(GOOD, "at most", Limits(bytes=100))
    refused(encode([[[1]]]), "nested", Limits(depth=2))
    refused(encode([1] * 10), "values", Limits(items=10))


def test_a_long_string_of_brackets_is_no_bomb():
    text = '[{,"\\' * 1_000_000
    assert decode(encode(text)) == text


def test_bools_are_zero_or_one():
    bytes_of_two = save({"0": torch.tensor([2, 1], dtype=torch.uint8)}).replace(b'"U8"', b'"BOOL"')
    # The header keeps its length: two blanks at its end make up for the longer name.
    size = int.from_bytes(bytes_of_two[:8], "little")
    header = save({"0": torch.tensor([2, 1], dtype=torch.uint8)})[8 : 8 + size].replace(b'"U8"', b'"BOOL"').rstrip()
    blob = len(header).to_bytes(8, "little") + header + b"\x02\x01"
    refused(frame({**T, "dtype": "bool"}, blob=blob), "bool")


# ---------------------------------------------------------------------------------------------------------------------
# Hostile values


class Ran(BaseException):
    """A hostile value's code was run."""


def boom(*args: object, **options: object) -> None:
    raise Ran


SPECIAL = (
    "__eq__ __hash__ __len__ __iter__ __getitem__ __repr__ __str__ __format__ __bool__ __float__ __int__ __index__"
)
SPECIAL += " __array__ __reduce__ __reduce_ex__ __getstate__ __copy__ __deepcopy__ __torch_function__ items keys item"
SPECIAL += " __getattribute__ __getattr__ tolist numpy detach clone cpu contiguous __instancecheck__ __contains__"
METHODS = dict.fromkeys(SPECIAL.split(), boom)
LIES = {
    name: property(boom) for name in ("__class__", "shape", "dtype", "layout", "device", "requires_grad", "is_sparse")
}


class Meta(type):
    __eq__ = __hash__ = __repr__ = __getattribute__ = __instancecheck__ = __subclasscheck__ = boom  # type: ignore


def hostile(*bases: type, meta: type = type, **extra: object) -> type:
    return meta("Evil", bases, {**METHODS, **LIES, **extra})


def hostile_values() -> list[object]:
    meta = hostile(object, meta=Meta)
    return [
        object.__new__(hostile(object)),
        object.__new__(meta),
        meta,
        object.__new__(hostile(object, __module__="numpy")),
        str.__new__(hostile(str), "x"),
        int.__new__(hostile(int), 3),
        float.__new__(hostile(float), 3.0),
        list.__new__(hostile(list)),
        set.__new__(hostile(set)),
        complex(1),
        b"bytes",
        boom,
        iter([]),
        (i for i in ()),
        range(3),
        Ref("model", {}),
        Reply("returned", 1),
        np.longdouble(1),
        np.complex64(1),
        np.datetime64("2020-01-01"),
        np.array(["a"]),
        np.array([boom]),
        np.zeros(2, dtype=np.longdouble),
        np.zeros(2, dtype=np.uint16),
        np.ma.masked_array([1.0]),
        np.broadcast_to(np.zeros(1), (10**6, 10**6)),
        torch.zeros(1).expand(10**11),
        torch.zeros(2, device="meta"),
        torch.zeros(2).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        torch.zeros(1).dtype,
        2**63,
        10**5000,
        {boom: 1},
        {torch.ones(1): 1},
        {frozenset(): 1},
        {"k": object()},
        type("Dispatching", (torch.Tensor,), {"__torch_dispatch__": classmethod(boom)})(),
    ]


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: (1, {"k": v})], ids=["bare", "list", "dict"])
@pytest.mark.parametrize("number", range(len(hostile_values())))
def test_what_may_not_cross_is_refused_unread(number, wrap):
    value = hostile_values()[number]
    for send in (wire.plain, encode):
        if (type(value) is Ref or type(value) is Reply) and send is encode:
            continue  # encode writes records; a value that an answer returned passes through plain first
        with pytest.raises(WireError):
            send(wrap(value))


@pytest.mark.parametrize("base", [dict, tuple, namedtuple("pair", "a")], ids=lambda b: b.__name__)
def test_subclasses_of_containers_arrive_as_the_container(base):
    kind = hostile(base)
    value = dict.__new__(kind) if base is dict else tuple.__new__(kind, (1,))
    if base is dict:
        dict.__setitem__(value, "k", 1)
    expected = {"k": 1} if base is dict else (1,)
    assert same(wire.plain(value), expected)
    assert same(decode(encode([value])), [expected])


def test_tensor_subclasses_arrive_as_plain_tensors():
    kind = hostile(torch.Tensor, __torch_function__=classmethod(boom))
    value = torch.Tensor._make_subclass(kind, torch.arange(3.0))
    for back in (wire.plain(value), decode(encode({"k": value}))["k"]):
        assert type(back) is torch.Tensor
        assert back.tolist() == [0, 1, 2]


def test_cycles_and_shared_lists_end():
    ring: list[object] = []
    ring.append(ring)
    knot: dict[str, object] = {}
    knot["k"] = (knot,)
    doubled: list[object] = [0]
    for _ in range(15):
        doubled = [doubled] * 10
    for value in (ring, knot, doubled, ["x" * 2**20] * 100, [torch.zeros(2**20)] * 100):
        for send in (wire.plain, encode):
            with pytest.raises(WireError, match=r"nested|more than"):
                send(value)


def test_a_refusal_names_place_and_type():
    with pytest.raises(WireError, match=r"value\[1\]\['k'\] is a set, which cannot be checked"):
        wire.plain([0, {"k": {1}}])


@pytest.mark.parametrize("size", [10, 1000])
def test_a_tensor_whose_memory_is_gone_does_not_end_the_process(size):
    tensor = torch.zeros(size)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(WireError):
        wire.plain(tensor)
