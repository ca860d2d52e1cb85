"""The `bft` command: finds the subcommand, and turns what goes wrong into one line and an exit code."""

import os
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from bft import __version__
from bft.errors import ApplicationError, BftError, ExitCode

_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

# name -> (module, attribute, what it does); modules are loaded when they are needed, so that help comes at once
_COMMANDS: Final = {
    "cluster": ("bft.cli.cluster", "cluster", "Make a cluster, start, watch and stop it."),
    "replica": ("bft.cli.replica", "replica", "Run one replica in the foreground."),
    "kv": ("bft.cli.kv", "kv", "Read and write the key-value service."),
    "call": ("bft.cli.call", "call", "Ask a service of your own."),
    "backup": ("bft.cli.backup", "backup", "Copy the certified state to a file, verify such a file."),
    "restore": ("bft.cli.backup", "restore", "Make a new cluster that begins with a backup."),
    "ca": ("bft.cli.ca", "ca", "Show the cluster's certificates, issue new ones."),
    "evidence": ("bft.cli.evidence", "evidence", "Proofs of misbehaviour: list, save, audit, verify."),
    "receipt": ("bft.cli.receipt", "receipt", "Proofs of what the cluster did: verify."),
    "doctor": ("bft.cli.doctor", "doctor", "Say why a cluster stalls."),
    "bench": ("bft.cli.bench", "bench", "Measure throughput and latency, also under attack."),
    "sim": ("bft.cli.sim", "sim", "Run the protocol in the deterministic simulator."),
}

_EPILOG: Final = """\b
Example:
  bft cluster init mycluster --replicas 4
  bft cluster up mycluster
  bft kv put greeting hello --cluster mycluster

\b
Exit codes:
  0  done                          5  the disk failed or is full
  1  carried out, and failed       6  a data directory is damaged or foreign
  2  the command makes no sense    7  the cluster, or too much of it, does not answer
  3  a setting is wrong            8  a proof does not hold
  4  file, port or permission      9  a replica's state is not the quorum's
  130  interrupted
"""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for `bft --help`, without loading what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bft")
def bft() -> None:
    """A replicated service that keeps its word while some of its replicas lie."""


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out a command line; the exit code.  Every foreseen failure is one line on stderr."""
    try:
        result: Any = bft.main(arguments, prog_name="bft", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return ExitCode.USAGE
    except click.ClickException as error:
        return _fail(_usage(error), ExitCode.USAGE)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", _INTERRUPTED)
    except BftError as error:
        code = f"{error.code}: " if isinstance(error, ApplicationError) else ""  # what a service promises
        return _fail(f"{code}{error}", error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has gone (`bft ... | head`): nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OSError as error:
        if error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror}", ExitCode.ENVIRONMENT)
    return result if isinstance(result, int) else ExitCode.OK


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    return message if context is None else f"{message} (see {context.command_path} --help)"


def _fail(text: str, code: int) -> int:
    click.echo(f"error: {' '.join(text.split())}", err=True)
    return code


if __name__ == "__main__":
    main()
