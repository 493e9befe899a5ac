# The command in an image: packages from the hashed lock, a user without rights, one volume for the ledger.
FROM python:3.13-slim AS build
WORKDIR /opt/decision-ledger
RUN python -m venv .venv
COPY requirements.lock ./
RUN .venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE decision_ledger.py ./
COPY ledger ./ledger
COPY ingest ./ingest
COPY issuer ./issuer
COPY detections ./detections
COPY dashboard ./dashboard
# The build tools come from the lock, so nothing unhashed is fetched here.
RUN .venv/bin/python -m pip install --no-cache-dir --no-index --no-build-isolation --no-deps --editable . \
    && .venv/bin/python -m compileall -q ledger ingest issuer detections dashboard decision_ledger.py

FROM python:3.13-slim
# keys/ is a volume of its own: the signing key never lies inside the ledger's folder.
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/decision-ledger decision-ledger \
    && install -d -o decision-ledger -g decision-ledger -m 0750 /var/lib/decision-ledger \
        /var/lib/decision-ledger/ledger /var/lib/decision-ledger/keys
COPY --from=build /opt/decision-ledger /opt/decision-ledger
ENV PATH=/opt/decision-ledger/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DECISION_LEDGER_URL=/var/lib/decision-ledger/ledger \
    DECISION_LEDGER_KEY=/var/lib/decision-ledger/keys/ledger.key \
    XDG_CONFIG_HOME=/var/lib/decision-ledger/keys/config
USER 10001
WORKDIR /var/lib/decision-ledger
VOLUME ["/var/lib/decision-ledger/ledger", "/var/lib/decision-ledger/keys"]
ENTRYPOINT ["decision-ledger"]
CMD ["--help"]
