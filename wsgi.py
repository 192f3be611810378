"""The WSGI entry point: ``gunicorn wsgi:app``; ``docvault serve`` does the same with the right settings."""

from vault.app import create_app

app = create_app()
