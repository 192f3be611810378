"""Blobs as objects in one bucket of MinIO, SeaweedFS, AWS or any other S3 server that honours ``If-None-Match: *``.

All calls to the ``minio`` client stand here. Its ``put_object`` cannot send that header (given as metadata it is
stored, and the object overwritten), so a blob goes out as a presigned PUT through the same pool of connections.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError
from urllib3.util import Retry, Timeout

from vault.errors import Exists, Misconfigured, Missing, StoreFull, StoreUnavailable
from vault.storage.protocol import Blob, BlobInfo, check_folder, check_name, check_prefix

__all__ = ["MinioStore"]

_PRESIGNED_FOR = timedelta(minutes=15)
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}
_REFUSED = {
    "AccessDenied": "the server refuses these keys; compare DOCVAULT_MINIO_ACCESS_KEY, DOCVAULT_MINIO_SECRET_KEY and "
    "the key's policy: it needs to get, put, delete and list objects",
    "AuthorizationHeaderMalformed": "the server expects another region",
    "InvalidAccessKeyId": "the server does not know DOCVAULT_MINIO_ACCESS_KEY",
    "NoSuchBucket": "there is no such bucket; make it, or correct DOCVAULT_MINIO_BUCKET",
    "RequestTimeTooSkewed": "the clocks of this machine and of the server differ by more than 15 minutes",
    "SignatureDoesNotMatch": "DOCVAULT_MINIO_SECRET_KEY is not the secret of DOCVAULT_MINIO_ACCESS_KEY",
}
_CODE = re.compile(rb"<Code>\s*(\w+)\s*</Code>")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _NoPresignedAddress(logging.Filter):
    """Cut the query off the addresses that urllib3 logs: that of a presigned PUT is as good as a key."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.partition("?")[0] if isinstance(arg, str) and "X-Amz-" in arg else arg
                for arg in record.args
            )
        return True


