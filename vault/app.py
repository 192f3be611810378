"""Make the application: bind the extensions, register what answers, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.middleware.proxy_fix import ProxyFix

from vault import wiring
from vault.config import Settings, load_settings
from vault.crypto.purposes import MASTER_FLASK
from vault.crypto.randomness import new_secret
from vault.errors import Misconfigured, SchemaTooNew
from vault.extensions import csrf, db, login_manager
from vault.http import headers, identity, metrics, problems, readonly, receiving, transfers

MIGRATIONS = Path(__file__).parent / "migrations"


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application from ``settings``, or from the environment.

    Raises ``Misconfigured`` for what cannot work, with what to do. The schema is not touched here: ``docvault serve``
    migrates before the first request.
    """
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    master = wiring.make_master_keys(settings)
    app = Flask(__name__, static_folder="static", template_folder="templates")
    app.request_class = receiving.VaultRequest
    app.config.update(
        SECRET_KEY=master.derive(MASTER_FLASK),
        SECRET_KEY_FALLBACKS=[master.derive(MASTER_FLASK, key_id) for key_id in master.key_ids[1:]],
        WTF_CSRF_SECRET_KEY=[master.derive(MASTER_FLASK, key_id) for key_id in master.older_first],
        SQLALCHEMY_DATABASE_URI=settings.database,
        SQLALCHEMY_ENGINE_OPTIONS=wiring.engine_options(settings),
        MAX_CONTENT_LENGTH=2**22,
        MAX_FORM_MEMORY_SIZE=2**21,
        MAX_FORM_PARTS=1000,
        SESSION_COOKIE_NAME="__Host-docvault_form" if settings.secure else "docvault_form",
        SESSION_COOKIE_SECURE=settings.secure,
        SESSION_COOKIE_SAMESITE="Lax",
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_CHECK_DEFAULT=False,
        WTF_CSRF_SSL_STRICT=False,
    )
    if settings.proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.proxies, x_proto=settings.proxies, x_host=settings.proxies
        )
    app.extensions["docvault"] = wiring.Wiring(settings, master, wiring.make_store(settings))
    db.init_app(app)
    csrf.init_app(app)
    login_manager.init_app(app)
    with app.app_context():
        wiring.prepare_engine(db.engine)
    wiring.install_seals(app)
    app.before_request(_name_request)
    app.teardown_request(lambda error: structlog.contextvars.clear_contextvars())
    headers.register(app)
    metrics.register(app)
    identity.register(app)
    readonly.register(app)
    problems.register(app)
    transfers.register(app)
    _register_faces(app)
    return app


def _register_faces(app: Flask) -> None:
    from vault.api import api
    from vault.api.resumable import resumable
    from vault.http.health import health
    from vault.web import pages

    for blueprint in (pages, api, resumable, health, metrics.metrics):
        app.register_blueprint(blueprint)


def configure_logging(level: str) -> None:
    """Write every log line as one JSON object, with the request's id; lines hold ids, never names or secrets."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.set_name("docvault")
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if kept.name != "docvault"] + [handler]
    logging.getLogger("vault").setLevel(level)
    logging.getLogger("gunicorn").setLevel(level)


def _name_request() -> None:
    """Put the request's id on every log line that it causes."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request=wiring.request_id().hex())


def migrate_schema(app: Flask) -> None:
    """Bring the database's schema up to this release, one process at a time, and check the master key against it.

    Raises ``SchemaTooNew`` when a newer release has been here, ``Misconfigured`` when the database cannot be reached
    or the key is another vault's.
    """
    with _migrating(app) as upgrade:
        upgrade()
        wiring.check_master_key(wiring.services())


def make_empty_schema(app: Flask, revision: str) -> None:
    """Make the schema of a backup in a database that holds nothing; raises ``Misconfigured`` where it holds anything.

    The revision is that of the release that wrote the backup; ``migrate_schema`` follows when the rows are there.
    """
    with _migrating(app) as upgrade:
        wiring.services().restore.refuse_full()
        upgrade(revision=revision)


@contextmanager
def _migrating(app: Flask) -> Iterator[Callable[..., None]]:
    """Give what changes the schema, for one process at a time; what goes wrong is said in words for the operator."""
    # Imported here: a worker never migrates, and would carry twelve megabytes for it.
    from alembic.util import CommandError
    from flask_migrate import Migrate, upgrade

    Migrate(app, db, directory=str(MIGRATIONS), render_as_batch=True)
    try:
        with wiring.start_lock(app.extensions["docvault"].settings):
            yield upgrade
    except (CommandError, SystemExit) as error:
        raise SchemaTooNew(
            "The database or backup was written by a newer release of Document Vault. Install that release; "
            "nothing was touched."
        ) from error
    except OperationalError as error:
        raise Misconfigured(
            f"The database cannot be used: {error.orig}. Look at DOCVAULT_DATABASE_URL, and whether it runs."
        ) from error


def new_master_key() -> str:
    """Make a master key: 64 hexadecimal digits."""
    return new_secret().hex()
