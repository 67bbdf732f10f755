"""Client commands on instances: start, raise an event, terminate, suspend, resume, rewind, restart, purge.

The rules are those of the management API; `management.py` only translates them to HTTP.
"""

import json
import logging
from dataclasses import dataclass

from . import history
from .clock import Clock
from .engine import Engine
from .errors import InstanceExistsError, InvalidCommandError, UnknownOrchestratorError
from .functions import FunctionIndex
from .history import Event, EventType
from .new_instances import client_instance, new_id
from .records import LIVE, Filter, Instance
from .store import Store
from .traffic import Traffic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Commands:
    store: Store
    engine: Engine
    functions: FunctionIndex
    clock: Clock
    traffic: Traffic
    default_version: str

    def start(
        self,
        name: str,
        input_json: str | None,
        instance_id: str | None = None,
        version: str | None = None,
    ) -> str:
        """`input_json`: the JSON text that becomes ExecutionStarted.Input. Returns the id. The name keeps the caller's case."""
        function = self.functions.find(name)
        if function is None or not self.functions.exists("orchestrator", name):
            known = ", ".join(
                f"'{orchestrator.name}'"
                for orchestrator in self.functions.list_by_trigger("orchestrationTrigger")
            )
            raise UnknownOrchestratorError(
                f"The function '{name}' doesn't exist, is disabled, or is not an orchestrator function. Additional info: "
                f"The following are the known orchestrator functions: {known}."
            )
        instance_id = new_id() if instance_id is None else instance_id
        _check_id(instance_id)
        new = client_instance(
            instance_id,
            name,
            input_json,
            self.default_version if version is None else version,
            self.clock.now(),
            self._generation_of(instance_id),
        )
        with self.traffic.track():
            if (status := self.store.create(new)) is not None:
                raise InstanceExistsError(
                    f"An Orchestration instance with the status {status} already exists."
                )
            log.info("%s %s starts", instance_id, function.name)
            self.engine.notify(instance_id)
        return instance_id

    def _generation_of(self, instance_id: str) -> int:
        """0, or one more than that of the finished instance which is replaced."""
        instance = self.store.instance(instance_id)
        for text in self.store.history(instance_id, instance.execution_id) if instance else ():
            event = json.loads(text)
            if event["EventType"] == EventType.EXECUTION_STARTED:
                return int(event["Generation"] or 0) + 1
        return 0

    def _post(
        self, instance_id: str, event: Event, *, allowed: frozenset[str] = LIVE
    ) -> str | None:
        """The instance's status when the event was offered; None: no such instance."""
        with self.traffic.track():
            status = self.store.post(instance_id, event, allowed=allowed)
            if status in allowed:
                self.engine.notify(instance_id)
        return status

    def raise_event(self, instance_id: str, name: str, input_json: str) -> str | None:
        return self._post(instance_id, history.event_raised(self.clock.now(), name, input_json))

    def terminate(self, instance_id: str, reason: str | None) -> str | None:
        return self._post(instance_id, history.execution_terminated(self.clock.now(), reason))

    def suspend(self, instance_id: str, reason: str | None) -> str | None:
        return self._post(
            instance_id,
            history.execution_suspended(self.clock.now(), reason),
            allowed=LIVE - {"Suspended"},
        )

    def resume(self, instance_id: str, reason: str | None) -> str | None:
        return self._post(
            instance_id,
            history.execution_resumed(self.clock.now(), reason),
            allowed=frozenset({"Suspended"}),
        )

    def restart(self, instance: Instance, *, new_instance_id: bool) -> str:
        return self.start(
            instance.name,
            instance.input,
            None if new_instance_id else instance.instance_id,
            instance.version,
        )

    def purge(self, chosen: Filter) -> int:
        """Deletes finished instances; children stay. Returns how many."""
        finished = [instance for instance in self.store.instances(chosen) if not instance.is_live]
        for instance in finished:
            self.purge_one(instance.instance_id)
        return len(finished)

    def purge_one(self, instance_id: str) -> None:
        self.store.purge(instance_id)
        self.engine.discard_cached_history(instance_id)
        self.traffic.changed()

    def rewind(self, instance: Instance, reason: str | None) -> None:
        """Takes a failed instance back to before its failures: what failed plainly runs again.

        As in the engine, failed tasks and their scheduling become generic events, failed children are rewound
        themselves, and an instance that used a retry ends as non-deterministic: its timers stay.
        """
        with self.traffic.track():
            for instance_id in self._rewind(instance, reason):
                self.engine.discard_cached_history(instance_id)
                self.engine.notify(instance_id)

    def _rewind(self, instance: Instance, reason: str | None) -> list[str]:
        now = self.clock.now()
        events: list[Event] = [
            json.loads(text)
            for text in self.store.history(instance.instance_id, instance.execution_id)
        ]
        failed = {
            event["TaskScheduledId"]
            for event in events
            if event["EventType"] == EventType.TASK_FAILED
        }
        failed_children = {
            event["TaskScheduledId"]
            for event in events
            if event["EventType"] == EventType.SUB_ORCHESTRATION_FAILED
        }
        rewound, woken = [], []
        for event in events:
            kind, event_id = event["EventType"], event["EventId"]
            replaced = kind in (
                EventType.TASK_FAILED,
                EventType.SUB_ORCHESTRATION_FAILED,
                EventType.EXECUTION_COMPLETED,
            ) or (kind == EventType.TASK_SCHEDULED and event_id in failed)
            rewound.append(_generic(event) if replaced else event)
            if kind == EventType.SUB_ORCHESTRATION_CREATED and event_id in failed_children:
                child = self.store.instance(event["InstanceId"])
                if child is not None and child.status == "Failed":
                    woken += self._rewind(child, reason)
        self.store.rewind(
            instance.instance_id, instance.execution_id, rewound, history.generic_event(now, reason)
        )
        log.info("%s %s is rewound", instance.instance_id, instance.name)
        return [*woken, instance.instance_id]


def _generic(event: Event) -> Event:
    return {
        "Data": None,
        "EventType": int(EventType.GENERIC_EVENT),
        **{key: event[key] for key in ("EventId", "IsPlayed", "Timestamp")},
    }


def _check_id(instance_id: str) -> None:
    if not instance_id or instance_id.startswith("@"):
        raise InvalidCommandError(
            "instanceId (Parameter 'Orchestration instance ids must not start with @.')"
        )
    if any(character in "/\\#?" or not character.isprintable() for character in instance_id):
        raise InvalidCommandError(
            "instanceId (Parameter 'Orchestration instance ids must not contain /, \\, #, ?, or control characters.')"
        )