for _name in ("urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_NoPresignedAddress())


class _Refused(StoreUnavailable):
    """The server answers, but to us it says no: for a visitor the store is away, for ``check`` it is configuration."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.code = code


class MinioBlob:
    """One GET's answer while it is read; a connection that breaks off raises, it never looks like an end."""

    def __init__(self, response: urllib3.BaseHTTPResponse | None, size: int, length: int) -> None:
        self._response = response
        self._left = length
        self.size = size

    def read(self, n: int = -1, /) -> bytes:
        wanted = self._left if n < 0 else min(n, self._left)
        if wanted == 0 or self._response is None:
            return b""
        with _translated():
            data = self._response.read(wanted, decode_content=False)
            while len(data) < wanted and (
                more := self._response.read(wanted - len(data), decode_content=False)
            ):
                data += more
        if len(data) < wanted:
            raise StoreUnavailable("The blob store broke off in the middle of a blob.")
        self._left -= wanted
        return data

    def close(self) -> None:
        """Give the connection back to the pool; one with unread bytes on it is closed instead."""
        response, self._response = self._response, None
        if response is not None:
            response.close()
            response.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MinioStore:
    """A ``BlobStore`` in a bucket, which must exist.

    ``endpoint`` is ``host:port`` with no scheme. Times are in seconds; a server that is down is given up within a
    second, one that hangs after ``read_timeout`` and one more try. The client is made on first use in each process,
    because its connections must not be shared over a fork.
    """

    is_far = True

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        secure: bool = True,
        region: str | None = None,
        connect_timeout: float = 2.0,
        read_timeout: float = 20.0,
        connections: int = 32,
    ) -> None:
        self._endpoint = endpoint
        self._access_key = access_key
        self._secret_key = secret_key
        self._bucket = bucket
        self._secure = secure
        self._region = region
        self._timeout = Timeout(connect=connect_timeout, read=read_timeout)
        self._connections = connections
        self._made: tuple[int, Minio, urllib3.PoolManager] | None = None
        self._making = threading.Lock()
        os.register_at_fork(after_in_child=self._forget_lock)

    def __repr__(self) -> str:
        return f"MinioStore({self._endpoint!r}, bucket={self._bucket!r})"

    def put_new(
        self, name: str, data: bytes | bytearray | memoryview, ready: Callable[[], object] | None = None
    ) -> None:
        check_name(name)
        if ready is not None:
            ready()
        for pause in (0.05, 0.2, None):
            status, code = self._put(name, data)
            if status in {200, 201, 204}:
                return
            if status == 412:
                raise Exists()
            if status != 409 or pause is None:
                raise _error_for(code, status)
            time.sleep(
                pause
            )  # 409 is "somebody is just writing or deleting this name: ask again" (S3, PutObject).

    def get(self, name: str, start: int = 0, length: int | None = None) -> Blob:
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range begins at 0 or later and is not negative")
        check_name(name)
        if length == 0:
            return MinioBlob(None, self.size(name), 0)
        ranged = start > 0 or length is not None
        client, _ = self._client()
        try:
            with _translated():
                response = client.get_object(
                    bucket_name=self._bucket, object_name=name, offset=start, length=length or 0
                )
        except _InvalidRange:
            return MinioBlob(None, self.size(name), 0)
        try:
            size, held = _extent(response, ranged)
            if held != max(0, (size if length is None else min(size, start + length)) - start):
                raise StoreUnavailable("The blob store answered with another range than was asked for.")
        except BaseException:
            response.close()
            raise
        return MinioBlob(response, size, held)

    def size(self, name: str) -> int:
        check_name(name)
        client, _ = self._client()
        try:
            with _translated():
                size = client.stat_object(bucket_name=self._bucket, object_name=name).size
        except Missing:
            # A HEAD has no body: its 404 may be about the bucket, or from a proxy. A listing says which.
            if any(info.name == name for info in self.list(name)):
                raise StoreUnavailable("The blob store denies a blob that it lists.") from None
            raise
        if size is None:
            raise StoreUnavailable("The blob store does not tell the size of a blob.")
        return size

    def delete(self, names: Iterable[str]) -> None:
        condemned = [DeleteObject(check_name(name)) for name in names]
        client, _ = self._client()
        with _translated():
            failures = list(client.remove_objects(bucket_name=self._bucket, delete_object_list=condemned))
        if any(failure.code != "NoSuchKey" for failure in failures):
            raise StoreUnavailable(
                f"The blob store did not delete {len(failures)} blobs: {failures[0].code}."
            )

    def quarantine(self, names: Iterable[str], folder: str) -> None:
        client, _ = self._client()
        for name in names:
            target = f"quarantine/{check_folder(folder)}/{check_name(name)}"
            try:
                with _translated():
                    client.copy_object(
                        bucket_name=self._bucket, object_name=target, source=CopySource(self._bucket, name)
                    )
            except Missing:
                continue
            self.delete([name])

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        client, _ = self._client()
        with _translated():
            for found in client.list_objects(
                bucket_name=self._bucket, prefix=check_prefix(prefix), recursive=True
            ):
                if (info := _info(found.object_name, found.size, found.last_modified)) is not None:
                    yield info

    def check(self) -> None:
        """Put a probe twice: a store that takes the second one would let a blob be overwritten, and is refused."""
        probe = f"{os.urandom(16).hex()}/ended"
        try:
            self._check(probe)
        except _Refused as error:
            reason = _REFUSED.get(error.code, error.code)
            raise Misconfigured(
                f"The bucket {self._bucket} at {self._endpoint} cannot be used: {reason}."
            ) from error
        except ValueError as error:
            raise Misconfigured(
                f"The blob store's address is not usable: {error}. DOCVAULT_MINIO_ENDPOINT is host:port without "
                "http://, and a bucket's name has 3 to 63 lower-case letters, digits and hyphens."
            ) from error
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"The blob store at {self._endpoint} does not answer ({_plain_cause(error)}). Start it, or correct "
                "DOCVAULT_MINIO_ENDPOINT and DOCVAULT_MINIO_SECURE."
            ) from error

    def _check(self, probe: str) -> None:
        self.put_new(probe, b"probe")
        try:
            try:
                self.put_new(probe, b"other")
                overwrites = True
            except Exists:
                overwrites = False
            with self.get(probe) as blob:
                same = blob.read() == b"probe"
            if overwrites or not same or not any(info.name == probe for info in self.list(probe)):
                raise Misconfigured(
                    f"The blob store at {self._endpoint} ignores `If-None-Match: *` and would overwrite blobs. "
                    "Use one that honours it: MinIO, SeaweedFS and AWS do."
                )
        finally:
            self.delete([probe])

    def _put(self, name: str, data: bytes | bytearray | memoryview) -> tuple[int, str]:
        """Send one PUT; return its status, and S3's code where the answer has one.

        The presigned address is a secret for as long as it is valid: no log line and no chained error may hold it.
        """
        client, pool = self._client()
        with _translated():
            url = client.presigned_put_object(
                bucket_name=self._bucket, object_name=name, expires=_PRESIGNED_FOR
            )
        failure: BaseException
        try:
            response = pool.urlopen(
                "PUT",
                url,
                redirect=False,
                body=memoryview(data),
                headers={"If-None-Match": "*", "Content-Type": "application/octet-stream"},
            )
        except LocationValueError:
            raise
        except MaxRetryError as error:
            failure = error.reason or StoreUnavailable("too many tries")
        except (HTTPError, OSError) as error:
            failure = StoreUnavailable(type(error).__name__)
        else:
            found = _CODE.search(response.data)
            return response.status, found[1].decode() if found else ""
        raise StoreUnavailable() from failure

    def _client(self) -> tuple[Minio, urllib3.PoolManager]:
        made = self._made
        if made is None or made[0] != os.getpid():
            with self._making:
                made = self._made
                if made is None or made[0] != os.getpid():
                    made = self._made = (os.getpid(), *self._make())
        return made[1], made[2]

    def _make(self) -> tuple[Minio, urllib3.PoolManager]:
        pool = urllib3.PoolManager(
            maxsize=self._connections,
            timeout=self._timeout,
            ssl_context=ssl.create_default_context() if self._secure else None,
            retries=Retry(
                total=3,
                connect=2,
                read=1,
                status=2,
                redirect=0,
                backoff_factor=0.1,
                backoff_jitter=0.1,
                allowed_methods=None,  # every call here can be repeated: blobs are created once and never changed
                status_forcelist=(500, 502, 503, 504),
                raise_on_status=False,
                respect_retry_after_header=False,
            ),
        )
        client = Minio(
            endpoint=self._endpoint,
            access_key=self._access_key,
            secret_key=self._secret_key,
            secure=self._secure,
            region=self._region,
            http_client=pool,
        )
        return client, pool

    def _forget_lock(self) -> None:
        self._making = threading.Lock()


