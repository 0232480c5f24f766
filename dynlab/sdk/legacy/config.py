"""`dynamo.sdk.lib.config` of 2025: the same configuration, and a service's section as command line arguments."""

from __future__ import annotations

import json
from typing import Any

from dynlab import config

__all__ = ("ServiceConfig",)


class ServiceConfig(config.ServiceConfig):
    """What each service was told; see `dynlab.config.ServiceConfig`."""

    @classmethod
    def get_instance(cls) -> ServiceConfig:
        """Return the configuration of the deployment that runs this code; empty outside of one."""
        return cls(super().get_instance())

    @classmethod
    def get_parsed_config(cls, service_name: str) -> dict[str, Any]:
        """Return a service's own keys, with the `Common` ones that it opted into (0.3)."""
        return cls.get_instance().for_service(service_name)

    def as_args(self, service_name: str, prefix: str = "") -> list[str]:
        """Return a service's keys that begin with `prefix`, without it, as arguments: `--key value`.

        True is the option alone, False is left out, a dict is JSON.
        """
        arguments: list[str] = []
        for key, value in self.for_service(service_name).items():
            if not key.startswith(prefix) or value is False:
                continue
            arguments.append(f"--{key.removeprefix(prefix)}")
            if value is not True:
                arguments.append(json.dumps(value) if isinstance(value, dict) else str(value))
        return arguments
