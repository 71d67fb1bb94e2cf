"""The state table: every pair of state and event, and the lives that follow from it."""

import itertools

import pytest

from gateway.models.states import TRANSITIONS, Event, ModelState, after

ALLOWED = {
    (ModelState.UNKNOWN, Event.LOAD): ModelState.LOADING,
    (ModelState.UNAVAILABLE, Event.LOAD): ModelState.LOADING,
    (ModelState.LOADING, Event.LOADED): ModelState.READY,
    (ModelState.LOADING, Event.FAILED): ModelState.UNAVAILABLE,
    (ModelState.READY, Event.LOAD): ModelState.READY,
    (ModelState.READY, Event.LOADED): ModelState.READY,
    (ModelState.READY, Event.FAILED): ModelState.READY,
    (ModelState.READY, Event.UNLOAD): ModelState.UNLOADING,
    (ModelState.UNLOADING, Event.UNLOADED): ModelState.UNAVAILABLE,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ModelState, Event)))
def test_after_every_pair_is_allowed_or_refused(state, event):
    if (state, event) in ALLOWED:
        assert after(state, event) is ALLOWED[state, event]
    else:
        with pytest.raises(ValueError, match=f"'{event.value}' is impossible in state {state.value or 'UNKNOWN'}"):
            after(state, event)


def test_table_names_every_state_and_only_ready_serves():
    assert set(TRANSITIONS) == set(ModelState)
    entering = {state for following in TRANSITIONS.values() for state in following.values()}
    assert entering == set(ModelState) - {ModelState.UNKNOWN}
