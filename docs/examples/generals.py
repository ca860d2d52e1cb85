"""The Byzantine generals (Lamport, Shostak, Pease 1982), step by step: three cannot agree with one traitor, four can.

    python docs/examples/generals.py

A commander orders, the lieutenants tell each other what they were told, each obeys the majority: the algorithm OM(1).
Loyal lieutenants have to satisfy

    IC1  all loyal lieutenants obey the same order;
    IC2  if the commander is loyal, every loyal lieutenant obeys the order that he gave.

Every way in which one traitor can lie is tried, so "holds" below is proof for one traitor and not a sample.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

ATTACK, RETREAT = "attack", "retreat"
ORDERS = (ATTACK, RETREAT)
COMMANDER = 0
Lies = dict[tuple[int, int], str]  # what the traitor says, by (the traitor, to whom)
Rule = Callable[[int, tuple[str, ...]], str]  # what a lieutenant obeys who saw this: `Battle.seen_by`


@dataclass(frozen=True, slots=True)
class Battle:
    """One run of OM(1): what everybody was told and did."""

    n: int
    traitor: int
    order: str  # a loyal commander's
    told: dict[int, str]  # lieutenant -> the commander's order as it came
    relayed: dict[tuple[int, int], str]  # (who, to whom) -> "the commander told me so"
    obeyed: dict[int, str]  # loyal lieutenants alone

    @property
    def ic1(self) -> bool:
        return len(set(self.obeyed.values())) == 1

    @property
    def ic2(self) -> bool:
        return self.traitor == COMMANDER or set(self.obeyed.values()) == {self.order}

    def seen_by(self, lieutenant: int) -> tuple[str, ...]:
        """All that a lieutenant has to decide by: the order, and what each other one says it was."""
        others = [other for other in range(1, self.n) if other != lieutenant]
        return (self.told[lieutenant], *[self.relayed[other, lieutenant] for other in others])


def majority(_: int, seen: tuple[str, ...]) -> str:
    """The rule of OM(1); a tie means retreat."""
    votes = Counter(seen)
    return ATTACK if votes[ATTACK] > votes[RETREAT] else RETREAT


def fight(n: int, traitor: int, order: str, lies: Lies, rule: Rule = majority) -> Battle:
    """OM(1) with n generals, of whom `traitor` says what `lies` tell."""
    lieutenants = range(1, n)
    told = {to: lies[COMMANDER, to] if traitor == COMMANDER else order for to in lieutenants}
    pairs = [(who, to) for who in lieutenants for to in lieutenants if who != to]
    relayed = {(who, to): lies[who, to] if who == traitor else told[who] for who, to in pairs}
    battle = Battle(n, traitor, order, told, relayed, {})
    for me in lieutenants:
        if me != traitor:
            battle.obeyed[me] = rule(me, battle.seen_by(me))
    return battle


def battles(n: int, rule: Rule = majority) -> Iterator[Battle]:
    """Every battle of n generals: each order, each traitor, each way to lie."""
    for order, traitor in product(ORDERS, range(n)):
        listeners = [to for to in range(1, n) if to != traitor]
        for words in product(ORDERS, repeat=len(listeners)):
            lies = {(traitor, to): word for to, word in zip(listeners, words, strict=True)}
            yield fight(n, traitor, order, lies, rule)


def holds(n: int, rule: Rule = majority) -> bool:
    """Whether the rule satisfies IC1 and IC2 in every battle."""
    return all(battle.ic1 and battle.ic2 for battle in battles(n, rule))


def rules_of_three() -> Iterator[Rule]:
    """Every pair of rules that two lieutenants can follow who see two orders each: 16 times 16."""
    views = list(product(ORDERS, repeat=2))
    for first, second in product(product(ORDERS, repeat=len(views)), repeat=2):
        tables = {1: dict(zip(views, first, strict=True)), 2: dict(zip(views, second, strict=True))}
        yield lambda me, seen, tables=tables: tables[me][seen]  # type: ignore[misc]


def dilemma() -> tuple[Battle, Battle]:
    """Two battles of three generals that look the same to lieutenant 1.

    By IC2 he has to attack in the first, as he was told.  So he does in the second; and lieutenant 2, who is in the
    mirror image of it, retreats as he was told: IC1 fails.
    """
    loyal_commander = fight(3, 2, ATTACK, {(2, 1): RETREAT})
    false_commander = fight(3, COMMANDER, ATTACK, {(COMMANDER, 1): ATTACK, (COMMANDER, 2): RETREAT})
    return loyal_commander, false_commander


def name(general: int) -> str:
    """As the story calls him."""
    return "the commander" if general == COMMANDER else f"lieutenant {general}"


def tell(battle: Battle) -> None:
    """Print a battle, step by step."""
    print(f"  {name(battle.traitor)} is the traitor; a loyal commander orders: {battle.order}")
    for to, order in battle.told.items():
        print(f"    the commander tells lieutenant {to}: {order}")
    for (who, to), order in battle.relayed.items():
        print(f"    lieutenant {who} tells lieutenant {to}: the commander told me to {order}")
    for who, order in battle.obeyed.items():
        print(f"    lieutenant {who} saw {', '.join(battle.seen_by(who))} and obeys: {order}")
    print(f"    IC1 {'holds' if battle.ic1 else 'FAILS'}, IC2 {'holds' if battle.ic2 else 'FAILS'}")


def main() -> int:
    """Tell the story; 0 if it came out as the theorem says."""
    print("Three generals, one traitor: n = 3f, one too few\n")
    first, second = dilemma()
    tell(first)
    print()
    tell(second)
    print(f"\n  Lieutenant 1 saw the same both times, {' and '.join(first.seen_by(1))}: nothing tells him which it is.")
    pairs = list(rules_of_three())
    unbroken = sum(holds(3, rule) for rule in pairs)
    print(f"  Of all {len(pairs)} pairs of rules that the two lieutenants could follow, {unbroken} hold.")
    print("\nFour generals, one traitor: n = 3f + 1\n")
    fought = list(battles(4))
    tell(next(b for b in fought if b.traitor == COMMANDER and len(set(b.told.values())) == 2))
    print()
    tell(next(b for b in fought if b.traitor == 3 and RETREAT in b.relayed.values()))
    print(f"\n  All {len(fought)} battles {'hold' if holds(4) else 'DO NOT HOLD'}.")
    print(
        "\nThe replicas of this project are such generals: the primary commands, PREPARE is what they tell each other,"
    )
    print("and n = 3f + 1.  Signed messages let them prove who lied: `make demo`.")
    return 0 if not unbroken and holds(4) else 1


if __name__ == "__main__":
    sys.exit(main())
