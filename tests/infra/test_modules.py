"""main.bicep and its modules fit: nothing is passed that is not declared, nothing is told that nobody asks for."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pytest

from tests.infra.bicep import INFRA, Template, body, decorator, parse, templates

MAIN = templates()["main.bicep"]
MISSING = "metadata name = 'M'\nmetadata description = 'M.'\n"


def modules_of(template: Template) -> Iterator[tuple[str, str, set[str]]]:
    """Symbol, path of the file and names of what is passed."""
    folder = PurePosixPath(template.name).parent
    for symbol, module in template.modules.items():
        yield (
            symbol,
            str(folder / module["detail"]["path"]),
            set(body(module["config"]).get("params", {})),
        )


def misfits(template: Template, known: Mapping[str, Template]) -> Iterator[str]:
    for symbol, path, passed in modules_of(template):
        if path not in known:
            yield f"{symbol}: there is no {path}"
            continue
        declared = known[path].parameters
        required = {name for name, one in declared.items() if one.get("default") is None}
        yield from (f"{symbol} is not given {name}" for name in sorted(required - passed))
        yield from (f"{symbol} does not know {name}" for name in sorted(passed - set(declared)))
        asked = set(re.findall(rf"\b{symbol}!?\.outputs\.(\w+)", template.code))
        yield from (
            f"{symbol} does not tell {name}" for name in sorted(asked - set(known[path].outputs))
        )
        yield from (
            f"nobody asks {symbol} for {name}" for name in sorted(set(known[path].outputs) - asked)
        )


def type_of(value: object, template: Template, known: Mapping[str, Template]) -> str | None:
    """The type of what is passed, where it can be told: a parameter, an output, something literal."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return str(template.parameters[value]["type"]) if value in template.parameters else None
    if isinstance(value, dict) and "operator" in value:
        operands = value["operator"]["operands"]
        if value["operator"]["type"] == "conditional":
            return type_of(operands["true_value"], template, known) or type_of(
                operands["false_value"], template, known
            )
        found = re.search(r"'operand_1': '(\w+)'.*'outputs', 'operand_2': '(\w+)'", str(value))
        if found and found[1] in template.modules:
            folder = PurePosixPath(template.name).parent
            path = str(folder / template.modules[found[1]]["detail"]["path"])
            return str(known[path].outputs[found[2]]["type"])
    return None


def mistyped(template: Template, known: Mapping[str, Template]) -> Iterator[str]:
    """What is passed with another type than declared, or straight through with looser limits: then a wrong value would only
    be refused when half of the deployment is there.
    """
    for symbol, path, _ in modules_of(template):
        declared = known[path].parameters
        for name, value in body(template.modules[symbol]["config"]).get("params", {}).items():
            found = type_of(value, template, known)
            if found and found != declared[name]["type"]:
                yield f"{symbol}.{name} is {declared[name]['type']} and is given {found}"
            if isinstance(value, str) and value in template.parameters:
                for limit in ("allowed", "min_value", "max_value", "min_length", "max_length"):
                    inner = decorator(declared[name], limit)
                    if inner is not None and decorator(template.parameters[value], limit) != inner:
                        yield f"{value} has another {limit} than {symbol}.{name}"


def unguarded(template: Template) -> Iterator[str]:
    """Outputs of a module that is not always made, asked for as if it were."""
    for symbol, module in template.modules.items():
        if "condition" in module["config"] and re.search(rf"\b{symbol}\.outputs\.", template.code):
            yield symbol


def test_modules_are_given_what_they_declare_and_asked_for_what_they_tell() -> None:
    assert list(misfits(MAIN, templates())) == []


def test_every_module_is_reached_from_main() -> None:
    files = {name for name in templates() if name.startswith("modules/")}
    assert files == {path for _, path, _ in modules_of(MAIN)}


def test_outputs_of_conditional_modules_are_asked_for_with_care() -> None:
    assert list(unguarded(MAIN)) == []


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("module m 'other.bicep' = {\n  name: 'm'\n}\n", "m: there is no other.bicep"),
        ("module m 'm.bicep' = {\n  name: 'm'\n}\n", "m is not given size"),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1, colour: 2 }\n}\n",
            "m does not know colour",
        ),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1 }\n}\noutput x int = m.outputs.depth\n",
            "m does not tell depth",
        ),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1 }\n}\n",
            "nobody asks m for height",
        ),
    ],
)
def test_a_module_that_does_not_fit_is_found(planted: str, told: str) -> None:
    known = {
        "m.bicep": parse(
            MISSING + "param size int\nparam spare int = 1\noutput height int = size\n", "m.bicep"
        )
    }
    assert told in list(misfits(parse(planted, "main.bicep"), known))


def test_what_is_passed_is_of_the_type_and_within_the_limits_that_are_declared() -> None:
    assert list(mistyped(MAIN, templates())) == []
    passed = [
        value
        for module in MAIN.modules.values()
        for value in body(module["config"])["params"].values()
    ]
    told = [type_of(value, MAIN, templates()) for value in passed]
    assert sum(one is not None for one in told) > len(told) / 2


@pytest.mark.parametrize(
    ("passed", "told"),
    [
        ("size: 'two'", None),
        ("size: true", "m.size is int and is given bool"),
        ("size: text", "m.size is int and is given string"),
        ("size: loose", "loose has another max_value than m.size"),
        ("size: [1]", "m.size is int and is given array"),
        ("size: m2.outputs.x", "m.size is int and is given string"),
    ],
)
def test_a_wrong_type_or_looser_limit_is_found(passed: str, told: str | None) -> None:
    known = {
        "m.bicep": parse("@maxValue(3)\nparam size int\n", "m.bicep"),
        "o.bicep": parse("output x string = 'x'\n", "o.bicep"),
    }
    planted = (
        f"param text string\nparam loose int\nmodule m2 'o.bicep' = {{\n  name: 'o'\n}}\n"
        f"module m 'm.bicep' = {{\n  name: 'm'\n  params: {{ {passed} }}\n}}\n"
    )
    found = list(mistyped(parse(planted, "main.bicep"), known))
    assert told in found if told else found == []


def test_an_unguarded_output_is_found() -> None:
    planted = "module m 'm.bicep' = if (true) {\n  name: 'm'\n}\noutput x int = m.outputs.depth\n"
    assert list(unguarded(parse(planted))) == ["m"]


def test_the_file_of_parameters_names_parameters_and_all_that_are_required() -> None:
    source = (INFRA / "main.bicepparam").read_text(encoding="utf-8")
    named = set(re.findall(r"^param (\w+) =", source, flags=re.MULTILINE))
    required = {name for name, one in MAIN.parameters.items() if one.get("default") is None}
    assert source.startswith("using 'main.bicep'\n")
    assert required <= named <= set(MAIN.parameters)


def test_main_tells_no_secret() -> None:
    assert set(MAIN.outputs) == {
        "functionAppName",
        "functionAppUri",
        "identityPrincipalId",
        "identityClientId",
        "landingAccountName",
    }
