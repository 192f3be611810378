"""``compose.yaml`` and what belongs to it. No engine runs here: its programs run, with its words, on loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.nginx import COMPOSED, NAME, SETTINGS, adapted_for_compose, start_nginx
from tests.servers.plugin import need
from tests.servers.postgres import PostgresServer
from tests.servers.processes import ServerProcess
from tests.servers.vault import start_vault

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
APPS, VOLUMES = ("app1", "app2"), ("volume1", "volume2", "volume3", "volume4")
STORE = ("master", *VOLUMES, "filer", "s3")
PORTS = {
    "master": 9333,
    "volume1": 8080,
    "volume2": 8080,
    "volume3": 8080,
    "volume4": 8080,
    "filer": 18888,
    "s3": 8333,
}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SERVICES[request.param]


def prepare(folder: Path) -> Path:
    subprocess.run([ROOT / "ops" / "compose" / "prepare", folder], check=True, capture_output=True)
    return folder


# What the file says


def test_the_compose_tool_reads_it() -> None:
    command = [need("compose"), "--file", ROOT / "compose.yaml", "config", "--quiet"]
    without = {name: value for name, value in os.environ.items() if name != "DOCVAULT_NAME"}

    named = subprocess.run(
        command, env=without | {"DOCVAULT_NAME": NAME}, capture_output=True, text=True, check=False
    )
    assert named.returncode == 0, named.stderr
    unnamed = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
    assert unnamed.returncode != 0
    assert "the name that browsers type" in unnamed.stderr


def test_only_the_proxy_has_published_ports() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert not any("network_mode" in service for service in SERVICES.values())


def test_who_reaches_whom() -> None:
    inside = {name: set(service["networks"]) for name, service in SERVICES.items()}

    assert inside["proxy"] == {"front"}
    assert all(inside[app] == {"front", "data"} for app in APPS)
    assert inside["s3"] == inside["database"] == {"data", "store"}
    assert all(inside[name] == {"store"} for name in ("master", *VOLUMES, "filer", "bucket"))
    assert {name for name, network in COMPOSE["networks"].items() if network.get("internal")} == {
        "data",
        "store",
    }


@pytest.mark.requirement(24)
def test_no_secret_stands_in_the_file(service: dict[str, Any]) -> None:
    named = {name: str(value) for name, value in service.get("environment", {}).items()}
    for name, value in named.items():
        if re.search("PASSWORD|SECRET|KEY|TOKEN|DATABASE_URL", name):
            assert name.endswith("_FILE"), name
            assert value.startswith("/run/secrets/"), name
    assert "env_file" not in service
    assert not re.search(r"://\w*:\w+@", str(service)), "a password in an address"
    for given in service.get("secrets", []):
        source = given if isinstance(given, str) else given["source"]
        assert COMPOSE["secrets"][source] == {"file": f"./secrets/{source}"}


def test_nothing_has_more_rights_than_it_needs(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & set(service)
    for volume in service.get("volumes", []):
        source, _, how = volume.partition(":")
        assert source in COMPOSE["volumes"] or how.endswith(":ro"), volume


@pytest.mark.parametrize("name", [*APPS, "proxy"])
def test_what_handles_plaintext_can_write_it_nowhere(name: str) -> None:
    service = SERVICES[name]
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["memswap_limit"] == service["mem_limit"], "no swap"
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []))


def test_the_vaults_differ_in_nothing_that_counts() -> None:
    first, second = (dict(SERVICES[app], depends_on=None) for app in APPS)
    assert first == second
    assert first["environment"]["DOCVAULT_PROXIES"] == "1"
    assert first["environment"]["DOCVAULT_PUBLIC_URL"].startswith("https://")
    assert first["ulimits"]["core"] == 0


def test_each_chunk_lies_on_two_of_four_nodes() -> None:
    assert "-defaultReplication=001" in SERVICES["master"]["command"]
    assert {SERVICES[name]["volumes"][0] for name in VOLUMES} == {f"{name}:/store" for name in VOLUMES}
    assert "-fsync" in (ROOT / "ops" / "compose" / "bucket").read_text(encoding="utf-8")


def test_the_proxy_says_what_ops_nginx_conf_says() -> None:
    """Line by line inside of server and location, apart from addresses, names, certificates and logs."""
    own = re.compile(
        r"(listen|http2|server_name|ssl_certificate|ssl_certificate_key|access_log|error_log|server|return) "
    )

    def lines(path: Path) -> list[str]:
        text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        directives = [
            " ".join(each.split()) for each in re.findall(r"[^;{}]+[;{]", text[text.index("upstream") :])
        ]
        return [each for each in directives if not own.match(each)]

    assert lines(COMPOSED) == lines(SETTINGS)
    composed = COMPOSED.read_text(encoding="utf-8")
    assert re.findall(r"error_log .*", composed) == ["error_log /dev/stderr crit;"] * 3
    assert re.findall(r"access_log .*", composed) == ["access_log off;", "access_log /dev/stdout docvault;"]
    assert set(re.findall(r"_temp_path +(\S+)/", composed)) == {"/tmp"}


# Image and secrets


def test_the_image_has_no_root_and_no_secret() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if line.startswith("FROM")] == [
        "FROM python:3.13-slim AS build",
        "FROM python:3.13-slim",
    ]
    assert "USER 10001:10001" in lines
    assert any("/healthz" in line for line in lines)
    copied = [line for line in lines if line.startswith(("COPY", "ADD"))]
    assert copied == [
        "COPY requirements.lock ./",
        "COPY setup.cfg pyproject.toml README.md LICENSE ./",
        "COPY vault vault",
        "COPY --from=build /opt/docvault /opt/docvault",
    ]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in ignored if line[:1] in "*!" and line[:2] != "**"] == [
        "*", "!vault", "!setup.cfg", "!requirements.lock", "!pyproject.toml", "!README.md", "!LICENSE",
    ]  # fmt: skip
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    folder = prepare(tmp_path / "secrets")
    first = {path.name: path.read_text() for path in folder.iterdir()}
    prepare(folder)

    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    needed = {name for name in COMPOSE["secrets"] if not name.startswith("certificate.")}
    assert needed <= set(first)
    assert re.fullmatch("[0-9a-f]{64}", first["master.key"])
    drawn = [
        first[name]
        for name in ("master.key", "database.password", "filer.password", "s3.access", "s3.secret")
    ]
    assert len(set(drawn)) == 5
    assert not any(re.search("@[A-Z_]+@", text) for text in first.values())
    other = prepare(tmp_path / "other")
    assert not set(drawn) & {path.read_text() for path in other.iterdir()}


# The whole, without containers


class Addresses:
    """An address of 127/8 for each service, in place of the names that an engine would resolve."""

    def __init__(self) -> None:
        third = 10 + os.getpid() % 240
        self.of = {name: f"127.0.{third}.{number}" for number, name in enumerate(STORE, 2)}

    def in_words(self, words: list[str], name: str, **paths: Path) -> list[str]:
        """Put addresses for names and folders for mounts into a command of compose.yaml."""
        said = [word.replace("0.0.0.0", self.of[name]) for word in words]
        for other, address in self.of.items():
            said = [re.sub(rf"(?<==){other}(?=:|$)", address, word) for word in said]
        mounts = {"/store": paths["store"], "/run/secrets": paths["secrets"], "/tmp": paths["store"]}
        said = [
            re.sub(r"(?<==)(/store|/run/secrets|/tmp)", lambda at: str(mounts[at[1]]), word) for word in said
        ]
        return said


def make_filer_database(postgresql: PostgresServer, secrets: Path) -> None:
    """Run the script that PostgreSQL's image runs, and let the filer's settings point to that server."""
    script = (ROOT / "ops" / "compose" / "filer-database.sh").read_text(encoding="utf-8")
    host, port = "127.0.0.1", str(postgresql.port)
    user, password = re.findall(r"//(\w+):(\w+)@", postgresql.url)[0]
    connection = {
        "POSTGRES_USER": user,
        "PGHOST": host,
        "PGPORT": port,
        "PGPASSWORD": password,
        "PGDATABASE": "postgres",
    }
    binaries = f"{need('postgresql')}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-c", script.replace("/run/secrets", str(secrets))],
        env=os.environ | connection | {"PATH": binaries},
        check=True,
        capture_output=True,
    )
    settings = secrets / "filer.toml"
    text = settings.read_text().replace('hostname = "database"', f'hostname = "{host}"')
    settings.write_text(text.replace("port = 5432", f"port = {port}"))


def listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


@contextmanager
def running_store(addresses: Addresses, weed: Path, folder: Path, secrets: Path) -> Iterator[None]:
    """Run every program of the store with the command that compose.yaml gives it, then make the bucket."""
    with ExitStack() as ending:
        for name in STORE:
            own = folder / name
            own.mkdir()
            shutil.copy(secrets / "filer.toml", own)
            words = addresses.in_words(SERVICES[name]["command"], name, store=own, secrets=secrets)
            if name in {"filer", "s3"}:
                words.append(f"-localSocket={own}/socket")
            keyless = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
            process = ServerProcess([weed, *words], folder / f"{name}.log", environment=keyless, folder=own)
            ending.callback(process.kill)
        script = (ROOT / "ops" / "compose" / "bucket").read_text(encoding="utf-8")
        words = [part.replace("/usr/bin/weed", str(weed)) for part in re.split(r"(\s+)", script)]
        command = "".join(addresses.in_words(words, "s3", store=folder, secrets=secrets))

        process.wait_until(lambda: all(listens(addresses.of[name], port) for name, port in PORTS.items()))
        for _ in ("the first start", "each later one"):
            done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
            assert b'"fsync":  true' in done.stdout
        yield


@pytest.mark.s3
def test_the_whole_serves_without_containers(postgresql: PostgresServer, tmp_path: Path) -> None:
    """Proxy, two vaults, PostgreSQL, four volume servers: up by one vault, down by the other, both closed to write."""
    weed, nginx = need("seaweedfs"), need("nginx")
    secrets, addresses = prepare(tmp_path / "secrets"), Addresses()
    make_filer_database(postgresql, secrets)
    given = dict(SERVICES["app1"]["environment"], DOCVAULT_PUBLIC_URL=f"https://{NAME}")
    settings = {name.removeprefix("DOCVAULT_").lower(): value for name, value in given.items()}
    settings |= {
        "host": "127.0.0.1",
        "master_key_file": secrets / "master.key",
        "minio_endpoint": f"{addresses.of['s3']}:8333",
        "database_url": postgresql.new_database(),
    }
    for line in (secrets / "docvault.env").read_text().splitlines():
        name, _, value = line.removeprefix("DOCVAULT_").partition("=")
        settings.setdefault(name.lower(), value)
    with running_store(addresses, weed, tmp_path, secrets), ExitStack() as ending:
        ports = []
        for app in APPS:
            vault = start_vault(tmp_path / app, **settings)
            ending.callback(vault.stop)
            ports.append(vault.port)
            assert list(vault.instance.iterdir()) == [], "a vault writes nothing to its own disk"
        proxy = start_nginx(nginx, tmp_path / "proxy", lambda *where: adapted_for_compose(*where, ports))
        ending.callback(proxy.stop)
        before = proxy.temporary()
        token = vault.log_in("alice", vault.register("alice"))
        content = os.urandom(17_000_001)
        with proxy.client(token) as client:
            document = (
                client.post("/documents?name=plums.odt", content=content).raise_for_status().json()["id"]
            )
            for _ in APPS:
                assert client.get(f"/documents/{document}/content").content == content
        assert proxy.temporary() == before
        assert "plums" not in proxy.logged()
        held = [sum(path.stat().st_size for path in (tmp_path / name).glob("*.dat")) for name in VOLUMES]
        assert sum(held) >= 2 * len(content), "each chunk lies on two nodes"
        assert max(held) < sum(held) / 2 + len(content)
