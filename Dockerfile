# Document Vault as an image: no root, nothing to write to, no secret inside. compose.yaml runs it.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/docvault && /opt/docvault/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY vault vault
RUN /opt/docvault/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
ENV PATH=/opt/docvault/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/docvault /opt/docvault
# Settings may lie here as .env, mounted as a secret; nothing is written here.
WORKDIR /etc/docvault
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["docvault"]
CMD ["serve"]
