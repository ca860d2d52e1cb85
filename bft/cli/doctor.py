"""`bft doctor`: why a cluster stalls."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bft.cli.output import examples
from bft.errors import ExitCode

if TYPE_CHECKING:
    from bft.cli.home import Home
    from bft.cli.observe import Observation


@click.command(epilog=examples("bft doctor mycluster", "bft doctor mycluster --json"))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(directory: Path, as_json: bool) -> int:
    """Say why the cluster in DIR stalls, or that it does not.

    Asks every replica twice, a second apart. Exits with 7 when the cluster makes no progress.
    """
    import time

    from bft.cli.home import Home
    from bft.cli.observe import judge, observe, stuck
    from bft.cli.output import print_json
    from bft.core.quorum import Quorums

    home = Home.open(directory)
    earlier = observe(home)
    time.sleep(1.0)
    observations = observe(home)
    verdict = judge(observations, Quorums.of(len(home.config.replicas)))
    findings = [*verdict.findings, *stuck(earlier, observations), *_last_words(home, observations)]
    if as_json:
        print_json(
            {
                "cluster": home.config.cluster,
                "progress": verdict.progress,
                "summary": verdict.summary,
                "findings": findings,
            }
        )
    else:
        click.echo(f"cluster {home.config.cluster} {verdict.summary}")
        for finding in findings:
            click.echo(f"  {finding}")
    return ExitCode.OK if verdict.progress else ExitCode.UNAVAILABLE


def _last_words(home: "Home", observations: "Sequence[Observation]") -> list[str]:
    """What replicas of this machine that do not answer wrote last."""
    from bft.cli.fleet import last_words
    from deploy import launcher

    found = []
    for observation in observations:
        directory = home.replica(observation.id)
        if observation.reachable or not directory.is_dir():
            continue
        last = last_words(launcher.tail(directory / launcher.LOG_FILE, 1))
        state = "runs" if launcher.find(directory) else "does not run"
        found.append(f"replica {observation.id} {state}" + (f"; the last line of its log: {last}" if last else ""))
    return found
