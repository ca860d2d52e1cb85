"""`bft ca`: the certificates of a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bft.cli.output import examples
from bft.errors import ConfigurationError

_DIRECTORY = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.group(epilog=examples("bft ca issue mycluster alice", "bft ca show mycluster"))
def ca() -> None:
    """Show the cluster's certificates, issue new ones."""


@ca.command(epilog=examples("bft ca show mycluster", "bft ca show mycluster --json"))
@_DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(directory: Path, as_json: bool) -> None:
    """List the certificates in DIR: the CA's, the replicas', the clients'."""
    from bft.cli.output import print_json, print_table, short

    found = list(_certificates(directory))
    if as_json:
        print_json(found)
        return
    columns = ("identity", "valid until", "SHA-256", "file")
    print_table(columns, [(c["identity"], c["not_after"], short(c["sha256"]), c["file"]) for c in found])


@ca.command(epilog=examples("bft ca issue mycluster alice", "bft ca issue mycluster ops --admin --days 90"))
@_DIRECTORY
@click.argument("name")
@click.option("--admin", is_flag=True, help="An administrator's instead of a client's.")
@click.option("--days", type=click.IntRange(1, 3650), default=825, show_default=True, help="How long it is valid.")
@click.option("--out", type=click.Path(path_type=Path), help="Directory to make. Default: DIR/clients/NAME.")
def issue(directory: Path, name: str, admin: bool, days: int, out: Path | None) -> None:
    """Make key and certificate of a client NAME, signed by the CA in DIR/ca.

    Whoever holds these two files, cluster.toml and ca.crt may use the cluster under this name.
    """
    from bft.cli.home import CA_DIRECTORY, CLIENTS, Home
    from bft.cli.provision import add_identity
    from crypto.ca import CertificateAuthority
    from crypto.certificates import Role, is_name

    home = Home.open(directory)
    if not is_name(name):
        raise click.UsageError(f'"{name}" can be no name: use 1 to 64 of A-Z a-z 0-9 . _ -')
    with _certificate_errors():
        authority = CertificateAuthority.load(directory / CA_DIRECTORY)
    if authority.cluster != home.config.cluster:
        raise ConfigurationError(f"the CA in {directory} is of cluster {authority.cluster}, not {home.config.cluster}")
    role = Role.ADMIN if admin else Role.CLIENT
    made = add_identity(out or directory / CLIENTS / name, authority, name, role, days=days)
    click.echo(f"{role} {name}: {made / 'client.crt'}, {made / 'client.key'}")


@contextmanager
def _certificate_errors() -> Iterator[None]:
    """Keys and certificates that cannot be used are wrong settings."""
    from crypto.certificates import InvalidCertificate
    from crypto.keys import InvalidKey

    try:
        yield
    except (InvalidKey, InvalidCertificate) as error:
        raise ConfigurationError(str(error)) from error


def _certificates(directory: Path) -> Iterator[dict[str, Any]]:
    """The CA's certificate first, then every other in the directory."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    from bft.cli.home import CA_FILE, CLIENTS, Home
    from crypto.certificates import Certificate, der_of_pem

    home = Home.open(directory)
    with _certificate_errors():
        authority = x509.load_der_x509_certificate(der_of_pem(home.config.ca.read_bytes()))
        yield {
            "identity": f"CA of {home.config.cluster}",
            "serial": f"{authority.serial_number:x}",
            "not_after": authority.not_valid_after_utc.isoformat(),
            "sha256": authority.fingerprint(hashes.SHA256()).hex(),
            "file": str(directory / CA_FILE),
        }
    for path in sorted((*directory.glob("replica-*/replica.crt"), *directory.glob(f"{CLIENTS}/*/client.crt"))):
        with _certificate_errors():
            certificate = Certificate.from_pem(path.read_bytes())
        yield {
            "identity": certificate.subject_identity.uri,
            "serial": f"{certificate.serial:x}",
            "not_after": datetime.fromtimestamp(certificate.not_after // 10**9, UTC).isoformat(),
            "sha256": certificate.fingerprint.hex(),
            "file": str(path),
        }
