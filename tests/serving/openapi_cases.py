"""Requests made from the OpenAPI document by schemathesis, valid and invalid ones, and what is wrong with the answers.

By its Python interface: its plugin for pytest does not know this version of pytest.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

__all__ = ["faults_of"]

load_all_checks()
# That valid data is accepted is not asked for: what is no portrait is valid data, too.
_CHECKS = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]


def faults_of(app: FastAPI, examples: int, start: int = 1) -> tuple[dict[str, str], int]:
    """Call every operation of an application.

    Args:
        app: The application, in this process.
        examples: Requests of each kind (valid, invalid) for each operation.
        start: Seed of the requests.

    Returns:
        The first fault of each operation that has one: a status that is not described, a body that is not as described, a fault of the
        server; and the number of requests.
    """
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    found: dict[str, str] = {}
    count = 0
    for result in document.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            def call(case: Any) -> None:
                nonlocal count
                count += 1
                case.call_and_validate(checks=_CHECKS)

            chosen = settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.explicit, Phase.generate],
                verbosity=Verbosity.quiet,
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            )
            try:
                seed(start)(chosen(given(case=operation.as_strategy(generation_mode=mode))(call)))()
            except (Exception, BaseExceptionGroup) as error:  # every kind of failure is one of the interface
                text = " ".join(str(part) for part in (error, *getattr(error, "exceptions", ())))
                if "Unsatisfiable" not in type(error).__name__:
                    found.setdefault(f"{operation.label} {mode.value}", f"{type(error).__name__}: {text[:1500]}")
    return found, count
