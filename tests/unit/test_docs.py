"""The documentation says what the code does: nothing undocumented, nothing out of date, no dead link."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import jsonschema
import orjson
import pytest

from ingest.adapters import adapter
from ingest.adapters.cloudevents import CloudEventsOptions
from ingest.adapters.envoy import EnvoyOptions
from ingest.adapters.kubernetes import KubernetesOptions
from ingest.adapters.mapping import FieldRule, Sourced
from ingest.adapters.opa_options import OpaOptions, PathRule
from ingest.adapters.ssf_options import SsfOptions, Transmitter
from ingest.authority import Intake
from ingest.decoded import Limits
from ingest.defaults import BATCH_ROWS, FORMATS
from ingest.intakes import read_intake
from ingest.pipeline import Pipeline
from ingest.routes import KafkaPart, TopicLine
from ingest.sources.files import decompress
from ingest.sources.files import paths as file_paths
from ingest.sources.files import reader as file_reader
from ingest.sources.files import source as files
from ingest.sources.files.source import FileSource
from ingest.sources.kafka import settings as kafka_settings
from ingest.sources.kafka.settings import KafkaSettings
from issuer.scenarios.catalogue import play
from ledger import defaults as ledger_defaults
from ledger.events import DEAD_LETTER_SCHEMA, FIELDS, KINDS, json_schema_text
from ledger.format import manifest, merkle
from ledger.log.signing import SigningKey, create_key, default_key_path
from ledger.query import engine as query
from ledger.query import evidence, trace
from ledger.reader import Ledger
from ledger.sealing import seen_events as dedup
from ledger.settings.yaml_file import read_yaml
from ledger.storage.local_store import LocalStore
from ledger.upkeep import merge_plan
from ledger.verify import findings
from ledger.writer import Writer, create_ledger
from tests.faults.ledger_maker import START

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = DOCS / "commands.md"
FORMAT = DOCS / "ledger-format.md"
PLATFORM = DOCS / "guide/platform-engineer.md"
RESPONDER = DOCS / "guide/responder.md"
AUDITOR = DOCS / "guide/auditor.md"
VARIABLE = re.compile(r"(?:DECISION_LEDGER|AWS|XDG|KAFKA)_[A-Z0-9_]*[A-Z0-9]")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def rows_of(page: Path) -> set[str]:
    """What stands in backticks at the beginning of a table's rows."""
    cells = re.findall(r"^\| ((?:`[^`]+`(?:, )?)+) \|", text_of(page), flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`(]+)", cell)}


def load(name: str) -> ModuleType:
    # By its place: installed packages called `docs` exist.
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load("generate")
COMMAND_LIST: list[tuple[tuple[str, ...], Any]] = list(generator.commands(generator.program()))


def options_of(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if generator.is_option(parameter)]


# --- generated pages ---


@pytest.mark.parametrize("name", generator.PAGES)
def test_a_generated_part_is_what_its_generator_makes(name: str) -> None:
    page = DOCS / name
    assert generator.renewed(text_of(page)) == text_of(page), "run make docs"


def test_the_event_schema_is_what_its_generator_makes() -> None:
    assert text_of(DOCS / "event-schema.json") == json_schema_text(), "run make docs"


@pytest.mark.parametrize(("path", "text"), generator.registry_schemas().items())
def test_the_schemas_of_registry_files_are_those_of_the_code_and_fit_the_example(
    path: str, text: str
) -> None:
    assert text_of(DOCS / path) == text, "run make docs"
    name = f"{Path(path).stem}.yml"
    jsonschema.validate(read_yaml(ROOT / "issuer/example" / name).value, json.loads(text))


def test_the_picture_of_each_curve_is_what_its_figures_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    pictures = generator.curve_plots()
    assert {path: text_of(DOCS / path) for path in pictures} == pictures, "run make docs"
    assert {path.name for path in DOCS.glob("pictures/curve-*.svg")} == {Path(path).name for path in pictures}


def test_a_part_that_nobody_makes_is_refused() -> None:
    with pytest.raises(KeyError):
        generator.renewed("<!-- generated: nothing -->\n<!-- end -->\n")


# --- commands, options, variables ---


@pytest.mark.parametrize(("words", "command"), COMMAND_LIST, ids=[" ".join(w) for w, _ in COMMAND_LIST])
def test_a_command_is_documented_with_an_example_and_all_its_options(
    words: tuple[str, ...], command: Any
) -> None:
    page = text_of(COMMANDS)
    _, found, rest = page.partition(f"\n## {' '.join(words)}\n")
    assert found
    section = rest.partition("\n## ")[0]
    assert f"decision-ledger {' '.join(words)} " in section
    assert blocks(COMMANDS, "sh")
    assert "\nExample: decision-ledger " in "\n" + re.sub(r"\n +", "\n", command.help or "")
    for option in options_of(command):
        assert option.help, option.name
        for name in option.opts:
            assert f"`{name}`" in section
        assert f"`{generator.variable(words, option)}`" in section
        assert f"`{generator.config_key(words, option)}`" in section


def test_options_before_the_command_are_documented() -> None:
    page = text_of(COMMANDS)
    for option in options_of(generator.program()):
        assert option.help, option.name
        assert all(f"`{name}`" in page for name in option.opts)


def product_files() -> Iterator[Path]:
    yield ROOT / "decision_ledger.py"
    for package in ("ledger", "ingest"):
        yield from sorted((ROOT / package).rglob("*.py"))


def test_every_variable_of_the_environment_is_documented() -> None:
    page = text_of(COMMANDS)
    asked = {
        node.value
        for path in product_files()
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value)
    }
    assert "DECISION_LEDGER_KEY" in asked
    assert sorted(name for name in asked if f"`{name}`" not in page) == []


def test_the_configuration_example_holds_keys_that_exist() -> None:
    known = {
        generator.config_key(words, option)
        for words, command in [((), generator.program()), *COMMAND_LIST]
        for option in options_of(command)
    }
    (example,) = blocks(COMMANDS, "toml")

    def keys(value: dict[str, Any], place: str = "") -> Iterator[str]:
        for name, part in value.items():
            if isinstance(part, dict):
                yield from keys(part, f"{place}{name}.")
            else:
                yield place + name

    assert set(keys(tomllib.loads(example))) <= known


def shell_lines() -> list[tuple[str, str]]:
    lines = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in re.sub(r"\n +", " ", block).splitlines():
                _, found, rest = line.partition("decision-ledger ")
                if found and not line.startswith("#"):
                    lines.append((page.name, rest))
    return lines


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_a_command_line_in_the_documents_names_what_exists(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    whole = generator.program()
    command, known = whole, {name for option in options_of(whole) for name in option.opts}
    known |= {"--help"}
    takes_value = {name for o in options_of(whole) if not o.is_flag for name in o.opts}
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-") and word != "-":
            assert word in known, f"{page}: decision-ledger {line}"
            skip = word in takes_value
        elif getattr(command, "commands", None):
            assert word in command.commands, f"{page}: decision-ledger {line}"
            command = command.commands[word]
            known = known | {name for option in options_of(command) for name in option.opts}
            takes_value |= {name for o in options_of(command) if not o.is_flag for name in o.opts}
    assert not getattr(command, "commands", None) or "--help" in words, f"{page}: {line} calls no command"


# --- settings of an intake ---


def test_every_setting_of_an_intake_is_documented() -> None:
    documented = rows_of(PLATFORM)
    assert set(Intake.model_fields) <= documented
    assert {field.name for field in dataclasses.fields(Limits)} <= documented
    assert set(OpaOptions.model_fields) <= documented
    assert all(f"`{name}`" in text_of(PLATFORM) for name in PathRule.model_fields)
    assert all(f"`{name}`" in text_of(PLATFORM) for name in FORMATS)
    assert all(
        f"`{name}`" in text_of(PLATFORM)
        for name in (
            *Sourced.model_fields,
            *FieldRule.model_fields,
            *KubernetesOptions.model_fields,
            *EnvoyOptions.model_fields,
            *SsfOptions.model_fields,
            *Transmitter.model_fields,
            *CloudEventsOptions.model_fields,
            *KafkaPart.model_fields,
            *TopicLine.model_fields,
        )
    )


def test_the_limits_stand_with_their_defaults() -> None:
    page = text_of(PLATFORM)
    for field in dataclasses.fields(Limits):
        assert f"| `{field.name}` | {field.default:,} |" in page


def test_the_intake_example_is_read(tmp_path: Path) -> None:
    example = next(block for block in blocks(PLATFORM, "toml") if "[intake]" in block)
    path = tmp_path / "intake.toml"
    path.write_text(example, encoding="utf-8")
    settings = read_intake(path, "x")
    assert settings.intake.name == "opa-prod"
    assert adapter("opa", settings.options).name == "opa"
    given = tomllib.loads(example)
    assert set(given["intake"]) == set(Intake.model_fields) - {"options"}
    assert set(given["options"]) == set(OpaOptions.model_fields)


def test_the_kafka_client_settings_are_documented() -> None:
    page = text_of(PLATFORM)
    for name in (*kafka_settings._CLIENT_PREFIXES, *kafka_settings._NOT_BY_VALUE):
        assert f"`{name}`" in page
    example = next(block for block in blocks(PLATFORM, "toml") if "sasl_" in block)
    KafkaSettings("broker:9092", ("decisions",), client=tomllib.loads(example))


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (PLATFORM, f"default {BATCH_ROWS:,}"),
        (PLATFORM, f"{kafka_settings.CREDIT_BYTES >> 20} MiB of messages"),
        (PLATFORM, f"after {kafka_settings.SESSION_TIMEOUT_MILLISECONDS // 1000} seconds"),
        (PLATFORM, f"away for {kafka_settings.OUTAGE_SECONDS:.0f} seconds"),
        (PLATFORM, f"{decompress.Bounds().ratio:,} times"),
        (PLATFORM, f"{decompress.Bounds().ratio_from_bytes >> 20} MiB came out"),
        (PLATFORM, f"{decompress.MAX_ZSTD_WINDOW_BYTES >> 20} MiB"),
        (PLATFORM, f"| first line | {file_reader.MAX_FIRST_LINE_BYTES >> 20} MiB |"),
        (PLATFORM, f"| files followed at once | {files.MAX_FOLLOWED_FILES:,} |"),
        (PLATFORM, f"| files of one run | {file_paths.MAX_FILES:,} |"),
        (PLATFORM, f"up to {merge_plan.TARGET_ROWS:,} rows"),
        (PLATFORM, f"{ledger_defaults.GRACE_SECONDS} seconds of ledger time"),
        (FORMAT, f"up to {merge_plan.TARGET_ROWS:,} rows"),
        (FORMAT, f"Our default is\n{ledger_defaults.GRACE_SECONDS}."),
        (FORMAT, f"{dedup.HORIZON_DAYS} days and {dedup.MAX_EVENTS:,} events"),
        (FORMAT, f"at most {manifest.MAX_ENTRY_BYTES:,} bytes"),
        (FORMAT, f"At most {manifest.MAX_SEGMENTS_PER_ENTRY} segments"),
        (FORMAT, evidence.FORMAT),
        (RESPONDER, f"at most {evidence.MAX_EVENTS:,}\nevents"),
        (RESPONDER, f"{trace.MAX_TRACE_EVENTS:,} events"),
        (RESPONDER, f"take {query.QueryLimits().seconds:.0f} seconds"),
    ],
)
def test_a_figure_in_the_documents_is_that_of_the_code(page: Path, said: str) -> None:
    assert said in text_of(page)


def test_the_suffixes_of_folders_are_documented() -> None:
    assert all(f"`{suffix}`" in text_of(PLATFORM) for suffix in file_paths.SUFFIXES)


# --- events, views, entries, findings ---


def test_every_event_field_and_kind_is_documented() -> None:
    documented = rows_of(DOCS / "event-model.md")
    assert {field.name for field in FIELDS} <= documented
    assert set(KINDS) <= documented


def test_every_view_and_macro_is_documented() -> None:
    documented = rows_of(RESPONDER)
    assert set(query.VIEWS) <= documented
    macros = {re.findall(r"MACRO (\w+)\(", macro)[0] for macro in query._MACROS}
    assert macros <= documented


def test_every_column_of_a_dead_letter_is_documented() -> None:
    assert all(f"`{name}`" in text_of(FORMAT) for name in DEAD_LETTER_SCHEMA.names)


@pytest.mark.parametrize("entry", get_args(manifest.Entry), ids=lambda entry: entry.__name__)
def test_every_field_of_an_entry_is_documented(entry: Any) -> None:
    page = text_of(FORMAT)
    assert f"`{entry.model_fields['kind'].default}`" in page
    parts = [entry, *(p for p in parts_of_entries() if p.__name__ in str(entry.model_fields))]
    for part in parts:
        for name, field in part.model_fields.items():
            written = field.alias or name
            assert f"`{written}`" in page or f'"{written}":' in page, f"{part.__name__}.{written}"


def parts_of_entries() -> list[Any]:
    return [
        manifest.SegmentRef, manifest.DeadLetterRef, manifest.OffsetsRow, manifest.Replay, manifest.HeldRows,
        manifest.CompactedFile, manifest.ErasedRows, manifest.RetentionClass, manifest.HoldMatch,
    ]  # fmt: skip


def test_every_kind_of_finding_is_documented() -> None:
    assert set(get_args(findings.DamageKind)) <= set(
        re.findall(r"`([a-z-]+)`", text_of(DOCS / "runbooks/damage.md"))
    )
    assert set(get_args(findings.ListedKind)) <= set(re.findall(r"`([a-z-]+)`", text_of(AUDITOR)))


# --- links and indexes ---


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")


def test_every_link_leads_to_a_page_and_a_heading() -> None:
    dead = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
            if "://" in target:
                continue
            place, _, anchor = target.partition("#")
            other = page.parent / place if place else page
            if not other.exists():
                dead.append(f"{page.relative_to(ROOT)} -> {target}")
            elif anchor:
                headings = re.findall(r"^#+ (.*)$", text_of(other), flags=re.MULTILINE)
                if anchor not in {slug(heading) for heading in headings}:
                    dead.append(f"{page.relative_to(ROOT)} -> {target}")
    assert dead == []


@pytest.mark.parametrize("folder", ["adr", "runbooks"])
def test_an_index_names_every_page_of_its_folder(folder: str) -> None:
    index = text_of(DOCS / folder / "README.md")
    pages = {page.name for page in (DOCS / folder).glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" not in index} == set()


# --- what the guides tell people to run ---


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder that holds `ledger`, and the id of an event in it."""
    place = tmp_path_factory.mktemp("guide")
    played = play("delegated-abuse", 7, rate=4, start=START)
    events = played.events
    wire = place / "day.jsonl"
    wire.write_bytes(b"".join(orjson.dumps(event) + b"\n" for event in events) + b"not JSON\n")
    key_path = default_key_path(place / "decision-ledger")
    create_key(key_path, "docs.example/guide")
    store, key = LocalStore(place / "decision-ledger"), SigningKey(key_path)
    create_ledger(store, key)
    writer = Writer(store, key, name="docs")
    intake = read_intake(None, "docs").intake
    source = FileSource([str(wire)], lambda _: None)
    now = START.replace(month=12)
    Pipeline(source, adapter("native"), writer, intake=intake, clock=lambda: now).run()
    (trace,) = played.truth["incidents"][0]["trace_ids"]
    denied = next(e for e in events if e.get("trace_id") == trace and e.get("decision") == "deny")
    return place / "decision-ledger", f"{denied['source']}#{denied['event_id']}"


SQL = [block for page in sorted((DOCS / "guide").glob("*.md")) for block in blocks(page, "sql")]
RUNBOOK_SQL = [block for page in sorted((DOCS / "runbooks").glob("*.md")) for block in blocks(page, "sql")]


@pytest.mark.parametrize("statement", [*SQL, *RUNBOOK_SQL])
def test_the_sql_of_the_guides_runs(sealed: tuple[Path, str], statement: str) -> None:
    with Ledger.open(str(sealed[0])) as opened:
        assert opened.sql(statement).num_columns


def test_the_sql_of_the_guides_finds_something(sealed: tuple[Path, str]) -> None:
    with Ledger.open(str(sealed[0])) as opened:
        found = [opened.sql(statement).num_rows > 0 for statement in SQL]
    # What looks for faults, or for a credential by name, finds none in a good day.
    assert sum(found) >= len(SQL) - 3


def test_the_notebook_of_the_guide_runs(
    sealed: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sealed[0].parent)
    (cell,) = blocks(RESPONDER, "python")
    exec(compile(cell, "responder.md", "exec"), {})  # noqa: S102 - the guide's own text is what is tested
    assert re.fullmatch(r"[1-9]\d* denies at size 2\n", capsys.readouterr().out)


@pytest.fixture(scope="module")
def auditor() -> dict[str, Any]:
    (cell,) = blocks(AUDITOR, "python")
    assert not re.search(r"^(?:from|import) (?:ledger|ingest)", cell, flags=re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(cell, "auditor.md", "exec"), names)  # noqa: S102 - the guide's own text is what is tested
    return names


def test_the_auditors_own_verifier_accepts_evidence(
    sealed: tuple[Path, str], auditor: dict[str, Any]
) -> None:
    with Ledger.open(str(sealed[0])) as opened:
        bundle = json.loads(opened.evidence(sealed[1]))
        vkey = opened.state.key.text
    (event,) = auditor["check_bundle"](bundle, vkey)
    assert f"{event['source']}#{event['event_id']}" == sealed[1]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 13, 33])
def test_the_auditors_own_path_leads_to_the_root(auditor: dict[str, Any], size: int) -> None:
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(size)]
    for index, leaf in enumerate(leaves):
        path = merkle.inclusion_proof(leaves, index)
        assert auditor["root_of"](leaf, index, size, path) == merkle.root(leaves)
        with pytest.raises(ValueError, match="path"):
            auditor["root_of"](leaf, index, size, [*path, leaf])
        if path:
            with pytest.raises(ValueError, match="path"):
                auditor["root_of"](leaf, index, size, path[:-1])


@pytest.mark.parametrize("damage", ["event", "manifest", "signature", "key"])
def test_the_auditors_own_verifier_refuses_changed_evidence(
    sealed: tuple[Path, str], auditor: dict[str, Any], damage: str
) -> None:
    with Ledger.open(str(sealed[0])) as opened:
        bundle = json.loads(opened.evidence(sealed[1]))
        vkey = opened.state.key.text
    entry = bundle["entries"][0]
    if damage == "event":
        bundle["events"][0]["event"] = bundle["events"][0]["event"].replace("deny", "allow")
    elif damage == "manifest":
        entry["manifest"] = entry["manifest"].replace('"docs"', '"dogs"')
    elif damage == "signature":
        entry["tlog_proof"] = entry["tlog_proof"].replace("\n2\n", "\n3\n")
    else:
        vkey = SigningKey(other_key(sealed[0])).signer.vkey
    with pytest.raises(Exception, match=r"key did not sign|not in|does not fit|^$"):
        auditor["check_bundle"](bundle, vkey)


def other_key(folder: Path) -> Path:
    path = folder.with_name("other.key")
    if not path.exists():
        create_key(path, "docs.example/guide")
    return path


@pytest.mark.parametrize("package", ["ledger", "issuer", "detections", "dashboard"])
def test_every_room_is_in_the_page_on_the_architecture(package: str) -> None:
    page = text_of(DOCS / "architecture.md")
    rooms = {
        path.stem if path.suffix == ".py" else path.name
        for path in (ROOT / package).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__"}
    (table,) = re.findall(rf"## Rooms of `{package}/`.*?(?=\n## |\Z)", page, flags=re.DOTALL)
    named = [name for line in table.splitlines() if line.startswith("| `") for name in
             re.findall(r"`([a-z_]+)`", line.split("|")[1])]  # fmt: skip
    assert sorted(named) == sorted(rooms)


def test_the_figures_of_the_page_on_performance_are_those_that_were_measured() -> None:
    assert generator.performance_table() in text_of(DOCS / "performance.md")


def test_each_row_of_the_threat_model_links_to_tests_that_are_there() -> None:
    rows = [
        line
        for line in text_of(DOCS / "threat-model.md").splitlines()
        if line.startswith("| ") and "---" not in line and "the test |" not in line
    ]
    assert len(rows) > 20
    for row in rows:
        links = re.findall(r"\[([^\]]+)\]\(\.\./(tests/[^)]+\.py)\)", row)
        assert links, row
        for words, path in links:
            name = "def test_" + words.replace(" ", "_") + "("
            assert name in text_of(DOCS.parent / path), (words, path)
