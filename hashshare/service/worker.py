"""A thread for work that blocks, which may call back into the event loop that it serves.

A replica's transaction belongs to one thread, and takes an iterator of changes; the changes
come from the database, which belongs to the loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class _StoppedError(Exception):
    """Ends a job whose caller was cancelled."""


class Worker:
    """One thread, for one job at a time."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False

    def close(self) -> None:
        """End the thread once its job is done."""
        self._executor.shutdown(wait=False)

    async def run(self, job: Callable[[], T]) -> T:
        """Return what ``job`` returns, having run it in the thread.

        When the caller is cancelled, the job is stopped where it next calls the loop, and has
        ended before this raises: what it uses may then be closed.
        """
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        future = self._loop.run_in_executor(self._executor, job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._stopped = True
            await asyncio.wait([future])
            # Looks at the error, which is the consequence of stopping.
            future.exception()
            raise

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run ``coroutine`` in the loop and return its result. For the job, in the thread."""
        return self._begin(coroutine).result()

    def iterate(self, items: AsyncIterator[T]) -> Generator[T, None, None]:
        """Yield what ``items`` yields. For the job, in the thread.

        The next item is fetched while the job works on the one before, so that the iterator
        must be closed before what ``items`` reads from is.
        """
        end = object()

        async def fetch() -> T | object:
            return await anext(items, end)

        following = self._begin(fetch())
        try:
            while (item := following.result()) is not end:
                following = self._begin(fetch())
                yield item  # type: ignore[misc]  # the sentinel is excluded by the line above
        finally:
            wait([following])

    @asynccontextmanager
    async def entered(self, context: AbstractContextManager[T]) -> AsyncIterator[T]:
        """Enter and leave a context in the thread, where its jobs in between run too."""
        values: list[T] = []
        try:
            await self.run(lambda: values.append(context.__enter__()))
            yield values[0]
        except BaseException as error:
            given = error
            if values:
                leave = self.run(lambda: context.__exit__(type(given), given, given.__traceback__))
                await asyncio.shield(leave)
            raise
        await self.run(lambda: context.__exit__(None, None, None))

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._loop is None or self._stopped:
            coroutine.close()
            raise _StoppedError
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
