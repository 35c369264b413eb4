"""`./assay pause` and `./assay resume`: automation off and on again, as Dagster's own switches.

Belongs here: finding every sensor and schedule, switching them, saying what is still under way. Does not belong here:
what a sensor does. Asked of the webserver, as the UI does it: it knows the sensors of the code server that runs, and what
it writes stays in the instance over `down` and `up`.
https://docs.dagster.io/api/graphql
"""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from foundation.errors import AssayError
from foundation.settings import Settings

# The first call after `up` makes the webserver ask the code server, which takes some seconds on a busy machine.
SECONDS = 60
# What a person waits for with ./assay status: an answer takes 0.1 s, on a machine with too much to do above 3 s.
STATUS_SECONDS = 10
LOOK = """
query Automation {
  repositoriesOrError {
    ... on RepositoryConnection { nodes {
      name location { name }
      sensors { name sensorState { id status } }
      schedules { name scheduleState { id status } }
    } }
    ... on PythonError { message }
  }
  workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { ... on PythonError { message } } } } }
  underWay: runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}) { ... on Runs { count } }
  queued: runsOrError(filter: {statuses: [QUEUED, NOT_STARTED]}) { ... on Runs { count } }
}
"""
FAILED = "... on PythonError { message } ... on UnauthorizedError { message }"
STOP = {
    "sensor": f"mutation Stop($id: String!) {{ stopSensor(id: $id) {{ __typename {FAILED} }} }}",
    "schedule": f"mutation Stop($id: String!) {{ stopRunningSchedule(id: $id) {{ __typename {FAILED} }} }}",
}
# Not "start": what the code declares as off by default stays off.
RESET = {
    "sensor": f"mutation Reset($it: SensorSelector!) {{ resetSensor(sensorSelector: $it) {{ __typename {FAILED} }} }}",
    "schedule": f"mutation Reset($it: ScheduleSelector!) {{ resetSchedule(scheduleSelector: $it) {{ __typename {FAILED} }} }}",
}


@dataclass(frozen=True)
class Switch:
    """A sensor or a schedule. `kind` is which; `selector` is how the API names it."""

    kind: str
    name: str
    state_id: str
    running: bool
    selector: dict[str, str]


@dataclass(frozen=True)
class Automation:
    """Every switch, and the runs that do not care about them."""

    switches: list[Switch]
    under_way: int
    queued: int

    @property
    def paused(self) -> bool:
        return not any(switch.running for switch in self.switches)

    def named(self, running: bool) -> str:
        return ", ".join(switch.name for switch in self.switches if switch.running == running)


def pause(settings: Settings, console: Console) -> None:
    """Stops every sensor and schedule; doing it twice changes nothing.

    Raises:
        AssayError: the services are down, or the graph does not load.
    """
    before = look(settings)
    for switch in before.switches:
        if switch.running:
            _mutate(settings, STOP[switch.kind], {"id": switch.state_id})
    after = look(settings)
    if not after.paused:
        raise AssayError(f"Still on: {after.named(True)}", "run ./assay pause again")
    if before.paused:
        console.print("Automation was paused already.")
    else:
        console.print(f"Automation is paused. Stopped: {before.named(True)}.", soft_wrap=True)
    _say_runs(console, after)
    console.print(
        "It stays so over down and up. Commands that you type still run. Next: ./assay resume", soft_wrap=True
    )


def resume(settings: Settings, console: Console) -> None:
    """Puts every sensor and schedule back to what the code declares; doing it twice changes nothing.

    Raises:
        AssayError: the services are down, or the graph does not load.
    """
    before = look(settings)
    for switch in before.switches:
        if not switch.running:
            _mutate(settings, RESET[switch.kind], {"it": switch.selector})
    after = look(settings)
    started = [s.name for s in after.switches if s.running and s.name in before.named(False).split(", ")]
    if started:
        console.print(f"Automation goes on. Started: {', '.join(started)}.", soft_wrap=True)
        console.print("What changed while it was paused is seen within a minute.")
    else:
        console.print("Automation was on already.")
    if not_started := after.named(False):
        console.print(f"Off by default, and left so: {not_started}.", soft_wrap=True)
    _say_runs(console, after)


def look(settings: Settings, seconds: float = SECONDS) -> Automation:
    """How automation is.

    Raises:
        AssayError: the webserver does not answer, or the graph does not load.
    """
    answer = _ask(settings, LOOK, {}, seconds)
    repositories = answer["repositoriesOrError"]
    errors = [
        entry["locationOrLoadError"]["message"]
        for entry in answer["workspaceOrError"].get("locationEntries", [])
        if (entry["locationOrLoadError"] or {}).get("message")
    ]
    if "message" in repositories or errors or not repositories.get("nodes"):
        message = repositories.get("message") or next(iter(errors), "Dagster knows no graph yet")
        raise AssayError(
            f"The graph does not load: {message.strip().splitlines()[0]}",
            "read ./assay logs dagster-code, correct what it names, then run this again",
        )
    switches = [
        Switch(
            kind,
            one["name"],
            one[f"{kind}State"]["id"],
            one[f"{kind}State"]["status"] == "RUNNING",
            {
                "repositoryName": repository["name"],
                "repositoryLocationName": repository["location"]["name"],
                f"{kind}Name": one["name"],
            },
        )
        for repository in repositories["nodes"]
        for kind in ("sensor", "schedule")
        for one in repository[f"{kind}s"]
    ]
    return Automation(switches, answer["underWay"].get("count", 0), answer["queued"].get("count", 0))


def print_automation(settings: Settings, console: Console) -> None:
    """One line for `./assay status`; the caller knows that the webserver answers."""
    try:
        automation = look(settings, STATUS_SECONDS)
    except AssayError as error:
        console.print(f"Automation: unknown. {error.what}.", markup=False, soft_wrap=True)
        return
    if automation.paused:
        console.print("Automation is [bold]paused[/]: nothing runs by itself. Next: ./assay resume")
    elif stopped := automation.named(False):
        console.print(f"Automation is on, but for {stopped}. Next: ./assay resume, or ./assay pause", soft_wrap=True)
    else:
        console.print("Automation is on.")


def _say_runs(console: Console, automation: Automation) -> None:
    under_way, queued = automation.under_way, automation.queued
    if not under_way and not queued:
        console.print("No run is under way or queued.")
        return
    console.print(
        f"{under_way} {'run is' if under_way == 1 else 'runs are'} under way and {queued} queued: they are done whether "
        "automation is on or not; end them in the Dagster UI, under Runs.",
        soft_wrap=True,
    )


def _mutate(settings: Settings, mutation: str, variables: dict[str, Any]) -> None:
    for name, result in _ask(settings, mutation, variables, SECONDS).items():
        if "message" in result:
            raise AssayError(
                f"Dagster refused {name}: {result['message'].strip().splitlines()[0]}",
                "read ./assay logs dagster-webserver, then run this again",
            )


def _ask(settings: Settings, query: str, variables: dict[str, Any], seconds: float) -> dict[str, Any]:
    url = f"http://127.0.0.1:{settings.port('dagster')}/graphql"
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    # Not through the proxy that the shell may name: the address is this machine's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise AssayError(
            f"Dagster's webserver answers {error.code}", "read ./assay logs dagster-webserver, then run this again"
        ) from None
    except (OSError, ValueError):
        raise AssayError("Dagster's webserver does not answer", "run ./assay up, then this again") from None
    if answer.get("errors"):
        raise AssayError(
            f"Dagster's webserver: {answer['errors'][0]['message']}",
            "read ./assay logs dagster-webserver, then run this again",
        )
    return answer["data"]
