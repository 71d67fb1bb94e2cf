"""Answers leave in the order requests arrived, and nobody who is gone holds others back."""

from gateway.batching.order import ArrivalOrder
from gateway.core.errors import Code
from gateway.core.types import InferRequest, InferResponse


def entered(count):
    order = ArrivalOrder()
    requests = [InferRequest("m", id=str(number)) for number in range(count)]
    completed = []
    for request in requests:
        request.on_outcome.append(lambda done, outcome: completed.append((done.id, outcome)))
        order.enter(request)
    return order, requests, completed


def test_answers_wait_for_earlier_ones():
    order, (first, second, third), completed = entered(3)
    answers = [InferResponse({}) for _ in range(3)]
    order.settle(third, answers[2])
    order.settle(second, answers[1])
    assert completed == []
    order.settle(first, answers[0])
    assert completed == [("0", answers[0]), ("1", answers[1]), ("2", answers[2])]


def test_a_request_that_ended_otherwise_holds_nobody_back():
    order, (first, second), completed = entered(2)
    order.settle(second, InferResponse({}))
    first.fail(Code.CANCELLED, "gone")
    order.release()
    assert [name for name, _ in completed] == ["0", "1"]


def test_answer_to_a_request_that_left_is_not_kept_for_a_later_one():
    order, (first, second), completed = entered(2)
    first.fail(Code.CANCELLED, "gone")
    order.settle(second, InferResponse({}))  # both leave the queue
    stale = InferResponse({})
    order.settle(first, stale)  # its batch ends at last
    address = id(first)
    del first
    completed.clear()
    for _ in range(1000):  # a new request at the old one's address
        later = InferRequest("m")
        if id(later) == address:
            break
    order.enter(later)
    order.release()
    assert later.outcome is None


def test_answer_after_the_end_changes_nothing():
    order, (first,), completed = entered(1)
    first.fail(Code.DEADLINE, "late")
    order.settle(first, InferResponse({}))
    assert [outcome.code for _, outcome in completed] == [Code.DEADLINE]
