"""A front that names an interface, and two services that implement it, in the words of 0.3."""

from dynamo.sdk import (
    AbstractService,
    abstract_endpoint,
    api,
    async_on_start,
    depends,
    dynamo_context,
    endpoint,
    on_shutdown,
    service,
)

EVENTS: list[str] = []


class Speaker(AbstractService):
    @abstract_endpoint
    async def speak(self, word: str): ...


@service(dynamo={"namespace": "interfaces"})
class Loud(Speaker):
    def __init__(self) -> None:
        self.leases = [served.lease_id() for served in dynamo_context["endpoints"]]
        EVENTS.append("Loud: __init__")

    @async_on_start
    async def second(self):
        EVENTS.append("Loud: second, async")

    @async_on_start
    def first(self):
        EVENTS.append("Loud: first, sync")

    @endpoint()
    async def speak(self, word: str):
        yield f"{word.upper()}!"

    @endpoint(name="leases")
    async def tell_leases(self, word: str):
        yield self.leases

    @on_shutdown
    def bye(self):
        EVENTS.append("Loud: bye")


@service(dynamo={"namespace": "interfaces"})
class Quiet(Speaker):
    @endpoint()
    async def speak(self, word: str):
        yield f"({word.lower()})"


@service(dynamo={"namespace": "interfaces"})
class Front:
    speaker = depends(Speaker)

    @api()
    async def say(self, word: str):
        return [item async for item in self.speaker.speak(word)]

    @on_shutdown
    def bye(self):
        EVENTS.append("Front: bye")


@service(dynamo={"namespace": "interfaces"})
class Other:
    @endpoint()
    async def speak(self, word: str):
        yield word
