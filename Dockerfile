# The server and the command line. The data live in the volume:
#   docker run -v coalition:/var/lib/hashshare hashshare init /var/lib/hashshare/coalition --coalition NAME
#   docker run -v coalition:/var/lib/hashshare -p 8443:8443 -p 8444:8444 hashshare
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
RUN python -m venv /opt/hashshare /opt/build
WORKDIR /source
# The lock alone, so that this layer is made again only when the lock changes.
COPY requirements.txt requirements-build.txt ./
RUN /opt/hashshare/bin/pip install --no-cache-dir --only-binary :all: --no-deps --require-hashes -r requirements.txt \
 && /opt/build/bin/pip install --no-cache-dir --only-binary :all: --no-deps --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY hashshare hashshare
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/hashshare/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/hashshare --create-home hashshare
COPY --from=build /opt/hashshare /opt/hashshare
ENV PATH=/opt/hashshare/bin:$PATH PYTHONUNBUFFERED=1
USER hashshare
WORKDIR /var/lib/hashshare
VOLUME /var/lib/hashshare
EXPOSE 8443 8444
# The enrolment listener asks for no client certificate; its name is not the loopback address.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import ssl, urllib.request as r; c = ssl.create_default_context(cafile='coalition/keys/ca-cert.pem'); c.check_hostname = False; r.urlopen('https://127.0.0.1:8444/health', timeout=4, context=c)"]
ENTRYPOINT ["hashshare"]
CMD ["serve", "/var/lib/hashshare/coalition"]
