"""A function of tensors as one compiled graph, without Python, Pyro and autograd."""

import os
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode

from ppl_models.random_numbers import forked_rng

Graph = Callable[..., Any]
"""From the tensors that a graph was traced with, or others like them, to a tuple of tensors."""


class NotTraceable(Exception):
    """Why a function cannot be traced, completing "this step cannot be compiled: "."""


def can_compile() -> bool:
    """Whether there is a compiler for the graph."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", usual)) is not None


def traced(
    function: Callable[..., Any],
    values: Sequence[Tensor],
    owner: Callable[[Tensor], str] | None = repr,
) -> GraphModule:
    """The operations of a function of tensors, its own gradients among them.

    ``owner`` names a tensor that is no argument; with None such tensors are constants, as the data
    of a potential are. The function runs twice, and the random state is put back. A graph
    computes the same at every call; a function that does not is refused, where two runs show it.

    Raises:
        NotTraceable: If a value determines the computation or a shape; if random numbers are not
            torch's; if the second run differs; if a tensor that is not an argument takes part.
    """
    first, second = (_once(function, values) for _ in range(2))
    _refuse_operations(first)
    if first.code != second.code or not _same_constants(first, second):
        raise NotTraceable("its second call computes something else")
    for name, constant in _constants(first):
        if isinstance(constant, nn.Parameter) or constant.requires_grad:
            shape = list(constant.shape)
            raise NotTraceable(f"a parameter {shape} outside of the modules takes part ({name})")
        if owner and id(constant) not in fresh(first):
            raise NotTraceable(
                f"the tensor {owner(constant)} takes part, which is no parameter, buffer or "
                "attribute of a module and no part of the batch"
            )
    return first


def is_read(graph: GraphModule, argument: int) -> bool:
    """Whether the graph makes use of an argument, by its position."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    return bool(inputs[argument].users)


def fresh(graph: GraphModule) -> set[int]:
    """Constants that were made while tracing, from numbers written in the program."""
    lifted = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)
    return {
        id(getattr(graph, str(node.target)))
        for node in graph.graph.nodes
        if node.op == "get_attr" and all(user.target in lifted for user in node.users)
    }


def _refuse_operations(graph: GraphModule) -> None:
    for node in graph.graph.nodes:
        if "mkldnn_rnn_layer" in str(node.target):
            raise NotTraceable("the compiler does not know torch's LSTM on a CPU (a GRU is known)")
        tags = getattr(node.target, "tags", ())
        if torch.Tag.dynamic_output_shape not in tags:
            continue
        if node.target is torch.ops.aten.index.Tensor and not any(map(_is_mask, node.args[1])):
            continue
        raise NotTraceable(f"a tensor's values decide the shape of another ({node.target})")


def _is_mask(node: Any) -> bool:
    meta = getattr(node, "meta", {})
    value = meta.get("val", meta.get("tensor_meta"))
    return getattr(value, "dtype", None) in (torch.bool, torch.uint8)


class _NoReading(TorchFunctionMode):
    """Refuses to read a tensor's value in Python, where it would become a constant."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in READING:
            raise NotTraceable(
                "a tensor's value decides what is computed (an `if` on it, float(), .item() or "
                "NumPy)"
            )
        return func(*args, **(kwargs or {}))


READING = {
    getattr(Tensor, name)
    for name in ("item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__")
} | {Tensor.__index__}


def _once(function: Callable[..., Any], values: Sequence[Tensor]) -> GraphModule:
    from torch._guards import TracingContext, tracing  # slow to import
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    copies = [value.detach().clone() for value in values]  # what a call changes in place
    before = _other_generators()
    with forked_rng(), pyro.validation_enabled(False):
        try:
            # one mode for the shapes of all nodes; make_fx would make one per node
            with _NoReading(), tracing(TracingContext(FakeTensorMode())):
                graph = make_fx(function, PRODUCTS)(*copies)
        except NotTraceable:
            raise
        except Exception as error:
            raise NotTraceable(_reason(error)) from error
    if before != _other_generators():
        raise NotTraceable("it draws random numbers from Python or NumPy, not from torch")
    return graph


def _affine(bias: Tensor, x: Tensor, weight: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``addmm`` as a product and a bias that the compiler fuses into the next kernel.

    ``addmm`` fills its result with the bias before it multiplies: at the lab's VAE a tenth of a
    step. The compiler would make one of ``+ bias`` again, so the bias is subtracted twice.
    """
    return x @ weight - (-bias) if beta == alpha == 1 else NotImplemented


SHORT = 4
"""Largest side of a matrix for which CPU libraries are slow."""


def _thin(a: Tensor, b: Tensor) -> Any:
    """``mm`` with a short side as sums, which the compiler fuses with other operations."""
    (rows, inner), columns = a.shape, b.shape[1]
    if a.device.type != "cpu" or a.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    if not 0 < min(rows, inner, columns) <= SHORT:
        return NotImplemented
    if inner <= SHORT:
        return sum(a[:, k, None] * b[k] for k in range(inner))
    if columns <= SHORT:
        return torch.stack([(a * column).sum(1) for column in b.T], 1)
    return torch.stack([(row[:, None] * b).sum(0) for row in a])


PRODUCTS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.addmm.default: _affine,
    torch.ops.aten.mm.default: _thin,
}
"""How products of matrices are traced."""


def _other_generators() -> list[Any]:
    return [random.getstate(), *map(str, np.random.get_state(legacy=False).values())]


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    if "_local_scalar_dense" in words or "data-dependent" in words:
        return "a tensor's value decides what is computed (an `if` on it, or .item())"
    return f"{type(error).__name__}: {words[:200]}"


def _constants(graph: GraphModule) -> list[tuple[str, Tensor]]:
    names = [str(node.target) for node in graph.graph.nodes if node.op == "get_attr"]
    return [(name, getattr(graph, name)) for name in names]


def _same_constants(first: GraphModule, second: GraphModule) -> bool:
    pairs = zip(_constants(first), _constants(second), strict=True)
    return all(a.equal(b) for (_, a), (_, b) in pairs)


def compiled(graph: GraphModule, values: Sequence[Tensor]) -> Graph:
    """A traced graph through Inductor. What it changes in place it changes in its arguments.

    To be called under ``torch.no_grad()``: the gradients are in the graph already.

    Raises:
        NotTraceable: If the compiler fails.
    """
    import torch._inductor  # slow to import, and only needed for compiled graphs
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    # without a shape environment, the compiler does not use its cache on disk
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    fakes: list[Any] = [mode.from_tensor(value.detach(), static_shapes=True) for value in values]
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler calls torch's deprecated functions
            function: Any = torch._inductor.compile(graph, fakes)
    except Exception as error:
        raise NotTraceable(_reason(error)) from error
    return function
