"""What it costs to ask who calls: GetSession with a credential against the same without."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bench.calls import APP
from bench.measure import PROCESSES, Rig, Series
from bench.plan import Plan
from bench.processes import Workers, start_sojourn
from bench.results import Results
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Role

JOB = "get"
KINDS = {"key": "an API key", "jwt": "a JWT that was seen before"}
WARM = 4
LIFETIME = 6 * 3_600
ISSUER, AUDIENCE = "https://issuer.invalid", "bench"


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure each kind of credential between two rounds without any."""
    flags, headers = _credentials(folder)
    with contextlib.ExitStack() as stack:

        def rig(name: str) -> Rig:
            server = stack.enter_context(
                start_sojourn(folder, f"access-{name}", settings=flags.get(name, ()))
            )
            extra = {"BENCH_AUTHORIZATION": headers[name]} if name in headers else {}
            return Rig(
                server, stack.enter_context(Workers(server.target, folder, PROCESSES, extra))
            )

        rigs = {name: rig(name) for name in ("open", *KINDS)}
        series = {name: Series() for name in rigs}
        for warmed in rigs.values():
            warmed.measure(JOB, WARM)
        for number in range(plan.rounds):
            say(f"authentication, round {number + 1} of {plan.rounds}")
            before = rigs["open"].measure(JOB, plan.calls)
            series["open"].add(before)
            for name in KINDS:
                sample = rigs[name].measure(JOB, plan.calls)
                after = rigs["open"].measure(JOB, plan.calls)
                series["open"].add(after)
                series[name].add(sample, (before.cpu_us + after.cpu_us) / 2)
                before = after
    for name, title in KINDS.items():
        each = series[name]
        results.add(
            "access",
            f"access {name}",
            f"GetSession with {title} over one without authentication",
            each.ratios,
            value=each.ratio,
            facts={**each.facts, "open_cpu_us": round(series["open"].cpu_us, 1)},
        )


def _credentials(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Flags of the servers and headers of their callers, by kind."""
    key, entry = keys.make("bench", [Grant(Role.WRITE, APP)], None, keys.utc_now())
    key_file = (folder / "keys.json").resolve()
    keys.write_file(key_file, KeyFile(keys=(entry,)))
    private = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(ECAlgorithm.to_jwk(private.public_key()))
    jwks = (folder / "jwks.json").resolve()
    jwks.write_text(json.dumps({"keys": [{**public, "kid": "1", "alg": "ES256"}]}))
    grants = (folder / "grants.toml").resolve()
    grants.write_text(
        f'[[grant]]\nprincipal = "jwt:bench"\napp = "{APP}"\nuser = "*"\nroles = ["write"]\n'
    )
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "iat": now, "exp": now + LIFETIME}
    token = jwt.encode(claims, private, "ES256", {"kid": "1"})
    flags = {
        "key": ["--keys-file", str(key_file)],
        "jwt": [
            *("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE),
            *("--jwt-jwks", str(jwks), "--grants-file", str(grants)),
        ],
    }
    return flags, {"key": f"Bearer {key}", "jwt": f"Bearer {token}"}
