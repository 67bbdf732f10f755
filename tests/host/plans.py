"""Random orchestrations with a known right answer (durable-protocol, section 10), and the app that runs them."""

import random
import time
from collections import Counter
from datetime import timedelta
from typing import Any

import azure.durable_functions as df

app = df.DFApp()
attempts: Counter[str] = Counter()


@app.activity_trigger(input_name="order")
def act(order: dict[str, Any]) -> Any:
    time.sleep(order["ms"] / 1000)
    attempts[order.get("key", "")] += 1
    if attempts[order.get("key", "")] <= order.get("fail", 0):
        raise ValueError("planned")
    return order["value"]


def task_of(context: Any, node: dict[str, Any]) -> Any:
    match node["kind"]:
        case "act" if "attempts" in node:
            order = {**node, "key": f"{context.instance_id}-{node['value']}"}
            return context.call_activity_with_retry(
                "act", df.RetryOptions(5, node["attempts"]), order
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
            return context.task_all([task_of(context, child) for child in node["nodes"]])
        case _:
            return context.task_any([task_of(context, child) for child in node["nodes"]])


@app.orchestration_trigger(context_name="context")
def plan(context: Any) -> Any:
    results = []
    for node in context.get_input():
        try:
            result = yield task_of(context, node)
            results.append(result.result if node["kind"] == "any" else result)
        except Exception as error:
            assert "planned" in str(error), error
            results.append("ERR")
    return results


class Planner:
    def __init__(self, seed: int, *, retries: bool = True, slow: int = 1) -> None:
        self.chance, self.retries, self.slow, self.values = random.Random(seed), retries, slow, 0

    def leaf(self, *, may_fail: bool) -> dict[str, Any]:
        self.values += 1
        kind, chance = self.chance.random(), self.chance
        if kind < 0.45 or (kind < 0.75 and not self.retries):
            return {"kind": "act", "value": self.values, "ms": chance.randrange(3) * self.slow}
        if kind < 0.75:
            limit = chance.randint(1, 4)
            return {
                "kind": "act",
                "value": self.values,
                "ms": 0,
                "attempts": limit,
                "fail": chance.randrange(limit + 1 if may_fail else limit),
            }
        if kind < 0.85:
            return {"kind": "timer", "ms": chance.randrange(41) * self.slow}
        return {
            "kind": "sub",
            "retry": chance.random() < 0.5 and self.retries,
            "nodes": [self.leaf(may_fail=False) for _ in range(chance.randint(1, 2))],
        }

    def node(self, depth: int, *, may_fail: bool = True) -> dict[str, Any]:
        kind = self.chance.random()
        if depth == 0 or kind < 0.5:
            return self.leaf(may_fail=may_fail)
        if kind < 0.8:
            return {
                "kind": "all",
                "nodes": [
                    self.node(depth - 1, may_fail=False) for _ in range(self.chance.randint(1, 4))
                ],
            }
        return {
            "kind": "any",
            "nodes": [self.leaf(may_fail=False) for _ in range(self.chance.randint(1, 3))],
        }

    def plan(self) -> list[dict[str, Any]]:
        return [self.node(1) for _ in range(self.chance.randint(1, 5))]


def right(node: dict[str, Any], result: Any) -> bool:
    match node["kind"]:
        case "act":
            return bool(
                result
                == ("ERR" if node.get("fail", 0) >= node.get("attempts", 10**6) else node["value"])
            )
        case "timer":
            return result is None
        case "any":
            return any(right(child, result) for child in node["nodes"])
        case _:
            return (
                isinstance(result, list)
                and len(result) == len(node["nodes"])
                and all(
                    right(child, item) for child, item in zip(node["nodes"], result, strict=True)
                )
            )


def all_right(plan_nodes: list[dict[str, Any]], status: dict[str, Any]) -> bool:
    return status["runtimeStatus"] == "Completed" and right(
        {"kind": "all", "nodes": plan_nodes}, status["output"]
    )
