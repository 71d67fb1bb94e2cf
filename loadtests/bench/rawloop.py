"""The model's own limit: ONNX Runtime called in a loop, in process, by one or two threads.

One process per model, driven by JSON lines: {"batch", "callers", "intra", "seconds", "cpus"} in, a result line out.
Sessions are kept, so a sample costs its own seconds only. Usage: rawloop.py MODEL.onnx
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import onnxruntime as ort
from payload import make_inputs


class RawLoop:
    """Sessions of one model by intra-op thread count; spinning off, as in every server measured beside it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sessions: dict[int, Any] = {}

    def _session(self, intra: int) -> Any:
        if intra not in self._sessions:
            options = ort.SessionOptions()
            options.intra_op_num_threads = intra
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._sessions[intra] = ort.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
        return self._sessions[intra]

    def sample(self, batch: int, callers: int, intra: int, seconds: float) -> dict[str, float | list[float]]:
        """Run for `seconds`: rows done, CPU seconds of the process, rows a second, latencies of single calls in ms."""
        session = self._session(intra)
        feeds = make_inputs(session, batch, seed=1)
        for _ in range(3):
            session.run(None, feeds)
        latencies: list[list[float]] = [[] for _ in range(callers)]
        elapsed = [0.0] * callers

        def call(index: int) -> None:
            run, clock, out = session.run, time.perf_counter, latencies[index]
            began = start = clock()
            while start < began + seconds:
                run(None, feeds)
                end = clock()
                out.append((end - start) * 1e3)
                start = end
            elapsed[index] = start - began

        threads = [threading.Thread(target=call, args=(index,)) for index in range(callers)]
        cpu = time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cpu = time.process_time() - cpu
        # Callers end up to one call apart: rates are added, so that the last one's lonely call does not count as idle.
        rate = sum(len(out) * batch / spent for out, spent in zip(latencies, elapsed, strict=True))
        merged = sorted(value for out in latencies for value in out)
        thinned = merged[:: len(merged) // 999 + 1]
        return {"rows": len(merged) * batch, "cpu_s": cpu, "rows_per_s": rate, "latencies_ms": thinned}


def main() -> None:
    loop = RawLoop(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        os.sched_setaffinity(0, command.pop("cpus"))
        print(json.dumps(loop.sample(**command)), flush=True)


if __name__ == "__main__":
    main()
