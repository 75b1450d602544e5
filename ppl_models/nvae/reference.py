"""The published implementation's names for our parameters.

The published code numbers the cells and combiners of a tower in one list, fine to coarse in the
encoder and coarse to fine in the decoder; here they are ordered by group. Every convolution
without weight norm appears twice in its checkpoints, the second time as ``weight_normalized``.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ppl_models.nvae.cells import EncoderCell, MBConvCell


def _encoder_cell(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for k in range(4):
        yield f"{ours}.skip.convs.{k}", f"{theirs}.skip.conv_{k + 1}"
    for i in range(2):
        yield f"{ours}.body.{2 * i}", f"{theirs}._ops.{i}.bn_act"
        yield f"{ours}.body.{2 * i + 1}", f"{theirs}._ops.{i}.conv_0"


def _decoder_cell(ours: str, theirs: str, up: bool) -> Iterator[tuple[str, str]]:
    yield f"{ours}.skip.conv", f"{theirs}.skip.1"
    first = 1 if up else 0  # the upsampling comes before
    names = ("{}.bn", "{}.conv.0", "{}.conv.1", "{}.conv.0", "{}.conv.1", "{}", "{}.bn")
    numbers = (0, 1, 1, 2, 2, 3, 4)
    for i, (name, number) in enumerate(zip(names, numbers, strict=True), 1):
        yield f"{ours}.body.{i}", f"{theirs}._ops.0.conv.{name.format(first + number)}"


def _cell(cell: nn.Module, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    if isinstance(cell, EncoderCell):
        yield from _encoder_cell(ours, theirs)
    elif isinstance(cell, MBConvCell):
        yield from _decoder_cell(ours, theirs, not isinstance(cell.skip, nn.Identity))
    for k in (0, 2):
        yield f"{ours}.attention.layers.{k}", f"{theirs}.se.se.{k}"


def _way_up(guide: Any) -> Iterator[tuple[str, str]]:
    tower, at = guide.tower, 0
    last = len(tower.groups) - 1
    for i, group in enumerate(tower.groups):
        if str(i) in tower.downs:
            yield from _cell(tower.downs[str(i)], f"guide.tower.downs.{i}", f"enc_tower.{at}")
            at += 1
        for k, cell in enumerate(group):
            yield from _cell(cell, f"guide.tower.groups.{i}.{k}", f"enc_tower.{at}")
            at += 1
        if i < last:  # a combiner for every group but the top one
            yield f"guide.combines.{last - 1 - i}", f"enc_tower.{at}.conv"
            at += 1


def _way_down(model: Any) -> Iterator[tuple[str, str]]:
    yield "model.combine_top", "stem_decoder"
    yield "model.combine_top.conv", "dec_tower.0.conv"
    at = 1
    for i, group in enumerate(model.groups):
        if str(i) in model.ups:
            yield from _cell(model.ups[str(i)], f"model.ups.{i}", f"dec_tower.{at}")
            at += 1
        for k, cell in enumerate(group.cells):
            yield from _cell(cell, f"model.groups.{i}.cells.{k}", f"dec_tower.{at}")
            at += 1
        yield f"model.groups.{i}.combine.conv", f"dec_tower.{at}.conv"
        at += 1


def _prefixes(model: Any, guide: Any) -> Iterator[tuple[str, str]]:
    yield "guide.tower.stem", "stem"
    for i, cell in enumerate(guide.tower.pre):
        yield from _cell(cell, f"guide.tower.pre.{i}", f"pre_process.{i}")
    yield from _way_up(guide)
    yield "guide.tower.last", "enc0.1"
    for i in range(len(guide.samplers)):
        yield f"guide.samplers.{i}", f"enc_sampler.{i}"
    for i in range(len(model.groups)):
        yield f"model.groups.{i}.sampler", f"dec_sampler.{i}.1"
    for i, flows in enumerate(guide.flows):
        for n in range(len(flows)):
            for k in range(2):
                ours = f"guide.flows.{i}.{n}.shifts.{k}"
                theirs = f"nf_cells.{i * len(flows) + n}.cell{k + 1}"
                yield f"{ours}.first", f"{theirs}.conv.convz.0"
                yield f"{ours}.second", f"{theirs}.conv.convz.2"
                yield f"{ours}.last", f"{theirs}.mu.conv_0"
    yield from _way_down(model)
    for i, cell in enumerate(model.post):
        yield from _cell(cell, f"model.post.{i}", f"post_process.{i}")
    yield "model.image", "image_conditional.1"


def reference_names(pair: nn.Module) -> dict[str, str]:
    """A map from our name of every entry of a pair's state to the published one, in its order."""
    keys = list(pair.state_dict())
    names = {}
    if "model.top" in keys:
        names["model.top"] = "prior_ftr0"
    for ours, theirs in _prefixes(pair.model, pair.guide):
        for key in keys:
            head, _, tail = key.rpartition(".")
            if head == ours:
                names[key] = f"{theirs}.{tail}"
    return names


def from_reference(pair: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict under our names.

    Raises:
        ValueError: If tensors are missing, unexpected, or of another shape; names the first few.
    """
    names = reference_names(pair)
    found = {name: t for name, t in state.items() if not name.endswith("weight_normalized")}
    own = pair.state_dict()
    missing = [theirs for theirs in names.values() if theirs not in found]
    unexpected = sorted(set(found) - set(names.values()))
    shapes = [
        f"{theirs} {list(found[theirs].shape)}, not {list(own[ours].shape)}"
        for ours, theirs in names.items()
        if theirs in found and found[theirs].shape != own[ours].shape
    ]
    for problem, which in (("missing", missing), ("unexpected", unexpected), ("shape", shapes)):
        if which:
            raise ValueError(
                f"the checkpoint does not fit ({problem}): {', '.join(which[:3])}"
                f"{', ...' if len(which) > 3 else ''}."
            )
    return {ours: found[theirs] for ours, theirs in names.items()}


def to_reference(pair: nn.Module) -> dict[str, Tensor]:
    """A pair's state under the published names, duplicates of tied weights included."""
    own, state = pair.state_dict(), {}
    norms = {name.rpartition(".")[0] for name in own if name.endswith("log_weight_norm")}
    for ours, theirs in reference_names(pair).items():
        state[theirs] = own[ours]
        head, _, tail = ours.rpartition(".")
        if tail == "weight" and own[ours].ndim == 4 and head not in norms:
            state[f"{theirs}_normalized"] = own[ours]
    return state
