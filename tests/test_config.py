"""`dynlab.config`: a YAML file, arguments that override it, and what a service reads of the two."""

from __future__ import annotations

import contextvars
from pathlib import Path
from typing import Any

import pytest

from dynlab.config import COMMON, ServiceConfig
from dynlab.errors import ConfigError

MULTI_WORKER = """\
# examples/multinode, configs/multi_worker.yaml
Processor:
  router: round-robin
  min_worker: 2
  ServiceArgs:
    workers: 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "multi_worker.yaml"
    path.write_text(MULTI_WORKER, encoding="utf-8")
    return path


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", [str, Path])
def test_a_yaml_file_is_sections_of_keys(file: Path, kind: type) -> None:
    """A file is read as `{Service: {key: value}}`, given as a path or as its name."""
    expected = {"Processor": {"router": "round-robin", "min_worker": 2, "ServiceArgs": {"workers": 3}}}

    assert expected == ServiceConfig.load(kind(file))


def test_nothing_configured_is_an_empty_config() -> None:
    """Neither a file nor arguments are needed."""
    assert {} == ServiceConfig.load()


def test_an_empty_file_is_an_empty_config(tmp_path: Path) -> None:
    """A file with nothing but comments configures nothing."""
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n", encoding="utf-8")

    assert {} == ServiceConfig.load(path)


def test_loading_leaves_the_source_alone() -> None:
    """Overrides go into the loaded config, not into the dict it was loaded from."""
    source = {"Processor": {"router": "random"}}

    loaded = ServiceConfig.load(source, ["--Processor.router=direct"])

    assert {"Processor": {"router": "direct"}} == loaded
    assert {"Processor": {"router": "random"}} == source


def test_a_missing_file_is_met_with_those_that_are_there(file: Path) -> None:
    """The sentence lists the YAML files of the folder."""
    with pytest.raises(
        ConfigError, match=r"single\.yaml does not exist; .* holds these YAML files: multi_worker\.yaml"
    ):
        ServiceConfig.load(file.with_name("single.yaml"))


@pytest.mark.parametrize("content", [b"Processor: {router: [}", b"\xff\xfe\xff"], ids=["not YAML", "not UTF-8"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes) -> None:
    """What is no YAML is a ConfigError that names the file."""
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"broken\.yaml cannot be read as YAML"):
        ServiceConfig.load(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder in place of a file is a ConfigError too."""
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        ServiceConfig.load(tmp_path)


def test_yaml_builds_no_objects(tmp_path: Path) -> None:
    """A file cannot run code: tags for Python objects are refused."""
    path = tmp_path / "evil.yaml"
    path.write_text("Processor: {x: !!python/object/apply:os.getcwd []}\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        ServiceConfig.load(path)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"Processor": "random"}, "config: Processor is 'random'; a service's section holds keys and values"),
        ({"Processor": None}, "config: Processor is None; a service's section holds keys and values"),
        (["Processor"], "config holds a list; write sections of keys"),
    ],
    ids=repr,
)
def test_another_form_is_refused(source: Any, sentence: str) -> None:
    """A section that is no mapping is refused, and the sentence shows the form."""
    with pytest.raises(ConfigError, match=sentence):
        ServiceConfig.load(source)


