"""Random orchestrations with known results, and the app that runs them."""

import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import azure.durable_functions as df

app = df.DFApp()
attempts: Counter[str] = Counter()


@app.activity_trigger(input_name="parameters")
def act(parameters: dict[str, Any]) -> Any:
    time.sleep(parameters["ms"] / 1000)
    attempts[parameters.get("key", "")] += 1
    if attempts[parameters.get("key", "")] <= parameters.get("fail", 0):
        raise ValueError("planned")
    return parameters["value"]


def create_task(context: Any, node: dict[str, Any]) -> Any:
    match node["kind"]:
        case "act" if "attempts" in node:
            parameters = {**node, "key": f"{context.instance_id}-{node['value']}"}
            return context.call_activity_with_retry(
                "act", df.RetryOptions(5, node["attempts"]), parameters
            )
        case "act":
            return context.call_activity("act", node)
        case "timer":
            return context.create_timer(
                context.current_utc_datetime + timedelta(milliseconds=node["ms"])
            )
        case "sub" if node["retry"]:
            return context.call_sub_orchestrator_with_retry(
                "plan", df.RetryOptions(5, 2), node["nodes"]
            )
        case "sub":
            return context.call_sub_orchestrator("plan", node["nodes"])
        case "all":
            return context.task_all([create_task(context, child) for child in node["nodes"]])
        case _:
            return context.task_any([create_task(context, child) for child in node["nodes"]])


@app.orchestration_trigger(context_name="context")
def plan(context: Any) -> Any:
    results = []
    for node in context.get_input():
        try:
            result = yield create_task(context, node)
            results.append(result.result if node["kind"] == "any" else result)
        except Exception as error:
            assert "planned" in str(error), error
            results.append("ERR")
    return results


class PlanGenerator:
    """Generates random plans.

    A plan is a list of nodes, which are activities, timers, sub-orchestrations and their fan-outs.
    """

    def __init__(self, seed: int, *, retries: bool = True, delay_factor: int = 1) -> None:
        self.rng = random.Random(seed)
        self.retries, self.delay_factor, self.values = retries, delay_factor, 0

    def create_leaf(self, *, may_fail: bool) -> dict[str, Any]:
        self.values += 1
        kind, rng = self.rng.random(), self.rng
        if kind < 0.45 or (kind < 0.75 and not self.retries):
            return {"kind": "act", "value": self.values, "ms": rng.randrange(3) * self.delay_factor}
        if kind < 0.75:
            max_attempts = rng.randint(1, 4)
            return {
                "kind": "act",
                "value": self.values,
                "ms": 0,
                "attempts": max_attempts,
                "fail": rng.randrange(max_attempts + 1 if may_fail else max_attempts),
            }
        if kind < 0.85:
            return {"kind": "timer", "ms": rng.randrange(41) * self.delay_factor}
        return {
            "kind": "sub",
            "retry": rng.random() < 0.5 and self.retries,
            "nodes": [self.create_leaf(may_fail=False) for _ in range(rng.randint(1, 2))],
        }

    def create_node(self, depth: int, *, may_fail: bool = True) -> dict[str, Any]:
        kind = self.rng.random()
        if depth == 0 or kind < 0.5:
            return self.create_leaf(may_fail=may_fail)
        if kind < 0.8:
            return {
                "kind": "all",
                "nodes": [
                    self.create_node(depth - 1, may_fail=False)
                    for _ in range(self.rng.randint(1, 4))
                ],
            }
        return {
            "kind": "any",
            "nodes": [self.create_leaf(may_fail=False) for _ in range(self.rng.randint(1, 3))],
        }

    def create_plan(self) -> list[dict[str, Any]]:
        return [self.create_node(1) for _ in range(self.rng.randint(1, 5))]


def is_correct(node: dict[str, Any], result: Any) -> bool:
    """Return whether a node could have produced this result."""
    match node["kind"]:
        case "act":
            return bool(
                result
                == ("ERR" if node.get("fail", 0) >= node.get("attempts", 10**6) else node["value"])
            )
        case "timer":
            return result is None
        case "any":
            return any(is_correct(child, result) for child in node["nodes"])
        case _:
            return (
                isinstance(result, list)
                and len(result) == len(node["nodes"])
                and all(
                    is_correct(child, item)
                    for child, item in zip(node["nodes"], result, strict=True)
                )
            )


def is_completed_correctly(plan_nodes: list[dict[str, Any]], status: dict[str, Any]) -> bool:
    return status["runtimeStatus"] == "Completed" and is_correct(
        {"kind": "all", "nodes": plan_nodes}, status["output"]
    )
