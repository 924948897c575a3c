"""The strategies. To add one, write one function here and register it by `@strategy`; nothing else changes.

Each says where it comes from, when it pays and when not, and where its defaults come from. Figures that are
said to be measured stand in docs/decisions/0003-default-rates.md and docs/guide/strategies.md.
"""

from __future__ import annotations

from typing import Any

from whet.errors import StrategyError
from whet.plan.anatomy import Anatomy
from whet.plan.edits import Average, Finish, LowRank, Merge, NewHead
from whet.plan.schedules import Linear, Warmup
from whet.plan.select import Select, everything, groups, head, kinds, match
from whet.plan.select import top as top_blocks
from whet.plan.strategy import Strategy, strategy
from whet.plan.values import AdamW, Defaults, Length, Patience, Phase, Plan

FINE_TUNE_RATE = 1.5e-4
NEW_HEAD = {"head": 10.0}
"""A new head starts from noise beside pretrained weights: it learns at ten times their rate. One that is kept does
not."""
PROBE_RATE = 1e-3
HEAD_RATE = 3e-3
"""Of a head alone in one epoch, where there is no time for the lower rate of a probe."""


def head_phase(
    defaults: Defaults, name: str, rate: float = HEAD_RATE, epochs: float = 1, stop: Patience | None = None
) -> Phase:
    """A phase that moves the head alone: high rate, AdamW without decay, linear decay of the rate."""
    return defaults.phase(
        name,
        head(),
        learning_rate=rate,
        length=Length(amount=epochs, unit="epochs"),
        optimizer=AdamW(weight_decay=0.0),
        schedule=Linear(),
        stop=stop,
    )


def tuning_phase(
    defaults: Defaults, name: str, train: Select, epochs: float = 1, factors: dict[str, float] | None = None
) -> Phase:
    """A phase that moves pretrained weights: small rate, AdamW, linear decay after 6 % warm-up."""
    if factors == NEW_HEAD and any(isinstance(edit, NewHead) and edit.kind == "kept" for edit in defaults.edits):
        factors = None
    return defaults.phase(
        name,
        train,
        learning_rate=FINE_TUNE_RATE,
        length=Length(amount=epochs, unit="epochs"),
        optimizer=AdamW(),
        schedule=Linear(warmup=Warmup(share=0.06)),
        factors=factors,
    )


@strategy
def full(anatomy: Anatomy, defaults: Defaults) -> Plan:
    """All weights move at once: standard fine-tuning by gradient descent (Devlin et al. 2019, section 4).

    Pays with a few hundred rows or more, and where the task is unlike what the model was made for. Does not pay
    with a few dozen rows (`probe` is steadier) or where what the model knew must stay.
    Defaults: 3 epochs; the rate was chosen by measurement.
    """
    return Plan(edits=defaults.edits, phases=(tuning_phase(defaults, "all groups", everything(), 3, NEW_HEAD),))


@strategy
def probe(anatomy: Anatomy, defaults: Defaults, depth: int | None = None, pooling: str | None = None) -> Plan:
    """A new head on the frozen model: feature-based training, also called linear probing (Alain and Bengio 2017).

    `depth` takes the features after so many blocks, counted from the input (default: all); `pooling` makes one
    vector of a text's states. The body is computed once, however many epochs follow. Pays with few rows, as a
    baseline, and where one body serves many tasks. Does not pay where the task needs features that the model
    lacks. Defaults: chosen by measurement.
    """
    if depth is not None and not 1 <= depth <= len(anatomy.blocks):
        raise StrategyError(f"probe(depth={depth}): {anatomy.model} has {len(anatomy.blocks)} blocks; give 1 to that")
    wishes = {"depth": depth, "pooling": pooling}
    update = {name: value for name, value in wishes.items() if value is not None}
    edits = tuple(e.model_copy(update=update) if isinstance(e, NewHead) else e for e in defaults.edits)
    phase = head_phase(defaults, "head", PROBE_RATE, epochs=40, stop=Patience(validations=20))
    return Plan(edits=edits, phases=(phase,))


@strategy
def top(anatomy: Anatomy, defaults: Defaults, blocks: int = 2) -> Plan:
    """The head and the topmost blocks move, what lies below is frozen and computed once (Lee et al. 2019).

    Pays where time or memory is short: two of six blocks pass and move a third of what `full` does. Does not pay
    where the task needs other words or syntax than the model was made for, which lower blocks hold.
    Defaults: 2 blocks, 3 epochs, the rate of `full`.
    """
    phase = tuning_phase(defaults, f"top {blocks}", top_blocks(blocks), 3, NEW_HEAD)
    phase.train.on(anatomy)
    return Plan(edits=defaults.edits, phases=(phase,))


