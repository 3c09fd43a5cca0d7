"""The use cases, one module per noun: what each RPC means, on any store."""
