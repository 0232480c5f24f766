"""Who answers a request: the rules of Dynamo's router, free of threads and servers."""
