"""How many requests to expect together, learned from the batches before. Pure: told what happened, never looks.

Clients that were answered together tend to return together. Two uses: a dear call waits for the rows that are known
to come (CostModel.worth_waiting_ns), and a door that delivers requests one by one is given time to deliver them.
"""

from __future__ import annotations

import msgspec

from gateway.core.clock import NS_PER_MS

LONGEST_NS = 2 * NS_PER_MS  # 3 and 4 ms gained nothing more with 32 calls in flight (docs/decisions/0005)
_FIRST_SEARCH, _RAREST_SEARCH = 16, 1024  # batches from one search to the next


class Company(msgspec.Struct, gc=False):
    """What the batches that ended say of the next one. Owned by one batcher.

    A door that trickles is given time only until as many requests are here as came together before, so a lone client
    waits for nobody. Only a *search* waits for whoever may come, so that a crowd that has grown is noticed; each
    that finds nobody doubles the way to the next one. A crowd that shrinks is forgotten by an eighth a batch.
    """

    rows: int = 0  # of the batch that ended last
    requests: int = 0  # that may be expected together
    searching: bool = False
    _left: int = _FIRST_SEARCH  # batches before the next search
    _interval: int = _FIRST_SEARCH

    def ended(self, rows: int, requests: int) -> None:
        """Learn from a batch."""
        if requests > self.requests:
            self._interval = _FIRST_SEARCH
        elif self.searching:
            self._interval = min(self._interval * 2, _RAREST_SEARCH)
        self._left = (self._interval if self.searching else self._left) - 1
        self.searching = self._left <= 0
        self.rows = rows
        self.requests = max(requests, self.requests - 1 - (self.requests >> 3))

    def complete(self, requests: int) -> bool:
        """Tell whether all that are expected are here."""
        return requests >= self.requests and not self.searching

    def until_ns(self, requests: int, oldest_ns: int, deadline_ns: int = 0) -> int:
        """Until when `requests`, delivered one by one, should wait for more; 0 = no longer. Monotonic ns.

        Never into the last 2 ms before `deadline_ns`, the nearest of them (0 = none has one).
        """
        if self.complete(requests):
            return 0
        until_ns = oldest_ns + LONGEST_NS
        return min(until_ns, max(deadline_ns - LONGEST_NS, 0)) if deadline_ns else until_ns
