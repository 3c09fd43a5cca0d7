"""What sessions are and what may be done to them: pure values and rules.

Nothing in here does I/O, and nothing in here knows gRPC, protobuf or SQL.
"""
