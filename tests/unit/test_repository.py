from __future__ import annotations

import ast
import copy
import importlib.metadata
import importlib.resources
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.compose_services import command_of, compose, our_services

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-spark.lock", "requirements-uv.lock")
PRODUCT = [
    name for name in ("ledger", "ingest", "detections", "dashboard", "issuer") if (ROOT / name).is_dir()
]
CODE = [path for name in (*PRODUCT, "tests", ".ci") for path in sorted((ROOT / name).rglob("*.py"))]


def kept_files() -> list[Path]:
    """What git keeps or would keep; without git, everything outside hidden and generated folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        names = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        hidden = {".venv", ".uv", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache", "__pycache__"}
        names = [path for path in ROOT.rglob("*") if not hidden & set(path.relative_to(ROOT).parts)]
    return [path for path in names if path.is_file()]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, set[str]]:
    """Versions by package; universal locks may hold several, told apart by markers."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#")):
            package, _, version = line.removesuffix("\\").partition(";")[0].partition("==")
            found.setdefault(canonicalize_name(package.partition("[")[0].strip()), set()).add(version.strip())
    return found


@pytest.mark.parametrize("name", [*PRODUCT, "decision_ledger"])
def test_a_package_resolves_inside_the_checkout(name: str) -> None:
    if name == "decision_ledger" and not (ROOT / "decision_ledger.py").exists():
        pytest.skip("the command is not there")
    found = importlib.util.find_spec(name)
    assert found is not None
    places = [found.origin] if found.origin else list(found.submodule_search_locations or [])
    assert places
    assert all(Path(place or "").resolve().is_relative_to(ROOT) for place in places)


def test_every_folder_of_tests_and_packages_is_a_package() -> None:
    folders = {path.parent for path in CODE if ".ci" not in path.parts}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_module_is_named_after_nothing() -> None:
    assert [path for path in CODE if path.stem in {"utils", "helpers", "common", "manager", "misc"}] == []


def test_every_ignore_has_its_reason_beside_it() -> None:
    ignore = re.compile(r"#\s*(?:noqa|type:\s*ignore|pragma: no cover)(?P<rest>.*)$")
    bare = []
    for path in CODE:
        above = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = ignore.search(line)
            if found and path != Path(__file__):
                told = re.search(r"[a-z]{2,}.* [a-z]{2,}", _words(found["rest"]))
                if not told and not above.lstrip().startswith("#"):
                    bare.append(f"{path.relative_to(ROOT)}:{number}")
            above = line
    assert bare == []


def _words(rest: str) -> str:
    return re.sub(r"^\s*(?:\[[^\]]*\]|:\s*[A-Z0-9, ]+)", "", rest)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_exact_hashed_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|--\S*index-url|--find-links|--trusted-host|@ file", text)
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s+#.*\n?", "", text, flags=re.MULTILINE).strip())
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("requirements.lock", ["build"]),
        ("requirements-dev.lock", ["build", "dev"]),
        ("requirements-spark.lock", ["spark"]),
    ],
)
def test_the_lock_holds_what_pyproject_asks_for(lock: str, groups: list[str]) -> None:
    told = pyproject()
    asked = [] if groups == ["spark"] else list(told["project"]["dependencies"])
    asked += [line for group in groups for line in told["dependency-groups"][group] if isinstance(line, str)]
    versions = locked(lock)
    for line in asked:
        requirement = Requirement(line)
        held = versions.get(canonicalize_name(requirement.name), set())
        assert held, f"{requirement.name} is not in {lock}: run make lock"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in held), line


def test_what_the_product_imports_and_what_it_declares_are_the_same() -> None:
    sources = [path for path in CODE if path.relative_to(ROOT).parts[0] in PRODUCT]
    sources += [path for path in [ROOT / "decision_ledger.py"] if path.exists()]
    sources += (ROOT / "notebooks").glob("*.py")
    imported = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {*PRODUCT, "decision_ledger"}
    by_module = importlib.metadata.packages_distributions()
    used = {canonicalize_name(by_module.get(name, [name])[0]) for name in foreign}
    project = pyproject()["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared, optional = (
        {canonicalize_name(Requirement(line).name) for line in lines}
        for lines in (project["dependencies"], extras)
    )
    assert sorted(used - declared - optional) == []
    assert sorted((declared | optional) - used) == []


def test_the_dev_lock_tests_the_versions_that_run() -> None:
    dev = locked("requirements-dev.lock")
    assert {name: dev.get(name) for name in locked("requirements.lock")} == locked("requirements.lock")


