"""main.bicep and its modules fit: nothing is passed that is not declared, nothing is told that nobody asks for."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import pytest

from tests.infra.bicep import INFRA, Template, body, parse, templates

MAIN = templates()["main.bicep"]
MISSING = "metadata name = 'M'\nmetadata description = 'M.'\n"


def modules_of(template: Template) -> Iterator[tuple[str, str, set[str]]]:
    """Symbol, path of the file and names of what is passed."""
    folder = PurePosixPath(template.name).parent
    for symbol, module in template.modules.items():
        yield symbol, str(folder / module["detail"]["path"]), set(body(module["config"]).get("params", {}))


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
        yield from (f"{symbol} does not tell {name}" for name in sorted(asked - set(known[path].outputs)))
        yield from (f"nobody asks {symbol} for {name}" for name in sorted(set(known[path].outputs) - asked))


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


@pytest.mark.parametrize(("planted", "told"), [
    ("module m 'other.bicep' = {\n  name: 'm'\n}\n", "m: there is no other.bicep"),
    ("module m 'm.bicep' = {\n  name: 'm'\n}\n", "m is not given size"),
    ("module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1, colour: 2 }\n}\n", "m does not know colour"),
    ("module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1 }\n}\noutput x int = m.outputs.depth\n", "m does not tell depth"),
    ("module m 'm.bicep' = {\n  name: 'm'\n  params: { size: 1 }\n}\n", "nobody asks m for height"),
])
def test_a_module_that_does_not_fit_is_found(planted: str, told: str) -> None:
    known = {"m.bicep": parse(MISSING + "param size int\nparam spare int = 1\noutput height int = size\n", "m.bicep")}
    assert told in list(misfits(parse(planted, "main.bicep"), known))


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
        "functionAppName", "functionAppUri", "identityPrincipalId", "identityClientId", "landingAccountName"}
