"""What the doors may ask: readiness, metadata, statistics, and every request recorded once."""

import asyncio

import pytest

from gateway.core.errors import Code, GatewayError, invalid
from gateway.core.oip import model_config_pb2
from gateway.core.types import IndexEntry, ModelMetadata
from gateway.dataplane.admission import AdmissionSettings
from gateway.dataplane.service import InferenceService
from gateway.routing.router import Router, RouteTable


class Catalog:
    """Models as (name, version, state)."""

    def __init__(self, entries):
        self.entries = entries

    def metadata(self, name, version):
        return ModelMetadata(name, (version,), "echo", None)

    def config(self, name, version):
        return model_config_pb2.ModelConfig(name=name, backend=f"serves {version}")

    def index(self):
        return [IndexEntry(*entry) for entry in self.entries]


ENTRIES = (("m", "1", "READY"), ("m", "2", "READY"), ("m", "3", "LOADING"), ("soon", "1", "LOADING"), ("empty", "", ""))


@pytest.fixture
def records():
    return []


@pytest.fixture
async def service(version, records):
    made = []

    def make(entries=ENTRIES, required=(), stack=None, **settings):
        router = Router()
        known = {}
        for name, number, state in entries:
            known.setdefault(name, {})
            if state:
                known[name][number] = state
        options = {"stack": stack} if stack else {}
        ready = [version(model=n, version=v, **options) for n, v, state in entries if state == "READY"]
        router.replace(RouteTable.of(ready, known))
        made.append(
            InferenceService(
                router,
                Catalog(entries),
                AdmissionSettings(**settings),
                observers=[records.extend],
                required_models=required,
            )
        )
        made[-1].router = router
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_server_is_ready_once_started_and_until_it_drains(service):
    asked = service()
    assert asked.server_live()
    assert not asked.server_ready()
    asked.started = True
    assert asked.server_ready()
    asked.draining = True
    assert not asked.server_ready()
    assert asked.server_live()


@pytest.mark.parametrize(
    ("required", "ready"),
    [(["m"], True), (["soon"], False), (["m", "soon"], False), (["empty"], False), (["unheard of"], False)],
)
async def test_required_models_decide_readiness(service, required, ready):
    asked = service(required=required)
    asked.started = True
    assert asked.server_ready() is ready


@pytest.mark.parametrize(
    ("name", "number", "ready"), [("m", "", True), ("m", "1", True), ("m", "3", False), ("soon", "", False)]
)
async def test_model_is_ready_where_a_request_would_be_served(service, name, number, ready):
    asked = service()
    assert asked.model_ready(name, number) is ready
    asked.draining = True
    assert asked.model_ready(name, number) is False


@pytest.mark.parametrize(("name", "number", "code"), [("x", "", Code.NOT_FOUND), ("m", "8", Code.NOT_FOUND)])
@pytest.mark.parametrize("question", ["model_ready", "servable", "metadata", "config", "statistics"])
async def test_unknown_names_and_versions_are_errors_everywhere(service, question, name, number, code):
    with pytest.raises(GatewayError) as caught:
        getattr(service(), question)(name, number)
    assert caught.value.code is code


@pytest.mark.parametrize(("asked", "answers"), [("", "2"), ("1", "1")])
async def test_descriptions_are_those_of_the_version_that_would_serve(service, asked, answers):
    asked_service = service()
    assert asked_service.servable("m", asked).version == answers
    assert asked_service.metadata("m", asked).versions == (answers,)
    assert asked_service.config("m", asked).backend == f"serves {answers}"


async def test_index_lists_all_or_what_is_ready(service):
    asked = service()
    assert [(entry.name, entry.version, entry.state) for entry in asked.index(False)] == list(ENTRIES)
    assert [(entry.name, entry.version) for entry in asked.index(True)] == [("m", "1"), ("m", "2")]


async def test_statistics_count_what_was_served_and_list_what_was_not(service, request_for):
    asked = service()
    request = request_for("x:FP32:1,4", version="1")
    asked.infer(request)
    request.finish()
    asked.flush_records()
    stats = {(entry.name, entry.version): entry.inference_stats.success.count for entry in asked.statistics("", "")}
    assert stats == {("m", "1"): 1, ("m", "2"): 0}
    assert [entry.version for entry in asked.statistics("m", "2")] == ["2"]


async def test_statistics_are_up_to_date_without_being_told(service, request_for):
    asked = service()
    request = request_for("x:FP32:1,4", version="1")
    asked.infer(request)
    request.finish()
    assert asked.statistics("m", "1")[0].inference_stats.success.count == 1


async def test_each_request_is_recorded_once_refusals_too(service, request_for, records):
    asked = service(max_requests_in_flight=1)
    served, crowded = request_for("x:FP32:1,4"), request_for("x:FP32:1,4")
    asked.infer(served)
    asked.infer(crowded)
    served.finish()
    unknown, undecoded, guessed = request_for(model="x"), request_for(), request_for(model="x")
    asked.infer(unknown)
    asked.refuse(undecoded, invalid("not JSON"))
    asked.refuse(guessed, invalid("not JSON"))
    for request in (crowded, unknown, undecoded, guessed):
        request.finish()
    assert [(record.model, record.code) for record in records] == [
        ("m", Code.OK),
        ("", Code.OVERLOADED),  # refused before its name was looked up
        ("", Code.NOT_FOUND),
        ("m", Code.INVALID_ARGUMENT),
        ("", Code.INVALID_ARGUMENT),
    ]
    assert asked.in_flight == 0


async def test_model_s_own_timeout_answers_a_request_that_takes_longer(service, version, request_for):
    asked = service(stack=lambda request: None)
    held = version(stack=lambda request: None, default_timeout_ns=1_000_000)
    asked.router.replace(RouteTable.of([held], {}))
    request = request_for("x:FP32:1,4")
    done = asyncio.Event()
    request.on_outcome.append(lambda finished, outcome: done.set())
    asked.infer(request)
    await asyncio.wait_for(done.wait(), 30)  # the request's own deadline is a minute away
    assert request.outcome.code is Code.DEADLINE
    request.finish()


async def test_close_waits_for_requests_in_flight(service, request_for):
    asked = service(stack=lambda request: None)
    request = request_for("x:FP32:1,4")
    asked.infer(request)
    assert await asked.close(0.001) is False
    asyncio.get_running_loop().call_soon(request.finish)
    assert await asked.close(30) is True


async def test_close_of_an_idle_service_needs_no_time(service):
    assert await service().close() is True


async def test_byte_budget_is_as_large_as_configured(service):
    assert service(max_bytes_in_flight=77).byte_budget.limit == 77
