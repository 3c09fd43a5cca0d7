"""The protobuf and gRPC stubs of `sojourn.v1`, written by `make gen`."""
