"""Cards of a layout, and the share of a round in which they compute (pure)."""

from collections.abc import Mapping

from rapo_ray.config import RunConfig


def cards_of_roles(config: RunConfig) -> dict[str, int]:
    """Cards that each role works on, a role that takes turns included; judges that are guests have none of their own.

    Rules and endpoints take no card.
    """
    rollout, judge = config.rollout, config.judge.risk
    own_judges = judge.backend == "vllm" and not config.shares_cards(judge)
    return {
        "rollout": rollout.engines * rollout.tensor_parallel,
        "judge": judge.actors * judge.tensor_parallel if own_judges else 0,
        "policy": config.policy.ranks,
        "reference": config.reference.actors if config.policy.needs_reference and not rollout.colocate else 0,
    }


def card_count(config: RunConfig) -> int:
    """Cards of the layout: a shared one counts once."""
    roles = cards_of_roles(config)
    return roles["rollout"] if config.rollout.colocate else sum(roles.values())


def busy_share(config: RunConfig, busy: Mapping[str, float], seconds: float) -> float:
    """Share of a round of so many seconds in which the cards of a layout compute.

    `busy` has the mean seconds of a card of each role; those of `rollout` include its guests, once where both work.
    """
    worked = sum(cards * busy.get(role, 0.0) for role, cards in cards_of_roles(config).items())
    return worked / (card_count(config) * seconds)


def describe_layout(config: RunConfig) -> str:
    """The cards of a layout in one line."""
    if config.cluster.device == "cpu":
        return "roles share the processor's cores"
    count = card_count(config)
    if config.rollout.colocate:
        guests = ", judges" if config.shares_cards(config.judge.risk) else ""
        return f"{count} cards shared in turn by engines{guests} and policy, which is the reference too"
    roles = {role: cards for role, cards in cards_of_roles(config).items() if cards}
    return f"{count} cards: " + ", ".join(f"{cards} {role}" for role, cards in roles.items())
