"""What a `MockEngine` has, and how long it takes (Dynamo: `MockEngineArgs`, lib/mocker/src/common/protocols.rs)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar

from dynlab.errors import ConfigError
from dynlab.kv.blocks import BLOCK_SIZE

__all__ = ("MockEngineArgs",)


@dataclass(frozen=True)
class MockEngineArgs:
    """What an engine has, in the words of Dynamo's mocker, and how long it takes, in seconds at speed 1.

    The times are near those of the mocker's built-in model: 16.5 ms and 15 us a token to prefill, 6 ms for a decode
    step, and 0.2 ms for each request in it. `speedup_ratio` is how many times as fast as real time a live engine
    runs; in virtual time it means nothing.

    Raises:
        ConfigError: if it could not serve anything, or would go back in time.
    """

    # Where they come from a service's configuration, pydantic reads this: a misspelt key is an error, as everywhere.
    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    num_gpu_blocks: int = 16_384
    block_size: int = BLOCK_SIZE
    max_num_seqs: int = 256
    enable_prefix_caching: bool = True
    prefill_base_s: float = 0.0165
    prefill_s_per_token: float = 0.000_015
    itl_base_s: float = 0.006
    itl_per_seq_s: float = 0.000_2
    speedup_ratio: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith(("_s", "_token")):
                if not 0 <= value < math.inf:
                    raise ConfigError(f"{field.name}={value!r} must be a number of seconds, 0 or more.")
            elif field.name == "speedup_ratio":
                if not 0 < value < math.inf:
                    raise ConfigError(f"speedup_ratio={value!r} must be a number above 0; 1.0 is real time.")
            elif value < 1 and field.name != "enable_prefix_caching":
                raise ConfigError(f"{field.name}={value!r} must be 1 or more.")

    def with_block_size(self, block_size: int) -> MockEngineArgs:
        """Return these args for an engine whose KV routers reckon with such blocks; the default size gives way.

        Raises:
            ConfigError: if blocks of another size were asked for: the routers would find nothing.
        """
        if self.block_size not in (BLOCK_SIZE, block_size):
            raise ConfigError(
                f"The engine has block_size={self.block_size}, but KV routers reckon with blocks of {block_size} "
                "tokens here, and would find nothing. Set it for both: "
                f"serve(..., kv={{'block_size': {self.block_size}}})."
            )
        return replace(self, block_size=block_size)
