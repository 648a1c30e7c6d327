"""Events by version and direction: none is lost, and the last number is told."""

from cluster.kubernetes.client.paths import EVENTS
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from tests.fakes.cluster import BLUE, Leadership, image, scoring_endpoint


def notes(leader: Leadership, reason: str) -> list[str]:
    return [each["note"] for each in leader.kubernetes.all(EVENTS) if each["reason"] == reason]


async def test_each_version_and_direction_has_its_events_and_the_last_number_is_among_them(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(), image("green")]))
    assert {each.rpartition(" ")[2] for each in notes(leader, "Created")} == {"blue", "green"}
    await leader.load(1, busy=1, waiting=1, total=1)
    await leader.load(1, busy=1, waiting=4, total=1, key=VersionKey("iris", "green"))
    await leader.load(12, busy=1, waiting=6, total=1, key=BLUE)
    blue, green = ([each for each in notes(leader, "Scaled") if each.startswith(name)] for name in ("blue", "green"))
    assert blue[0].startswith("blue from 1 to ") and len(blue) > 1 and green[0].startswith("green from 1 to ")
    assert f"to {leader.plane.sources.view.counts(BLUE)[ReplicaState.READY]} replicas" in blue[-1]
