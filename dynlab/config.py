"""Service configuration: YAML `{Service: {key: value}}` and `--Service.key=value` (2025: `dynamo.sdk.lib.config`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

from dynlab.errors import ConfigError, did_you_mean, listed

__all__ = ("COMMON", "LAUNCHER_KEYS", "ServiceConfig")

COMMON = "Common"
"""Section whose keys a service takes over when its own `common-configs` lists them."""
LAUNCHER_KEYS = ("ServiceArgs", "common-configs")
"""Keys of a section that the launcher reads; a service may always have them."""

_active: ContextVar[ServiceConfig | None] = ContextVar("dynlab_service_config", default=None)


class ServiceConfig(dict[str, dict[str, Any]]):
    """What each service was told, `{service: {key: value}}`.

    In Dynamo this was one per process; here each deployment has its own, and `get_instance()` inside a
    service finds the one that its deployment was started with.
    """

    @classmethod
    def get_instance(cls) -> ServiceConfig:
        """Return the configuration of the deployment that runs this code; empty outside of one."""
        active = _active.get()
        return cls() if active is None else active

    def activate(self) -> Token[ServiceConfig | None]:
        """Make this the one that `get_instance()` returns in the current context."""
        return _active.set(self)

    def require(self, service: str, key: str) -> Any:
        """Return a value that must be there.

        Raises:
            ConfigError: if the service was not given the key.
        """
        section = self.get(service, {})
        if key not in section:
            raise ConfigError(
                f"{service}.{key} must be configured. {service} has: {listed(section)}. "
                f"Add it to the YAML file, or --{service}.{key}=VALUE.{did_you_mean(key, section)}"
            )
        return section[key]

    def for_service(self, service: str) -> dict[str, Any]:
        """Return a service's own keys, launcher keys left out and the common ones it opted into added."""
        section = self.get(service, {})
        common = self.get(COMMON, {})
        taken = {key: common[key] for key in section.get("common-configs", ()) if key in common}
        return taken | {key: value for key, value in section.items() if key not in LAUNCHER_KEYS}

    def workers(self, service: str) -> int | None:
        """Return `ServiceArgs.workers` of a service, or None.

        Raises:
            ConfigError: if it is no whole number.
        """
        args = self.get(service, {}).get("ServiceArgs", {})
        found = args.get("workers") if isinstance(args, Mapping) else args
        if found is None or (isinstance(args, Mapping) and type(found) is int):
            return found
        raise ConfigError(
            f"{service}.ServiceArgs is {args!r}; its workers must be a whole number, as in ServiceArgs: {{workers: 2}}."
        )

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path | None = None, overrides: Sequence[str] = ()) -> ServiceConfig:
        """Read a dict or a YAML file, then let `--Service.key=value` arguments replace keys.

        A value is read as JSON where it is JSON, else it is a string, as Dynamo did.

        Raises:
            ConfigError: if the file is missing or not of the form `{Service: {key: value}}`, or an override is not.
        """
        merged = cls({name: dict(section) for name, section in _checked(source).items()})
        for service, keys in _parse_overrides(overrides).items():
            merged.setdefault(service, {}).update(keys)
        return merged


def _checked(source: Mapping[str, Any] | str | Path | None) -> Mapping[str, Any]:
    where = "config"
    if isinstance(source, str | Path):
        where, source = str(source), _read_yaml(Path(source))
    if source is None:
        return {}
    if not isinstance(source, Mapping):
        raise ConfigError(
            f"{where} holds a {type(source).__name__}; write sections of keys: {{Processor: {{router: random}}}}."
        )
    for service, section in source.items():
        if not isinstance(section, Mapping):
            raise ConfigError(
                f"{where}: {service} is {section!r}; a service's section holds keys and values, "
                f"as in {service}: {{key: value}}."
            )
    return source


def _read_yaml(path: Path) -> Any:
    import yaml  # noqa: PLC0415 - most deployments read no file, and start sooner without it

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise ConfigError(
            f"Config file {path} does not exist; {path.parent} holds these YAML files: {listed(near)}."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(f"Config file {path} cannot be read as YAML: {exc}") from None


def _parse_overrides(arguments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read `--S.k=v`, `--S.k v`, `--S.k = v` and `--S.a.b=v`; several of one service merge deeply, as in Dynamo."""
    overrides: dict[str, dict[str, Any]] = {}
    rest = list(arguments)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        path = name.removeprefix("--").split(".")
        if not name.startswith("--") or len(path) < 2 or not all(path):
            raise ConfigError(f"{name!r} is no override; write --Service.key=value, as in --Processor.router=random.")
        if not equals:
            if rest[:1] == ["="]:
                rest.pop(0)
            if not rest or rest[0].startswith("-"):
                raise ConfigError(f"{name} has no value; write {name}=VALUE.")
            text = rest.pop(0)
        keys: Any = overrides
        for depth, part in enumerate(path[:-1], start=1):
            keys = keys.setdefault(part, {})
            if not isinstance(keys, dict):
                above = ".".join(path[:depth])
                raise ConfigError(
                    f"{name}={text} needs {above} to hold keys, but it is {keys!r}; leave one of them out."
                )
        keys[path[-1]] = _value(text)
    return overrides


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