# ---------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    "arguments",
    [["--Processor.router=random"], ["--Processor.router", "random"], ["--Processor.router", "=", "random"]],
    ids=" ".join,
)
def test_an_argument_replaces_a_key(file: Path, arguments: list[str]) -> None:
    """`--S.k=v`, `--S.k v` and `--S.k = v` mean the same, and leave the other keys of the file alone."""
    section = ServiceConfig.load(file, arguments)["Processor"]

    assert ("random", 2) == (section["router"], section["min_worker"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("-2", -2),
        ("0.5", 0.5),
        ("true", True),
        ("True", True),
        ("False", False),
        ("null", None),
        ("None", None),
        ('["a", 1]', ["a", 1]),
        ('{"a": 1}', {"a": 1}),
        ('"2"', "2"),
        ("round-robin", "round-robin"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_a_value_is_json_where_it_can_be(text: str, value: Any) -> None:
    """Numbers, booleans, null, lists and objects are read as such; all else is a string."""
    found = ServiceConfig.load(None, [f"--S.k={text}"])["S"]["k"]

    assert value == found
    assert type(value) is type(found)


def test_a_dotted_key_goes_deep() -> None:
    """`--S.a.b=v` makes `{"a": {"b": v}}`, and several of one service merge."""
    overrides = ["--S.a.b=1", "--S.a.c", "2", "--S.d=3", "--T.e=4"]

    assert {"S": {"a": {"b": 1, "c": 2}, "d": 3}, "T": {"e": 4}} == ServiceConfig.load(None, overrides)


def test_an_override_replaces_a_whole_key_of_the_file(file: Path) -> None:
    """As in Dynamo the file and the arguments do not merge below the first level of keys."""
    loaded = ServiceConfig.load(file, ["--Processor.ServiceArgs.resources.gpu=1"])

    assert {"resources": {"gpu": 1}} == loaded["Processor"]["ServiceArgs"]


def test_the_last_of_two_overrides_wins() -> None:
    """The same key twice: the later argument counts."""
    assert {"S": {"k": 2}} == ServiceConfig.load(None, ["--S.k=1", "--S.k=2"])


@pytest.mark.parametrize("arguments", [["--S.a=1", "--S.a.b=2"], ["--S.a=text", "--S.a.b.c=2"]], ids=" ".join)
def test_a_value_cannot_also_have_keys(arguments: list[str]) -> None:
    """`--S.a=1 --S.a.b=2` contradicts itself; the sentence says where."""
    with pytest.raises(ConfigError, match=r"--S\.a\.b.*=2 needs S\.a to hold keys, but it is"):
        ServiceConfig.load(None, arguments)


@pytest.mark.parametrize(
    "argument", ["router=random", "-S.k=1", "--router=random", "--S.=1", "--.k=1", "--S..k=1", "x"]
)
def test_what_is_no_override_is_refused(argument: str) -> None:
    """An argument without `--`, service or key is refused, and the sentence shows an example."""
    with pytest.raises(ConfigError, match=r"is no override; write --Service\.key=value, as in --Processor\.router"):
        ServiceConfig.load(None, [argument])


@pytest.mark.parametrize("arguments", [["--S.k"], ["--S.k", "--S.l=1"], ["--S.k", "-1"], ["--S.k", "="]], ids=" ".join)
def test_an_override_needs_a_value(arguments: list[str]) -> None:
    """Nothing, or something that begins with a dash, is no value."""
    with pytest.raises(ConfigError, match=r"--S\.k has no value; write --S\.k=VALUE"):
        ServiceConfig.load(None, arguments)


# ---------------------------------------------------------------------------- reading


def test_a_service_takes_over_the_common_keys_it_lists() -> None:
    """Of the section `Common` a service gets the keys in its `common-configs`, and its own value where it has one."""
    config = ServiceConfig.load(
        {
            COMMON: {"model": "tiny", "block-size": 16, "port": 1},
            "Worker": {"common-configs": ["model", "block-size", "absent"], "block-size": 64, "ServiceArgs": {}},
            "Processor": {"router": "random"},
        }
    )

    assert {"model": "tiny", "block-size": 64} == config.for_service("Worker")
    assert {"router": "random"} == config.for_service("Processor")
    assert {} == config.for_service("Frontend")


def test_the_launchers_keys_are_not_the_services(file: Path) -> None:
    """`ServiceArgs` is for whoever starts the service."""
    config = ServiceConfig.load(file)

    assert {"router": "round-robin", "min_worker": 2} == config.for_service("Processor")
    assert 3 == config.workers("Processor")
    assert config.workers("Frontend") is None


@pytest.mark.parametrize("args", [{"workers": "many"}, {"workers": 1.5}, "workers", 3], ids=repr)
def test_workers_must_be_a_whole_number(args: Any) -> None:
    """`ServiceArgs` of another form is a ConfigError that shows the form."""
    config = ServiceConfig.load({"Worker": {"ServiceArgs": args}})

    with pytest.raises(ConfigError, match=r"Worker\.ServiceArgs.* whole number, as in .*workers: 2"):
        config.workers("Worker")


def test_a_required_key_is_returned(file: Path) -> None:
    """`require` gives the value of a key that is there."""
    assert 2 == ServiceConfig.load(file).require("Processor", "min_worker")


def test_a_required_key_that_is_missing_is_named(file: Path) -> None:
    """The sentence says what the section has, how to add the key, and what was perhaps meant."""
    with pytest.raises(
        ConfigError,
        match=r"Processor\.min_workers must be configured\. Processor has: router, min_worker, ServiceArgs\. "
        r"Add it to the YAML file, or --Processor\.min_workers=VALUE\. Did you mean 'min_worker'\?",
    ):
        ServiceConfig.load(file).require("Processor", "min_workers")


def test_each_context_has_its_own_config() -> None:
    """`get_instance` finds the config of the deployment that runs the code, and an empty one outside of any."""
    ours, other = ServiceConfig.load({"S": {"k": 1}}), ServiceConfig.load({"S": {"k": 2}})

    def activated(config: ServiceConfig) -> ServiceConfig:
        config.activate()
        return ServiceConfig.get_instance()

    assert ours is contextvars.copy_context().run(activated, ours)
    assert other is contextvars.copy_context().run(activated, other)
    assert {} == ServiceConfig.get_instance()
