"""The distributed runtime in one process: discovery plane, request plane, clients (Dynamo: `dynamo.runtime`)."""
