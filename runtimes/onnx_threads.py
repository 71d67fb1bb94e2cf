"""The threads that execute batches too long for the event loop: one set per process, shared by all models.

A hop to a thread and back costs about 50 us of CPU (loadtests), so it is one queue entry out and one
`call_soon_threadsafe` back per batch. Nothing here takes a lock that the loop could wait on.
"""

from __future__ import annotations

import asyncio
import threading
from queue import SimpleQueue
from typing import Protocol

from runtimes.base import Done, ExecuteResult, ExecutionFailed


class Work(Protocol):
    """What a job does: `execute` on a dispatcher thread (never raises), then `delivered` on the loop."""

    def execute(self) -> ExecuteResult:
        """Do the work."""
        ...

    def delivered(self) -> None:
        """Note on the loop that the job is over, before its result is handed on."""
        ...


class Job:
    """One batch on its way through a thread and back to the loop it came from."""

    __slots__ = ("_done", "_loop", "_ticket", "_work")

    def __init__(self, work: Work, done: Done, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._done = done
        self._loop = loop
        # Who gets the ticket decides the job's fate: a thread (runs it) or `cancel` (drops it). Never waited on.
        self._ticket = threading.Lock()

    def run(self) -> None:
        """Execute and send the result back; quietly nothing where it was cancelled or the loop has closed."""
        if not self._ticket.acquire(blocking=False):
            return
        result = self._work.execute()
        try:
            self._loop.call_soon_threadsafe(self._deliver, result)
        except RuntimeError:  # the loop closed meanwhile: nobody is left to tell
            return

    def cancel(self) -> None:
        """Drop the job if no thread has taken it yet; a running one finishes. Call on the loop."""
        if self._ticket.acquire(blocking=False):
            # Not at once: the caller may be in the middle of its own bookkeeping.
            self._loop.call_soon(self._deliver, ExecutionFailed("cancelled"))

    def _deliver(self, result: ExecuteResult) -> None:
        self._work.delivered()
        self._done(result)


class Dispatchers:
    """`threads` threads on one queue, started with the first model."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._started: list[threading.Thread] = []
        self._starting = threading.Lock()  # held by loading threads only, never by the loop

    def start(self) -> None:
        """Start the threads unless they run. Idempotent."""
        with self._starting:
            while len(self._started) < self.threads:
                thread = threading.Thread(target=self._work, name=f"onnx-{len(self._started)}", daemon=True)
                self._started.append(thread)
                thread.start()

    def put(self, job: Job) -> None:
        """Queue a job. Never blocks."""
        self._queue.put(job)

    def close(self) -> None:
        """Let queued jobs finish, then stop the threads. Idempotent."""
        with self._starting:
            for _ in self._started:
                self._queue.put(None)
            for thread in self._started:
                thread.join()
            self._started.clear()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
            del job  # else its tensors live on until the next job
