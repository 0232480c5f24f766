"""The decorators of a graph: service, depends, dynamo_endpoint, api (Dynamo 0.1-0.3: `dynamo.sdk`; until 0.4.0)."""
