"""Strategies that keep what the pretrained model knew: pulls towards it, and weights between it and the tuned model.

Figures that are said to be measured stand in docs/guide/strategies.md.
"""

from __future__ import annotations

from whet.errors import StrategyError
from whet.plan.anatomy import Anatomy
from whet.plan.edits import Adapter, Interpolate, NewHead
from whet.plan.pulls import Pull, ToFeatures, ToOutputs, ToWeights
from whet.plan.strategies import FULL, merge_last
from whet.plan.strategy import Strategy, strategy
from whet.plan.values import Defaults, Phase, Plan


@strategy
def pull_to_base(
    anatomy: Anatomy,
    defaults: Defaults,
    base: Strategy = FULL,
    weights: float | None = None,
    features: float | None = None,
) -> Plan:
    """Training that is drawn back towards the pretrained model: its weights (L2-SP, Li et al. 2018) by strength
    `weights`, or what it makes of each row by strength `features`. Wraps any strategy that moves the body.

    Pays where what the model knew must stay and rows of it are not at hand. Does not pay where the task needs the
    body to change. Default: the weights, by 0.01, the lower end of what Li et al. tried. The pretrained features of
    the rows are computed once.
    """
    if weights is None and features is None:
        weights = 0.01
    wanted: list[Pull] = []
    if weights is not None:
        wanted.append(ToWeights(strength=positive("pull_to_base", "weights", weights)))
    if features is not None:
        wanted.append(ToFeatures(strength=positive("pull_to_base", "features", features)))
    return pulled(base(anatomy, defaults), anatomy, tuple(wanted), "pull_to_base", base)


@strategy
def kl_to_base(anatomy: Anatomy, defaults: Defaults, base: Strategy = FULL, strength: float = 1.0) -> Plan:
    """Training in which the outputs for each row are drawn towards those of the model as it came (Li and Hoiem 2016).
    Wraps any strategy that moves the body.

    For a classifier that is tuned further on the same labels, with `--head kept`: a new head has no outputs worth
    keeping. Pays where the model's answers are mostly right and shall change little. What the model says of each row
    is computed once. Default: the divergence counts as much as the loss.
    """
    if not any(isinstance(edit, NewHead) and edit.kind == "kept" for edit in defaults.edits):
        raise StrategyError(
            "kl_to_base draws towards what the pretrained model itself answers, so its head has to stay: "
            "add --head kept, with a model that was made for these labels"
        )
    pull = ToOutputs(strength=positive("kl_to_base", "strength", strength))
    return pulled(base(anatomy, defaults), anatomy, (pull,), "kl_to_base", base)


@strategy
def interpolate(anatomy: Anatomy, defaults: Defaults, base: Strategy = FULL, share: float | None = None) -> Plan:
    """Runs a strategy, then takes the weights that lie the `share` of the way from the pretrained ones to the tuned
    ones (WiSE-FT, Wortsman et al. 2022, https://arxiv.org/abs/2109.01903); a new head stays as tuned.

    Without `share`, 0 to 1 in tenths are tried on the validation rows, at the price of eleven validations. Pays where
    later rows will differ from those at hand, and against forgetting. Does not pay where the task is far from what the
    model was made for: the weights between are then good at neither.
    """
    if share is not None and not 0 <= share <= 1:
        raise StrategyError(f"interpolate(share={share}): must be from 0 (pretrained) to 1 (tuned)")
    plan = base(anatomy, defaults)
    refuse_frozen(plan, anatomy, "interpolate", base)
    return plan.model_copy(update={"finish": merge_last(*plan.finish, Interpolate(share=share))})


def pulled(plan: Plan, anatomy: Anatomy, pulls: tuple[Pull, ...], name: str, base: Strategy) -> Plan:
    """The plan with pulls in each phase that moves the body."""
    refuse_frozen(plan, anatomy, name, base)
    phases = [
        phase.model_copy(update={"pulls": (*phase.pulls, *pulls)}) if moves_body(phase, anatomy) else phase
        for phase in plan.phases
    ]
    return plan.model_copy(update={"phases": tuple(phases)})


def refuse_frozen(plan: Plan, anatomy: Anatomy, name: str, base: Strategy) -> None:
    adds = any(isinstance(edit, Adapter) for edit in plan.edits)  # what that is, the anatomy may not know yet
    if not adds and not any(moves_body(phase, anatomy) for phase in plan.phases):
        raise StrategyError(f"{name}({base}): nothing of the body moves there, so there is nothing to hold it by")


def moves_body(phase: Phase, anatomy: Anatomy) -> bool:
    return bool(phase.train.names(anatomy) - {parameter.name for parameter in anatomy.head.parameters})


def positive(name: str, argument: str, value: float) -> float:
    if not value > 0:
        raise StrategyError(f"{name}({argument}={value}): must be above 0")
    return value
