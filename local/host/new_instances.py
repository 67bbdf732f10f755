"""Creates instances for a client, a parent orchestration or `continue_as_new`."""

import uuid
from datetime import datetime

from . import history
from .decisions import StartChild
from .history import Event
from .records import Instance, NewInstance, Parent


def new_id() -> str:
    """Return an instance ID or execution ID in the format of the .NET engine."""
    return uuid.uuid4().hex


def client_instance(
    instance_id: str,
    name: str,
    input_json: str | None,
    version: str,
    now: datetime,
    generation: int = 0,
) -> NewInstance:
    """Build an instance that a client starts."""
    execution_id = new_id()
    started = history.execution_started(
        now,
        instance_id=instance_id,
        execution_id=execution_id,
        name=name,
        version=version,
        input_json=input_json,
        generation=generation,
    )
    return NewInstance(instance_id, execution_id, name, version, input_json, started)


def child_instance(
    parent: Instance, call: StartChild, default_version: str, now: datetime
) -> NewInstance:
    """Build the instance of a sub-orchestration."""
    execution_id, version = new_id(), call.version if call.version is not None else default_version
    started = history.execution_started(
        now,
        instance_id=call.instance_id,
        execution_id=execution_id,
        name=call.name,
        version=version,
        input_json=call.input,
        generation=None,
        parent=history.parent_instance(
            name=parent.name,
            instance_id=parent.instance_id,
            execution_id=parent.execution_id,
            task_id=call.id,
        ),
    )
    conflict = f"An Orchestration instance with the id {call.instance_id} is live already."
    return NewInstance(
        call.instance_id,
        execution_id,
        call.name,
        version,
        call.input,
        started,
        parent=Parent(parent.instance_id, parent.execution_id, call.id),
        task_failure=history.sub_orchestration_failed(now, call.id, conflict, None),
    )


def next_generation(
    instance: Instance, parent: Event | None, input_json: str | None, now: datetime
) -> NewInstance:
    """Build the instance that replaces `instance` after `continue_as_new`.

    `parent` is the value of ParentInstance in the previous generation.
    """
    execution_id = new_id()
    started = history.execution_started(
        now,
        instance_id=instance.instance_id,
        execution_id=execution_id,
        name=instance.name,
        version=instance.version,
        input_json=input_json,
        generation=None,
        parent=parent,
    )
    return NewInstance(
        instance.instance_id,
        execution_id,
        instance.name,
        instance.version,
        input_json,
        started,
        parent=instance.parent,
    )
