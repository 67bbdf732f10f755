"""The client commands: start, raise event, terminate, suspend, resume, rewind, restart and purge.

This module implements the rules of the management API; `management.py` maps them to HTTP.
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
    """Client commands on the instances of one task hub."""

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
        """Start an orchestration and return its instance ID.

        Args:
            name: The name of the orchestrator, in upper or lower case. The instance keeps the case
                of this argument.
            input_json: The JSON that becomes `ExecutionStarted.Input`.
            instance_id: The ID of the instance; None generates one.
            version: The version of the instance; None uses the default version of the app.

        Raises:
            UnknownOrchestratorError: The app has no such orchestrator.
            InstanceExistsError: An active instance has this ID.
            InvalidCommandError: The instance ID contains invalid characters.
        """
        function = self.functions.find(name)
        if function is None or not self.functions.exists("orchestrator", name):
            known = ", ".join(
                f"'{orchestrator.name}'"
                for orchestrator in self.functions.list_by_trigger("orchestrationTrigger")
            )
            raise UnknownOrchestratorError(
                f"The function '{name}' doesn't exist, is disabled, or is not an orchestrator "
                "function. Additional info: The following are the known orchestrator functions: "
                f"{known}."
            )
        instance_id = new_id() if instance_id is None else instance_id
        _check_instance_id(instance_id)
        new = client_instance(
            instance_id,
            name,
            input_json,
            self.default_version if version is None else version,
            self.clock.now(),
            self._get_next_generation(instance_id),
        )
        with self.traffic.track():
            if (status := self.store.create(new)) is not None:
                raise InstanceExistsError(
                    f"An Orchestration instance with the status {status} already exists."
                )
            log.info("%s %s: started", instance_id, function.name)
            self.engine.notify(instance_id)
        return instance_id

    def _get_next_generation(self, instance_id: str) -> int:
        """Return 0, or the generation of the replaced instance plus one."""
        instance = self.store.instance(instance_id)
        for text in self.store.history(instance_id, instance.execution_id) if instance else ():
            event = json.loads(text)
            if event["EventType"] == EventType.EXECUTION_STARTED:
                return int(event["Generation"] or 0) + 1
        return 0

    def _post(
        self, instance_id: str, event: Event, *, allowed: frozenset[str] = LIVE
    ) -> str | None:
        """Send an event to an instance whose status is in `allowed`.

        Returns the status of the instance before the event, or None if there is no such instance.
        """
        with self.traffic.track():
            status = self.store.post(instance_id, event, allowed=allowed)
            if status in allowed:
                self.engine.notify(instance_id)
        return status

    def raise_event(self, instance_id: str, name: str, input_json: str) -> str | None:
        """Raise an event; return the previous status, or None if the instance is unknown."""
        return self._post(instance_id, history.event_raised(self.clock.now(), name, input_json))

    def terminate(self, instance_id: str, reason: str | None) -> str | None:
        """Terminate an instance; return the previous status, or None if the instance is unknown."""
        return self._post(instance_id, history.execution_terminated(self.clock.now(), reason))

    def suspend(self, instance_id: str, reason: str | None) -> str | None:
        """Suspend an instance; return the previous status, or None if the instance is unknown."""
        return self._post(
            instance_id,
            history.execution_suspended(self.clock.now(), reason),
            allowed=LIVE - {"Suspended"},
        )

    def resume(self, instance_id: str, reason: str | None) -> str | None:
        """Resume an instance; return the previous status, or None if the instance is unknown."""
        return self._post(
            instance_id,
            history.execution_resumed(self.clock.now(), reason),
            allowed=frozenset({"Suspended"}),
        )

    def restart(self, instance: Instance, *, new_instance_id: bool) -> str:
        """Start the orchestrator again with the same input, and return the instance ID."""
        return self.start(
            instance.name,
            instance.input,
            None if new_instance_id else instance.instance_id,
            instance.version,
        )

    def purge(self, instance_filter: Filter) -> int:
        """Delete the completed instances that match the filter, and return their number.

        Sub-orchestrations of the deleted instances are not deleted.
        """
        finished = [
            instance for instance in self.store.instances(instance_filter) if not instance.is_live
        ]
        for instance in finished:
            self.purge_one(instance.instance_id)
        return len(finished)

    def purge_one(self, instance_id: str) -> None:
        """Delete one instance."""
        self.store.purge(instance_id)
        self.engine.discard_cached_history(instance_id)
        self.traffic.changed()

    def rewind(self, instance: Instance, reason: str | None) -> None:
        """Rewind a failed instance to the state before its failures; failed tasks run again.

        As in the engine, failure events and the scheduling events of failed activities become
        generic events, and failed sub-orchestrations are also rewound. An instance that used
        retries fails as non-deterministic because its retry timers remain in the history.
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
        rewound_events, rewound_ids = [], []
        for event in events:
            kind, event_id = event["EventType"], event["EventId"]
            replaced = kind in (
                EventType.TASK_FAILED,
                EventType.SUB_ORCHESTRATION_FAILED,
                EventType.EXECUTION_COMPLETED,
            ) or (kind == EventType.TASK_SCHEDULED and event_id in failed)
            rewound_events.append(_to_generic_event(event) if replaced else event)
            if kind == EventType.SUB_ORCHESTRATION_CREATED and event_id in failed_children:
                child = self.store.instance(event["InstanceId"])
                if child is not None and child.status == "Failed":
                    rewound_ids += self._rewind(child, reason)
        self.store.rewind(
            instance.instance_id,
            instance.execution_id,
            rewound_events,
            history.generic_event(now, reason),
        )
        log.info("%s %s: rewound", instance.instance_id, instance.name)
        return [*rewound_ids, instance.instance_id]


def _to_generic_event(event: Event) -> Event:
    return {
        "Data": None,
        "EventType": int(EventType.GENERIC_EVENT),
        **{key: event[key] for key in ("EventId", "IsPlayed", "Timestamp")},
    }


def _check_instance_id(instance_id: str) -> None:
    if not instance_id or instance_id.startswith("@"):
        raise InvalidCommandError(
            "instanceId (Parameter 'Orchestration instance ids must not start with @.')"
        )
    if any(character in "/\\#?" or not character.isprintable() for character in instance_id):
        raise InvalidCommandError(
            "instanceId (Parameter 'Orchestration instance ids must not contain /, \\, #, ?, or "
            "control characters.')"
        )
