"""What was published of KV-aware routing in Dynamo, as data for notebook 08: two claims, and a rebuttal in two points.

A: ai-dynamo/dynamo, docs/architecture, "KV aware routing": 100,000 queries, a 70B model on 2 nodes of H100; "3x".
B: ai-dynamo/dynamo, docs/benchmarks/kv-router-ab-testing.md, "Example Comparison": Qwen3-32B, Mooncake's tool-agent
   trace at 5.3 requests a second, 59 % of it cached; in the mean, 63.652 s against 2.586 s, "24.6x".
C and D: michelecampi.github.io, 27 June 2026, on Dynamo 1.2.0: Qwen3-8B, 1,000 requests of a Mooncake trace, three
   runs. With 2 workers the KV router answered 429 of 3,000 with 503, round robin none; with 4 and 8 nobody did.
"""

from dynlab.views.load_sweep import Claim

__all__ = ("CLAIMS",)

CLAIMS = (
    Claim("A", "Dynamo's architecture page", "random", factor=3.0),
    Claim("B", "Dynamo's A/B guide, 8 workers", "round-robin", what="p99 TTFT", ttft_s=(332.974, 17.871)),
    Claim(
        "C",
        "M. Campi, 2 workers",
        "round-robin",
        what="mean TTFT of those answered",
        ttft_s=(16.946, 4.541),
        dropped=(0.0, 0.143),
    ),
    Claim("D", "M. Campi, 8 workers", "round-robin", what="median TTFT", ttft_s=(0.197, 0.339), dropped=(0.0, 0.0)),
)