@strategy
def freeze(anatomy: Anatomy, defaults: Defaults, *patterns: str) -> Plan:
    """Everything moves but the parameters whose names fit a pattern, e.g. `freeze("*embeddings*")`.

    Pays where part of a model must stay as it is: freezing the embeddings keeps words that the rows do not show.
    Without a pattern the embeddings are frozen. Defaults: 3 epochs, the rate of `full`.
    """
    frozen = match(*patterns) if patterns else groups(anatomy.groups[0].name)
    phase = tuning_phase(defaults, "not frozen", everything() - frozen, 3, NEW_HEAD)
    frozen.on(anatomy)
    phase.train.on(anatomy)
    return Plan(edits=defaults.edits, phases=(phase,))


FULL, PROBE = full(), probe()


@strategy
def discriminative(anatomy: Anatomy, defaults: Defaults, base: Strategy = FULL, decay: float = 0.9) -> Plan:
    """A rate per group that falls with depth: the head at the rate that the wrapped strategy gives it, each group
    below at its own, times `decay` once for every group above it (Howard and Ruder 2018, section 3.2; 0.8 to 0.95 is
    usual for encoders). Wraps any strategy.

    Pays for keeping what lower layers know, with few rows most of all. Does not pay where the words themselves
    are new. `decay=0.385` is ULMFiT's division by 2.6.
    """
    if not 0 < decay <= 1:
        raise StrategyError(f"discriminative(decay={decay}): must be above 0 and at most 1")
    factors = {g.name: decay**depth for depth, g in enumerate(reversed(anatomy.groups))}
    plan = base(anatomy, defaults)

    def with_factors(phase: Phase) -> Phase:
        moving = phase.train.names(anatomy)
        moves = {g.name for g in anatomy.body if any(p.name in moving for p in g.parameters)} | {anatomy.head.name}
        own = {name: factor * phase.rate.factors.get(name, 1.0) for name, factor in factors.items() if name in moves}
        return phase.model_copy(update={"rate": phase.rate.model_copy(update={"factors": own})})

    return plan.model_copy(update={"phases": tuple(with_factors(phase) for phase in plan.phases)})


@strategy
def gradual_unfreezing(anatomy: Anatomy, defaults: Defaults, per: int = 1) -> Plan:
    """The head first, then with each phase `per` more groups from the top, until all move (ULMFiT, Howard and Ruder
    2018, section 3.3). Each phase is one epoch; `schedule="slanted"` gives ULMFiT's slanted triangular rates.

    Pays against forgetting, and early phases are cheap, since what is frozen is computed once. Does not pay where
    time is short and rows are many: its last phases cost as much as `full`.
    """
    if per < 1:
        raise StrategyError(f"gradual_unfreezing(per={per}): must be 1 or more")
    below = [group.name for group in reversed(anatomy.body)]
    phases = [head_phase(defaults, "head")]
    for end in range(per, len(below) + per, per):
        opened = below[:end]
        phases.append(tuning_phase(defaults, f"down to {opened[-1]}", head() + groups(*opened)))
    return Plan(edits=defaults.edits, phases=tuple(phases))


@strategy
def lift(anatomy: Anatomy, defaults: Defaults, blocks: int = 1, passes: int = 1, order: str = "top-down") -> Plan:
    """Layer-wise fine-tuning: the head, then `blocks` blocks at a time while everything else stands still.

    `order` is "top-down" or "bottom-up"; `passes` repeats the whole. Each phase is one epoch. Memory for gradients
    and optimizer is that of `blocks` blocks, and top-down one pass of the pretrained model feeds all phases. Pays
    where memory is short. Does not pay where `full` fits: the gradient still passes every block above the moving one.
    """
    if blocks < 1 or passes < 1:
        raise StrategyError(f"lift(blocks={blocks}, passes={passes}): both must be 1 or more")
    if order not in ("top-down", "bottom-up"):
        raise StrategyError(f"lift(order={order!r}): must be 'top-down' or 'bottom-up'")
    names = [group.name for group in anatomy.blocks]
    bunches = [names[max(0, end - blocks) : end] for end in range(len(names), 0, -blocks)]
    bunches = bunches if order == "top-down" else bunches[::-1]
    phases = []
    for number in range(passes):
        turn = f", pass {number + 1}" if passes > 1 else ""
        phases.append(head_phase(defaults, f"head{turn}"))
        phases += [tuning_phase(defaults, f"{' and '.join(bunch)}{turn}", groups(*bunch)) for bunch in bunches]
    return Plan(edits=defaults.edits, phases=tuple(phases))


