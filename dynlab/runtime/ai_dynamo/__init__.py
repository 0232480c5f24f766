"""The same surface on the real engine: `ai-dynamo-runtime` 1.6.1, Dynamo's Rust runtime with its Python binding.

Instances are threads as on the local runtime; but they are found by Dynamo's discovery, and requests and answers
travel over Dynamo's TCP request plane. Linux only: there are no wheels for other systems.
"""

from dynlab.runtime.ai_dynamo.runtime import AiDynamoPlanes, AiDynamoRuntime

__all__ = ("AiDynamoPlanes", "AiDynamoRuntime")
