"""main.bicep passes the declared parameters to its modules and uses all of their outputs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pytest

from tests.support.bicep import (
    INFRA,
    Template,
    get_body,
    get_decorator,
    load_templates,
    parse_template,
)

MAIN = load_templates()["main.bicep"]
METADATA = "metadata name = 'M'\nmetadata description = 'M.'\n"


def list_modules(template: Template) -> Iterator[tuple[str, str, set[str]]]:
    """Yield the symbolic name, path and parameter names of each module."""
    folder = PurePosixPath(template.name).parent
    for symbol, module in template.modules.items():
        yield (
            symbol,
            str(folder / module["detail"]["path"]),
            set(get_body(module["config"]).get("params", {})),
        )


def find_module_errors(template: Template, known: Mapping[str, Template]) -> Iterator[str]:
    """Yield a message for each wrong path, parameter or output of a module."""
    for symbol, path, passed in list_modules(template):
        if path not in known:
            yield f"{symbol}: the file {path} does not exist"
            continue
        declared = known[path].parameters
        required = {
            name for name, parameter in declared.items() if parameter.get("default") is None
        }
        yield from (
            f"{symbol}: the parameter {name} is missing" for name in sorted(required - passed)
        )
        yield from (
            f"{symbol}: the parameter {name} is not declared"
            for name in sorted(passed - set(declared))
        )
        used = set(re.findall(rf"\b{symbol}!?\.outputs\.(\w+)", template.code))
        yield from (
            f"{symbol}: the output {name} is not declared"
            for name in sorted(used - set(known[path].outputs))
        )
        yield from (
            f"{symbol}: the output {name} is not used"
            for name in sorted(set(known[path].outputs) - used)
        )


def get_type(value: object, template: Template, known: Mapping[str, Template]) -> str | None:
    """Return the type of a parameter, an output or a literal; None for other expressions."""
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
            return get_type(operands["true_value"], template, known) or get_type(
                operands["false_value"], template, known
            )
        found = re.search(r"'operand_1': '(\w+)'.*'outputs', 'operand_2': '(\w+)'", str(value))
        if found and found[1] in template.modules:
            folder = PurePosixPath(template.name).parent
            path = str(folder / template.modules[found[1]]["detail"]["path"])
            return str(known[path].outputs[found[2]]["type"])
    return None


def find_type_errors(template: Template, known: Mapping[str, Template]) -> Iterator[str]:
    """Yield a message for each value with a wrong type or with limits that differ.

    With looser limits, Azure would reject a wrong value only during the deployment.
    """
    for symbol, path, _ in list_modules(template):
        declared = known[path].parameters
        for name, value in get_body(template.modules[symbol]["config"]).get("params", {}).items():
            found = get_type(value, template, known)
            if found and found != declared[name]["type"]:
                yield f"{symbol}.{name} has the type {declared[name]['type']}, not {found}"
            if isinstance(value, str) and value in template.parameters:
                for limit in ("allowed", "min_value", "max_value", "min_length", "max_length"):
                    inner = get_decorator(declared[name], limit)
                    if (
                        inner is not None
                        and get_decorator(template.parameters[value], limit) != inner
                    ):
                        yield f"{value} and {symbol}.{name} have different {limit}"


def find_unguarded_outputs(template: Template) -> Iterator[str]:
    """Yield each conditional module whose outputs are used without a null check."""
    for symbol, module in template.modules.items():
        if "condition" in module["config"] and re.search(rf"\b{symbol}\.outputs\.", template.code):
            yield symbol


def test_main_template_has_no_module_errors() -> None:
    assert list(find_module_errors(MAIN, load_templates())) == []


def test_main_template_deploys_every_module() -> None:
    files = {name for name in load_templates() if name.startswith("modules/")}
    assert files == {path for _, path, _ in list_modules(MAIN)}


def test_main_template_has_no_unguarded_outputs() -> None:
    assert list(find_unguarded_outputs(MAIN)) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("module m 'other.bicep' = {\n  name: 'm'\n}\n", "m: the file other.bicep does not exist"),
        ("module m 'm.bicep' = {\n  name: 'm'\n}\n", "m: the parameter size is missing"),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1, colour: 2 }\n}\n",
            "m: the parameter colour is not declared",
        ),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1 }\n}\n"
            "output x int = m.outputs.depth\n",
            "m: the output depth is not declared",
        ),
        (
            "module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1 }\n}\n",
            "m: the output height is not used",
        ),
    ],
)
def test_find_module_errors_returns_message(source: str, message: str) -> None:
    known = {
        "m.bicep": parse_template(
            METADATA + "param size int\nparam spare int = 1\noutput height int = size\n", "m.bicep"
        )
    }
    assert message in list(find_module_errors(parse_template(source, "main.bicep"), known))


def test_main_template_has_no_type_errors() -> None:
    assert list(find_type_errors(MAIN, load_templates())) == []
    passed = [
        value
        for module in MAIN.modules.values()
        for value in get_body(module["config"])["params"].values()
    ]
    types = [get_type(value, MAIN, load_templates()) for value in passed]
    assert sum(item is not None for item in types) > len(types) / 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("size: 'two'", None),
        ("size: true", "m.size has the type int, not bool"),
        ("size: text", "m.size has the type int, not string"),
        ("size: loose", "loose and m.size have different max_value"),
        ("size: [1]", "m.size has the type int, not array"),
        ("size: m2.outputs.x", "m.size has the type int, not string"),
    ],
)
def test_find_type_errors_returns_message(params: str, message: str | None) -> None:
    known = {
        "m.bicep": parse_template("@maxValue(3)\nparam size int\n", "m.bicep"),
        "o.bicep": parse_template("output x string = 'x'\n", "o.bicep"),
    }
    source = (
        f"param text string\nparam loose int\nmodule m2 'o.bicep' = {{\n  name: 'o'\n}}\n"
        f"module m 'm.bicep' = {{\n  name: 'm'\n  params: {{ {params} }}\n}}\n"
    )
    errors = list(find_type_errors(parse_template(source, "main.bicep"), known))
    assert message in errors if message else errors == []


def test_find_unguarded_outputs_returns_module() -> None:
    source = "module m 'm.bicep' = if (true) {\n  name: 'm'\n}\noutput x int = m.outputs.depth\n"
    assert list(find_unguarded_outputs(parse_template(source))) == ["m"]


def test_parameter_file_sets_required_parameters() -> None:
    source = (INFRA / "main.bicepparam").read_text(encoding="utf-8")
    parameters = set(re.findall(r"^param (\w+) =", source, flags=re.MULTILINE))
    required = {
        name for name, parameter in MAIN.parameters.items() if parameter.get("default") is None
    }
    assert source.startswith("using 'main.bicep'\n")
    assert required <= parameters <= set(MAIN.parameters)


def test_main_template_outputs_contain_no_secret() -> None:
    assert set(MAIN.outputs) == {
        "functionAppName",
        "functionAppUri",
        "identityPrincipalId",
        "identityClientId",
        "landingAccountName",
    }
