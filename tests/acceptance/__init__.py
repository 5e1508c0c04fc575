"""The service as its users meet it: whole processes, over HTTP and the command line."""
