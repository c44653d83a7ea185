# The test of `skaffold verify`: the one of `helm test`, in an image of its own.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
COPY charts/twitter-clone/files/smoke.py /
USER 10001:10001
ENTRYPOINT ["python", "/smoke.py"]