class _InvalidRange(Exception):
    """The range begins past the end of the blob."""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what client and pool raise into the one family of errors; the client lets urllib3's own through."""
    try:
        yield
    except S3Error as error:
        if error.code == "InvalidRange":
            raise _InvalidRange from error
        raise _error_for(error.code or "", error.response.status) from error
    except LocationValueError:
        raise  # a ValueError like the client's own: the address is wrong, which only check() can meet
    except (MinioException, HTTPError, OSError) as error:
        raise StoreUnavailable() from error


def _error_for(code: str, status: int) -> Exception:
    if code in {"NoSuchKey", "NoSuchObject"}:
        return Missing()
    if code in _FULL or status == 507:
        return StoreFull()
    if code in _REFUSED or status in {401, 403}:
        return _Refused(code if code in _REFUSED else "AccessDenied")
    return StoreUnavailable(f"The blob store answered {status} {code}.".replace(" .", "."))


def _extent(response: urllib3.BaseHTTPResponse, ranged: bool) -> tuple[int, int]:
    """Return the whole blob's size, and how many bytes this answer holds; raises when the range was ignored."""
    try:
        held = int(response.headers["Content-Length"])
        if not ranged:
            return held, held
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status == 206 and found is not None and int(found[2]) - int(found[1]) + 1 == held:
            return int(found[3]), held
    except (KeyError, ValueError):
        pass
    raise StoreUnavailable("The blob store's answer does not say what part of the blob it is.")


def _info(name: str | None, size: int | None, modified_at: object) -> BlobInfo | None:
    try:
        check_name(name or "")
    except ValueError:
        return None
    if size is None or not isinstance(modified_at, datetime):
        raise StoreUnavailable("The blob store lists a blob without its size or time.")
    return BlobInfo(name or "", size, modified_at.astimezone(UTC))


def _plain_cause(error: BaseException) -> str:
    """Name the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error.code or "S3Error" if isinstance(error, S3Error) else type(error).__name__