def test_no_kept_file_names_a_place_of_one_machine_or_a_registry() -> None:
    places = re.compile(r"(?<![\w./-])/(?:(?:work|root)/|home/\w+/)|[A-Z]:\\Users\\")
    # Each in two pieces, so that this file is judged as well.
    hosts = re.compile(
        "pypi" + r"\.org|python" + r"hosted|npm" + r"js\.(?:org|com)|repo1?\.maven" + r"\."
        r"|crates" + r"\.io|proxy\." + "golang"
    )
    found = []
    for path in kept_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}: {hit[0]}" for hit in (*places.finditer(text), *hosts.finditer(text))
        ]
    assert found == []


def test_no_key_and_no_ledger_is_kept() -> None:
    kept = [path.relative_to(ROOT) for path in kept_files()]
    assert [path for path in kept if path.suffix == ".key" or path.name == "ledger.json"] == []


def compose_schema() -> dict[str, Any]:
    shipped = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema: dict[str, Any] = json.loads(shipped.read_text(encoding="utf-8"))
    return schema


def test_the_compose_file_fits_the_compose_schema() -> None:
    jsonschema.validate(compose(), compose_schema())


def test_the_compose_schema_finds_a_mistake() -> None:
    broken = copy.deepcopy(compose())
    broken["services"]["ingest"]["helthcheck"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, compose_schema())


def test_compose_names_only_volumes_and_services_that_exist() -> None:
    told = compose()
    for service in told["services"].values():
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in told["volumes"]
        assert set(service.get("depends_on", {})) <= set(told["services"])


def test_compose_keeps_the_key_outside_the_ledger() -> None:
    for service in our_services().values():
        ledger, key = (service["environment"][f"DECISION_LEDGER_{name}"] for name in ("URL", "KEY"))
        assert not Path(key).is_relative_to(ledger)


def test_compose_ingests_from_the_topic_that_it_makes() -> None:
    topic = compose()["services"]["topic"]["command"]
    ingest = command_of("ingest", bootstrap="127.0.0.1:1")
    assert ingest[ingest.index("--topic") + 1] == topic[topic.index("--topic") + 1]
    assert ingest[ingest.index("--bootstrap") + 1] == "127.0.0.1:1"


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))


def named_targets(path: Path) -> set[str]:
    """`make X` inside code spans and blocks; plain prose such as "make sure" is no command."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL)
    return {name for block in blocks for name in re.findall(r"\bmake ([a-z][a-z-]*)", block)}


def test_every_target_that_the_documents_name_exists() -> None:
    pages = [path for path in kept_files() if path.suffix == ".md"]
    assert pages
    missing = {str(path.relative_to(ROOT)): named_targets(path) - targets() for path in pages}
    assert {page: names for page, names in missing.items() if names} == {}


def test_ci_runs_only_targets_that_the_readme_names() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    lines = [
        line
        for line in script.splitlines()
        if line and not line.startswith(("#", "set ", "cd ", "export ", "printf "))
    ]
    assert lines
    used = {line.removeprefix("make ").partition(" ARGS=")[0] for line in lines}
    assert all(line.startswith("make ") for line in lines)
    assert used <= named_targets(ROOT / "README.md") & targets()
    assert {"test", "check"} <= used


def test_make_help_names_every_target() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)", said, flags=re.MULTILINE)) == targets()


def test_links_between_documents_lead_somewhere() -> None:
    dead = []
    for page in (path for path in kept_files() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            place = target.partition("#")[0]
            if place and "://" not in place and not (page.parent / place).exists():
                dead.append(f"{page.relative_to(ROOT)} -> {target}")
    assert dead == []


def test_the_version_stands_in_the_changelog() -> None:
    assert f"## {pyproject()['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_product_package_is_installed_and_goes_into_the_image() -> None:
    told = pyproject()["tool"]["hatch"]["build"]["only-include"]
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    layers = pyproject()["tool"]["importlinter"]["root_packages"]
    for name in PRODUCT:
        assert name in told
        assert name in layers
        assert f"COPY {name} ./{name}" in image
        assert f"!{name}" in context


def audit_script() -> Any:
    found = importlib.util.spec_from_file_location("audit_of_the_lock", ROOT / ".ci/audit.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


FINE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "PYSEC-1"}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("records", "expected", "expected_with_warning"),
    [
        ([FINE], 0, 0),
        ([FINE, BAD], 1, 1),
        ([FINE, UNKNOWN], 3, 0),
        ([BAD, UNKNOWN], 1, 1),
        ([], 1, 1),
        ("no answer", 3, 0),
    ],
)
def test_the_audit_passes_only_what_was_looked_up(
    records: Any,
    expected: int,
    expected_with_warning: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit = audit_script()
    monkeypatch.setattr(audit, "audited", lambda lock: records)
    monkeypatch.delenv("AUDIT_UNREACHABLE", raising=False)
    assert audit.main() == expected
    monkeypatch.setenv("AUDIT_UNREACHABLE", "warn")
    assert audit.main() == expected_with_warning
    if expected == 3:
        assert "NOT DONE" in capsys.readouterr().out