@strategy
def lp_ft(anatomy: Anatomy, defaults: Defaults) -> Plan:
    """Probe, then fine-tune all weights from the probe's head (Kumar et al. 2022).

    Pays where the rows that come later differ from those at hand: a head that fits already distorts the body less.
    Options for rate and length hold for the second part; the probe keeps its own.
    """
    own = defaults.model_copy(update={"learning_rate": None, "length": None, "optimizer": None, "stop": None})
    second = Plan(edits=defaults.edits, phases=(tuning_phase(defaults, "all groups", everything(), 3),))
    return joined(probe()(anatomy, own), second)


@strategy
def bitfit(anatomy: Anatomy, defaults: Defaults, norms: bool = True) -> Plan:
    """Biases (and norms) and the head move, nothing else (Ben Zaken et al. 2022): few parameters.

    Pays where many tuned variants must be stored small. Costs about as much time as `full`: the gradient passes the
    whole model. Refused where a model has no biases. Defaults: 3 epochs at ten times the rate of `full`.
    """
    if not kinds("bias").names(anatomy) & everything().names(anatomy) - head().names(anatomy):
        raise StrategyError(f"bitfit: the body of {anatomy.model} has no biases; try lift or top")
    train = head() + (kinds("bias", "norm") if norms else kinds("bias"))
    phase = tuning_phase(defaults, "biases and norms" if norms else "biases", train, epochs=3)
    if defaults.learning_rate is None:
        phase = phase.model_copy(update={"rate": phase.rate.model_copy(update={"base": 10 * FINE_TUNE_RATE})})
    return Plan(edits=defaults.edits, phases=(phase,))


@strategy
def average(anatomy: Anatomy, defaults: Defaults, base: Strategy = FULL, best: int = 3) -> Plan:
    """Runs a strategy and gives the mean of the weights of its `best` validations (checkpoint averaging; Izmailov
    et al. 2018 for its flat-minimum view). Validate more often to have more to choose from.

    Pays where validations are close to one another. Costs disk for `best` copies.
    """
    if best < 2:
        raise StrategyError(f"average(best={best}): must be 2 or more")
    plan = base(anatomy, defaults)
    return plan.model_copy(update={"finish": merge_last(*plan.finish, Average(best=best))})


@strategy
def then(anatomy: Anatomy, defaults: Defaults, first: Strategy = PROBE, second: Strategy = FULL) -> Plan:
    """One strategy after another: the second starts from the weights of the first, its head included."""
    return joined(first(anatomy, defaults), second(anatomy, defaults))


@strategy
def phases(anatomy: Anatomy, defaults: Defaults, *own: Any) -> Plan:
    """A person's own list of phases. Each is a `Phase`, or a selection's text, e.g. `phases("head()", "top(2)")`, which
    becomes a phase of one epoch at the rate of `full`. A whole plan in YAML is run by `--plan FILE`.
    """
    made = []
    for number, part in enumerate(own or ("head()", "everything()"), start=1):
        phase = part if isinstance(part, Phase) else tuning_phase(defaults, f"{number}: {part}", Select.parse(part))
        phase.train.on(anatomy)
        made.append(phase)
    return Plan(edits=defaults.edits, phases=tuple(made))


def joined(first: Plan, second: Plan) -> Plan:
    """The phases of one plan after those of another. Raises `StrategyError` where they change the model differently.

    Low-rank adapters that one of them adds are there in both: before they move they change nothing.
    """
    edits = max(first.edits, second.edits, key=len)
    without = tuple(edit for edit in edits if not isinstance(edit, LowRank))
    if any(plan.edits not in (edits, without) for plan in (first, second)):
        raise StrategyError(
            "two strategies joined by then must change the model alike: give one head to both, and the same adapters"
        )
    finish = merge_last(*first.finish, *second.finish)
    return Plan(edits=edits, phases=(*first.phases, *second.phases), finish=finish)


def merge_last(*finish: Finish) -> tuple[Finish, ...]:
    """Adapters are merged once, when nothing else is left to do with the weights."""
    merges = [edit for edit in finish if isinstance(edit, Merge)]
    return (*[edit for edit in finish if not isinstance(edit, Merge)], *merges[:1])
