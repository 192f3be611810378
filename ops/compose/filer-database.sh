#!/bin/sh
# Run once by PostgreSQL's image when the database is new: a role and a database of the filer's own.
set -eu
psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --set password="$(cat /run/secrets/filer.password)" <<'SQL'
CREATE ROLE filer LOGIN PASSWORD :'password';
CREATE DATABASE filer OWNER filer;
SQL
