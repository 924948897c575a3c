"""The memory of a phase, part by part: arithmetic on what its model, its rows and its optimizer are."""

from __future__ import annotations

import math

from whet.plan.anatomy import Anatomy, Group
from whet.plan.course import FP32, Stretch, bytes_at, numbers_of, weights_of
from whet.plan.edits import Interpolate
from whet.plan.price import MEBI, Batch, Footprint, Line, Machine, Memory, Work
from whet.plan.values import Plan

HALF = 2
ONE_WIDTH, MANY_WIDTHS, PER_TENFOLD = 0.35, 0.4, 0.5
"""What the allocator of a processor's memory leaves unused, as a share of the activations: where all rows have one
width; where they have many, after 10 steps; and more for every tenfold of steps (docs/decisions/0021-price.md)."""
TRAINED_SHAPE, PASSED_SHAPE, MOST_KERNELS = 5.5 * MEBI, 2.8 * MEBI, 500 * MEBI
"""Code that a processor's library makes for products in two bytes, for every new shape of a batch, until its cache is
full. It hardly hangs on the size of the model."""
IN_MEMORY = 4
"""States stay in memory up to this part of what is free; beyond it they are mapped from the disk."""


def memory_of(
    stretch: Stretch, anatomy: Anatomy, work: Work, machine: Machine, footprint: Footprint, steps: int
) -> Memory:
    """The memory of a phase at its highest point, after `steps` steps of the run."""
    whole, tables = size_of(anatomy, work), tables_of(stretch, work)
    copies = HALF * still_weights(stretch, anatomy, work) if work.half else 0.0
    captures = sum(bytes_at(name, work) for name in stretch.kept)
    return Memory.of(
        process=(max(0.0, machine.resident - whole) + (kernels(stretch, work) if machine.processor else 0.0)) / MEBI,
        weights=(whole + tables + copies) / MEBI,
        gradients=FP32 * stretch.numbers / MEBI,
        optimizer=(stretch.optimizer + stretch.optimizer_before) / MEBI,
        activations=activations(stretch, anatomy, work, machine, footprint, steps) / MEBI,
        captures=min(captures, machine.free / IN_MEMORY) / MEBI,
        pulls=stretch.held / MEBI,
    )


def memory_after(
    plan: Plan, stretch: Stretch, anatomy: Anatomy, work: Work, machine: Machine, footprint: Footprint
) -> Memory:
    """The memory while the result's weights are made, after the last phase: two copies of what moved, and, where the
    pretrained weights are needed again, a model of them."""
    whole, moved = size_of(anatomy, work), FP32 * numbers_of(stretch.before | stretch.moving, anatomy, work)
    again = whole if any(isinstance(edit, Interpolate) for edit in plan.blends) else 0.0
    return Memory.of(
        process=(max(0.0, machine.resident - whole) + (kernels(stretch, work) if machine.processor else 0.0)) / MEBI,
        weights=(whole + tables_of(stretch, work) + again + 2 * moved) / MEBI,
        gradients=0.0,
        optimizer=stretch.optimizer / MEBI,
        activations=in_eval_alone(work, footprint) / MEBI,
        captures=0.0,
        pulls=stretch.held / MEBI,
    )


def size_of(anatomy: Anatomy, work: Work) -> float:
    """Bytes of all weights."""
    every = (*anatomy.parameters, *anatomy.idle)
    return sum(work.rounded.get(parameter.name, FP32 * parameter.size) for parameter in every)


def tables_of(stretch: Stretch, work: Work) -> float:
    """Bytes of the rows of token tables in use, once they have moved."""
    return FP32 * sum(work.narrowed.values()) if work.narrowed.keys() & (stretch.before | stretch.moving) else 0.0


def still_weights(stretch: Stretch, anatomy: Anatomy, work: Work) -> int:
    """Numbers of the blocks' weights that do not move: they are kept a second time, as they are multiplied."""
    sizes = {name: size for group in anatomy.blocks for name, size in weights_of(group, anatomy).items()}
    return sum(size for name, size in sizes.items() if name not in stretch.moving | work.rounded.keys())


def kernels(stretch: Stretch, work: Work) -> float:
    if not work.half:
        return 0.0
    passed = {(batch.rows, batch.width) for batch in ((*work.once, *work.valid) if stretch.kept else work.valid)}
    trained = (
        {(batch.rows, batch.width) for batch in (*stretch.epoch.batches, *work.budgets)} if stretch.padded else set()
    )
    return min(MOST_KERNELS, TRAINED_SHAPE * len(trained) + PASSED_SHAPE * len(passed))


def activations(
    stretch: Stretch, anatomy: Anatomy, work: Work, machine: Machine, footprint: Footprint, steps: int
) -> float:
    """What the largest batch holds, in training or in a forward pass alone, with what the allocator leaves unused."""
    alone = in_eval_alone(work, footprint)
    if not stretch.padded:
        return alone
    largest = max(
        kept_of(batch, stretch, anatomy, work, footprint) for batch in (*stretch.epoch.batches, *work.budgets)
    )
    return max(alone, largest * (1 + (left_unused(stretch, steps) if machine.processor else 0.0)))


def kept_of(batch: Batch, stretch: Stretch, anatomy: Anatomy, work: Work, footprint: Footprint) -> float:
    """Bytes that one batch of a step keeps for the way back. With gradient checkpointing, the inputs of all blocks and
    the inside of one."""
    lines = {group.name: line_of(group, stretch, anatomy, footprint).of(batch) for group in stretch.above}
    if not work.checkpointing:
        return sum(lines.values())
    blocks = [lines.pop(group.name) for group in stretch.above if group.kind == "block"]
    inputs = FP32 * batch.tokens * (anatomy.hidden_size or 0) * len(blocks)
    return inputs + sum(lines.values()) + max(blocks, default=0.0)


def line_of(group: Group, stretch: Stretch, anatomy: Anatomy, footprint: Footprint) -> Line:
    """What a group keeps: inputs of its products where weights move, and those weights as they are multiplied."""
    sizes = weights_of(group, anatomy)
    moving, passing = sum(size for name, size in sizes.items() if name in stretch.moving), footprint.passing[group.name]
    if not moving:
        return passing
    line = footprint.moving[group.name]
    return line.model_copy(update={"fixed": line.fixed * moving / sum(sizes.values())})


def in_eval(batch: Batch, footprint: Footprint) -> float:
    """A forward pass that keeps nothing holds about what one block keeps in training."""
    return max(line.of(batch) - line.fixed for line in footprint.moving.values())


def in_eval_alone(work: Work, footprint: Footprint) -> float:
    """What the largest batch of a pass in eval mode holds."""
    return max((in_eval(batch, footprint) for batch in (*work.once, *work.valid)), default=0.0)


def left_unused(stretch: Stretch, steps: int) -> float:
    """What the allocator leaves unused, as a share of the activations."""
    if len({batch.width for batch in stretch.epoch.batches}) < 2:
        return ONE_WIDTH
    return MANY_WIDTHS + PER_TENFOLD * math.log10(max(steps, 10) / 10)
