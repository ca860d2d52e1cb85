"""How behaviours are written, everywhere the same.

equivocate_split                                  a name of the catalogue
delay(ms=50), delay:ms=50                         with settings, whole numbers
equivocate_one + drop_to                          both, one after the other
after(2s, silent)   until(500ms, silent)          from then on, or only until then
then(silent, 3s, view_change_spam)                the first for 3 s, the second from then on
in_view(0|2..5, silent)                           while it is in one of these views
only_to(1|2, equivocate_votes)                    towards these; also f, half, clients
with_probability(0.2, garbage_signatures)         in about one step of five
silent@signal  silent@after=2.5  silent@8s..12s   on_signal(silent), after(2.5s, silent), after(8s, until(4s, silent))
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NoReturn

from bft.testing.behaviours import combinators as c
from bft.testing.behaviours.base import MS, SECOND, Behaviour, BehaviourContext
from bft.testing.behaviours.catalogue import BY_NAME

COMBINATORS = {
    "after": "after(TIME, BEHAVIOUR)",
    "until": "until(TIME, BEHAVIOUR)",
    "then": "then(BEHAVIOUR, TIME, BEHAVIOUR)",
    "in_view": "in_view(VIEW|FROM..TO, BEHAVIOUR)",
    "only_to": "only_to(REPLICA|f|half|clients, BEHAVIOUR)",
    "with_probability": "with_probability(0..1, BEHAVIOUR)",
    "on_signal": "on_signal(BEHAVIOUR)",
}
_TOKEN = re.compile(r"\s*(?:(?P<word>[a-z_]+)|(?P<time>\d+(?:\.\d+)?(?:ms|s)\b)|(?P<number>\d+(?:\.(?!\.)\d*)?)"
                    r"|(?P<mark>\.\.|[(),|:=+@]))")  # fmt: skip
_DEPTH_MAX = 20


def parse(text: str) -> Behaviour:
    """The behaviour that is written so.  Raises ValueError: one line that says what would be understood."""
    return _Parser(text).behaviour_alone()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._split(text)
        self._at = 0
        self._depth = 0

    def _split(self, text: str) -> list[str]:
        tokens: list[str] = []
        position = 0
        while position < len(text.rstrip()):
            found = _TOKEN.match(text, position)
            if found is None:
                self._fail(f"cannot be read from {text[position:].strip()[:20]!r} on")
            tokens.append(found[0].strip())
            position = found.end()
        return tokens

    def _fail(self, why: str) -> NoReturn:
        raise ValueError(f"behaviour {self._text!r}: {why}")

    @property
    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next
        self._at += 1
        return token

    def _expect(self, token: str, form: str) -> None:
        if self._next != token:
            self._fail(f"{token!r} is missing before {self._next or 'its end'!r}; write {form}")
        self._at += 1

    # --- behaviours

    def behaviour_alone(self) -> Behaviour:
        behaviour = self._when(self._sum())
        if self._next:
            self._fail(f"{self._next!r} is too much; join behaviours as A + B")
        return behaviour

    def _sum(self) -> Behaviour:
        parts = [self._one()]
        while self._next == "+":
            self._at += 1
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else c.Together(*parts)

    def _one(self) -> Behaviour:
        name = self._take()
        if name in COMBINATORS:
            self._depth += 1
            if self._depth > _DEPTH_MAX:
                self._fail(f"more than {_DEPTH_MAX} combinators in one another")
            self._expect("(", COMBINATORS[name])
            behaviour = self._combined(name)
            self._expect(")", COMBINATORS[name])
            self._depth -= 1
            return behaviour
        entry = BY_NAME.get(name)
        if entry is None:
            known = ", ".join((*BY_NAME, *COMBINATORS))
            self._fail(f"{name!r} is no behaviour; there are {known}" if name else f"one is missing; there are {known}")
        settings = self._settings()
        if not settings.keys() <= entry.defaults.keys():
            self._fail(f"{', '.join(settings)} is no setting of {name}; write {entry.usage}")
        return entry.make(**settings)

    def _settings(self) -> dict[str, int]:
        opened = self._next
        if opened not in ("(", ":"):
            return {}
        self._at += 1
        settings: dict[str, int] = {}
        while self._at + 1 < len(self._tokens) and self._tokens[self._at + 1] == "=":
            key, _, value = self._take(), self._take(), self._take()
            if not value.isdecimal() or len(value) > 18:
                self._fail(f"{key}={value} is not key=integer")
            settings[key] = int(value)
            if self._next != "," or self._tokens[self._at + 2 : self._at + 3] != ["="]:
                break
            self._at += 1
        if not settings:
            self._fail(f"key=integer is missing after {opened!r}")
        if opened == "(":
            self._expect(")", "NAME(key=integer, ...)")
        return settings

    def _combined(self, name: str) -> Behaviour:
        form = COMBINATORS[name]
        make: Callable[[Behaviour], Behaviour]
        match name:
            case "on_signal":
                return c.on_signal(self._sum())
            case "then":
                first = self._sum()
                self._expect(",", form)
                delay_ns = self._time(form)
                self._expect(",", form)
                return c.then(first, delay_ns, self._sum())
            case "after":
                delay_ns = self._time(form)
                make = lambda inner: c.after(delay_ns, inner)  # noqa: E731 - one line each
            case "until":
                delay_ns = self._time(form)
                make = lambda inner: c.until(delay_ns, inner)  # noqa: E731
            case "in_view":
                views = self._views(form)
                make = lambda inner: c.in_view(views, inner)  # noqa: E731
            case "only_to":
                targets, clients = self._targets(form)
                make = lambda inner: c.only_to(targets, inner, clients=clients)  # noqa: E731
            case _:
                chance = self._chance(form)
                make = lambda inner: c.with_probability(chance, inner)  # noqa: E731
        self._expect(",", form)
        return make(self._sum())

    # --- arguments

    def _time(self, form: str) -> int:
        text = self._take()
        unit = MS if text.endswith("ms") else SECOND
        number = text.removesuffix("ms").removesuffix("s")
        if number == text or not number[:1].isdecimal():
            self._fail(f"{text!r} is no TIME such as 2s, 0.5s or 300ms; write {form}")
        return int(float(number) * unit)

    def _chance(self, form: str) -> float:
        text = self._take()
        try:
            chance = float(text)
        except ValueError:
            chance = math.nan
        if not 0 < chance <= 1:
            self._fail(f"{text!r} is no probability above 0 and up to 1; write {form}")
        return chance

    def _number(self, form: str) -> int:
        text = self._take()
        if not text.isdecimal() or len(text) > 19:
            self._fail(f"{text!r} is no number; write {form}")
        return int(text)

    def _views(self, form: str) -> tuple[range, ...]:
        views = [self._view_range(form)]
        while self._next == "|":
            self._at += 1
            views.append(self._view_range(form))
        return tuple(views)

    def _view_range(self, form: str) -> range:
        first = last = self._number(form)
        if self._next == "..":
            self._at += 1
            last = self._number(form) if self._next.isdecimal() else 1 << 64
        return range(first, last + 1)

    def _targets(self, form: str) -> tuple[Callable[[BehaviourContext], list[int]], bool]:
        words: set[str] = set()
        replicas: set[int] = set()
        while True:
            if self._next in ("f", "half", "clients"):
                words.add(self._take())
            else:
                replicas.add(self._number(form))
            if self._next != "|":
                break
            self._at += 1

        def targets(context: BehaviourContext) -> list[int]:
            named = [replica for replica in context.others if replica in replicas]
            last_f = context.others[len(context.others) - context.f :] if "f" in words else []
            return [*named, *last_f, *(context.second_half if "half" in words else [])]

        return targets, "clients" in words

    # --- the postfix that says when

    def _when(self, behaviour: Behaviour) -> Behaviour:
        if self._next != "@":
            return behaviour
        self._at += 1
        form = "@signal, @after=SECONDS, @8s or @8s..12s"
        if self._next == "signal":
            self._at += 1
            return c.on_signal(behaviour)
        if self._next == "after":
            self._at += 1
            self._expect("=", form)
            try:
                return c.after(int(float(self._take()) * SECOND), behaviour)
            except ValueError:
                self._fail(f"no number of seconds after @after=; write {form}")
        begins_ns = self._time(form)
        if self._next == "..":
            self._at += 1
            ends_ns = self._time(form)
            if ends_ns <= begins_ns:
                self._fail(f"it ends before it begins; write {form}")
            behaviour = c.until(ends_ns - begins_ns, behaviour)
        return c.after(begins_ns, behaviour)
