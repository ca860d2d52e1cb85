"""Lamport, Shostak, Pease 1982: with oral messages, n > 3f generals can agree and n = 3f cannot."""

import generals


def test_four_generals_hold_whatever_one_traitor_says() -> None:
    """IC1 and IC2, in every battle: each order, each traitor, each way to lie."""
    assert len(list(generals.battles(4))) == 40
    assert generals.holds(4)


def test_three_generals_fail_under_every_rule() -> None:
    """Not only the majority rule: whatever the two lieutenants make of what they saw, one battle breaks it."""
    assert not any(generals.holds(3, rule) for rule in generals.rules_of_three())


def test_the_two_battles_of_the_dilemma_look_the_same_to_lieutenant_1() -> None:
    first, second = generals.dilemma()
    assert first.traitor != second.traitor
    assert first.seen_by(1) == second.seen_by(1)


def test_without_a_traitor_among_those_who_speak_the_order_is_obeyed() -> None:
    loyal = [battle for battle in generals.battles(4) if battle.traitor != generals.COMMANDER]
    assert all(set(battle.obeyed.values()) == {battle.order} for battle in loyal)


def test_the_program_tells_the_story_and_ends_well(capsys) -> None:
    assert generals.main() == 0
    told = capsys.readouterr().out
    assert "Of all 256 pairs of rules that the two lieutenants could follow, 0 hold." in told
    assert "All 40 battles hold." in told
