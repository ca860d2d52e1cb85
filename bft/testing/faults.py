"""The faults of a run: drawn from its seed when it starts, ended by `heal`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from bft.testing.amnesia import Amnesia
from bft.testing.disk import DiskCopy
from bft.testing.hosts import Host
from bft.testing.network import Address, Network
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND, Scheduler
from bft.testing.twins import Groups

Note = Callable[[str], None]


class Weather:
    """Which kinds of faults are at work."""

    def __init__(self) -> None:
        self._active: Counter[str] = Counter()
        self.now = "calm"

    def begin(self, kind: str) -> None:
        self._active[kind] += 1
        self._name()

    def end(self, kind: str) -> None:
        self._active[kind] -= 1
        self._name()

    def clear(self) -> None:
        self._active.clear()
        self.now = "healed"

    def _name(self) -> None:
        kinds = sorted(kind for kind, count in self._active.items() if count > 0)
        self.now = " and ".join(kinds) if 0 < len(kinds) < 3 else ("many" if kinds else "calm")


class Faults:
    """Schedules partitions, crashes, pauses and clock steps inside the fault phase."""

    def __init__(
        self,
        options: Options,
        scheduler: Scheduler,
        network: Network,
        hosts: Sequence[Host],
        amnesia: Amnesia,
        note: Note,
    ) -> None:
        self._options = options
        self._scheduler = scheduler
        self._random = random.Random(f"faults {options.seed}")  # of the fault that strikes now, see `_strike`
        self._kind = ""
        self._network = network
        self._hosts = hosts
        self._amnesia = amnesia
        self._note = note
        self._healed = False
        self.weather = Weather()

    def schedule(self) -> None:
        options = self._options
        kinds = (
            ("partition", options.partitions, self._partition),
            ("asymmetric", options.asymmetric_cuts, self._cut_one_way),
            ("crash", options.crashes, self._crash),
            ("pause", options.pauses, self._pause),
            ("clock", options.clock_steps, self._step_clock),
            ("lost-disk", options.lost_disks, self._lose_disk),
            ("rollback", options.rollbacks, self._copy_disk),
        )
        for kind, count, strike in kinds:
            for index in range(count):
                if (name := f"{kind} {index}") not in options.omitted:
                    chance = random.Random(f"{name} of {options.seed}")
                    self._scheduler.at(chance.randrange(options.fault_phase_ns), self._strike, kind, chance, strike)
        begins_ns = 0
        for length_ns, groups in options.rounds:
            self._scheduler.at(
                begins_ns, self._strike, "twins", self._random, partial(self._begin_round, groups, length_ns)
            )
            begins_ns += length_ns
        for replica, begin_ns, end_ns in options.cut_off:
            links = [link for other in range(len(self._hosts)) for link in ((replica, other), (other, replica))]
            self._scheduler.at(begin_ns, self._network.cut, links)
            self._scheduler.at(end_ns, self._network.mend, links)
        for replica in options.crash_stop:
            self._scheduler.at(self._some_time(), self._stop_for_good, self._hosts[replica])

    def heal(self) -> None:
        """From now on: a network that delivers, and every replica that did not stop for good is up."""
        self._healed = True
        self._network.heal()
        self.weather.clear()
        self._note("heal")
        for host in self._hosts:
            host.resume()
            host.restart()

    def _some_time(self) -> int:
        return self._random.randrange(self._options.fault_phase_ns)

    def _strike(self, kind: str, chance: random.Random, strike: Callable[[], None]) -> None:
        """Every fault has chances of its own, so that without one the others stay what they are."""
        self._random, self._kind = chance, kind
        strike()

    def _while_faulty(self, delay_ns: int, call: Callable[..., None], *args: object) -> None:
        chance, kind = self._random, self._kind
        self.weather.begin(kind)

        def unless_healed() -> None:
            if not self._healed:
                self.weather.end(kind)
                self._random, self._kind = chance, kind
                call(*args)

        self._scheduler.after(delay_ns, unless_healed)

    def _victim(self) -> Host:
        """Any replica, half of the time the primary of some view in use."""
        if self._random.random() < 0.5:
            return self._random.choice(self._hosts[: self._options.n])
        views = [host.core.view for host in self._hosts if host.core is not None]
        return self._hosts[max(views) % self._options.n] if views else self._hosts[0]

    def _partition(self) -> None:
        if self._healed:
            return
        n = self._options.n
        one = {self._victim().id, *self._random.sample(range(n), self._random.randrange(n // 2 + 1))}
        links: list[tuple[Address, Address]] = []
        for a in one:
            for b in set(range(n)) - one:
                links += [(a, b), (b, a)]
        self._cut(sorted(links), f"partition {sorted(one)} from the rest")

    def _cut_one_way(self) -> None:
        if self._healed or len(self._hosts) == 1:
            return
        victim = self._victim().id
        others = [replica for replica in range(self._options.n) if replica != victim]
        reached = self._random.sample(others, self._random.randint(1, len(others)))
        if self._random.random() < 0.5:
            self._cut(
                [(victim, other) for other in sorted(reached)], f"nothing from {victim} reaches {sorted(reached)}"
            )
        else:
            self._cut([(other, victim) for other in sorted(reached)], f"nothing of {sorted(reached)} reaches {victim}")

    def _cut(self, links: list[tuple[Address, Address]], what: str) -> None:
        self._note(what)
        self._network.cut(links)
        self._while_faulty(self._random.randrange(100 * MS, 4 * SECOND), self._mend, links)

    def _begin_round(self, groups: Groups, length_ns: int) -> None:
        instances = sorted({instance for group in groups for instance in group})
        links = [(a, b) for a in instances for b in instances if not any(a in g and b in g for g in groups)]
        self._note(f"round: {' | '.join(str(list(group)) for group in groups)}")
        self._network.cut(links)
        self._while_faulty(length_ns, self._mend, links)

    def _mend(self, links: list[tuple[Address, Address]]) -> None:
        self._note(f"mend {len(links)} links")
        self._network.mend(links)

    def _crash(self) -> None:
        host = self._victim()
        if self._healed or not host.up:
            return
        self._note(f"crash {host.id}")
        host.crash()
        self._while_faulty(self._random.randrange(1 * MS, 3 * SECOND), self._restart, host)

    def _restart(self, host: Host) -> None:
        self._note(f"restart {host.id}")
        host.restart()

    def _may_forget(self, host: Host) -> bool:
        """Whether it is correct, and with it no more than f replicas are faulty now."""
        faulty = self._amnesia.victims(self._hosts)
        return (
            not self._healed
            and host.correct
            and host.up
            and host.id not in self._options.crash_stop
            and host.id not in faulty
            and len(faulty) < self._options.spare
        )

    def _lose_disk(self) -> None:
        host = self._victim()
        if not self._may_forget(host):
            return
        self._note(f"disk of {host.id} is lost")
        host.crash()
        host.disk.lose()
        self._amnesia.strike(host, told=True)
        self._while_faulty(self._random.randrange(1 * MS, 2 * SECOND), self._restart, host)

    def _copy_disk(self) -> None:
        host = self._victim()
        self._while_faulty(
            self._random.randrange(1 * MS, 3 * SECOND),
            self._roll_back,
            host,
            host.disk.copy(),
            self._amnesia.written(host),
        )

    def _roll_back(self, host: Host, copy: DiskCopy, written: int) -> None:
        if not self._may_forget(host):
            return
        self._note(f"disk of {host.id} is rolled back")
        host.crash()
        if host.disk.roll_back(copy):
            self._amnesia.strike(host, told=False, since=written)
        else:
            self._amnesia.set_back(host)
        self._while_faulty(self._random.randrange(1 * MS, 2 * SECOND), self._restart, host)

    def _stop_for_good(self, host: Host) -> None:
        self._note(f"{host.id} stops for good")
        host.stop()

    def _pause(self) -> None:
        host = self._victim()
        if self._healed or not host.up:
            return
        self._note(f"pause {host.id}")
        host.pause()
        self._while_faulty(self._random.randrange(50 * MS, 5 * SECOND), self._resume, host)

    def _resume(self, host: Host) -> None:
        self._note(f"resume {host.id}")
        host.resume()

    def _step_clock(self) -> None:
        host = self._victim()
        step = self._random.randrange(-3 * SECOND, 3 * SECOND)
        self._note(f"clock of {host.id} steps by {step}")
        host.clock.wall_offset_ns += step
