"""The transport: it decodes requests, calls the use cases and encodes their answers.

Nothing here decides anything about sessions. `pipeline` is what every call goes
through, `errors` is the one table from reasons to codes, `convert_*` turn messages
into values and back, and the servicers name which use case answers which RPC.
"""
