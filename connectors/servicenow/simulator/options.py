"""Options of one simulator, as text from a command line or a test, read into a frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from connectors.servicenow.simulator.dictionary import plugin_names


@dataclass(frozen=True, slots=True)
class Options:
    user: str = "itsms"
    password: str = "secret"  # noqa: S105 - the simulator guards nothing
    basic: str = "allowed"
    """Basic authentication: ``allowed``, ``restricted`` to others (a plain 401), or ``mfa``, with a second factor."""
    client_id: str = "itsms-client"
    client_secret: str = "client-secret"  # noqa: S105 - the simulator guards nothing
    """Of the OAuth application, whose tokens ``/oauth_token.do`` hands out."""
    token_life: float = 1800.0
    """Seconds that an access token is good."""
    refresh_life: float = 8640000.0
    """Seconds that a refresh token is good."""
    api_key: str = ""
    """Accepted in the header ``x-sn-apikey``; empty where the plug-in is not active."""
    api_policy: bool = True
    """Whether a policy admits API keys to the interfaces that are served here."""
    tls: str = ""
    """File with the instance's certificate and key, to be reached by https."""
    tls_clients: str = ""
    """File with the certificates that those of clients have to come from, to log in by them."""
    invalid_query: str = "all_rows"
    """What a condition on an unknown field does: ``all_rows`` (dropped) or ``no_rows``."""
    data_policy: bool = True
    """Whether an incident needs resolution code and notes to be resolved or closed."""
    clock_offset: float = 0.0
    """Seconds by which the instance's clock is wrong, in stamps and in the ``Date`` header."""
    date_offset: float = 0.0
    """Seconds by which only the ``Date`` header is wrong, on top."""
    instance: str = "simulator"
    """Name of the instance: another one is another instance, as a clone of all its content is one."""
    plugins: str = ""
    """Plug-ins that are active, by comma: ``cim`` (sn_cim_register), ``grc`` (sn_grc_issue), ``major`` (incidents)."""
    metrics: bool = False
    """Whether a row of metric_instance is kept for each span in which a field of a task keeps its value."""
    metric_fields: str = "state"
    """Fields that have such a definition, by comma."""
    metric_lag: float = 0.0
    """Seconds after a save at which the product gets round to its rows; about 30 on a real instance."""
    metrics_since: str = ""
    """Instant (YYYY-MM-DD HH:MM:SS, UTC) at which the definitions became active; blank means always."""
    user_offset: float = -25200.0
    """Seconds east of UTC of the account's time zone, in which display values are written."""
    rate_limit: int = 0
    """Requests per hour; 0 means that no rule is active and no header is sent."""
    gzip: str = "small"
    """``small`` compresses bodies up to 64 KiB when asked, ``always`` all, ``never`` none."""
    faults: str = ""
    """File with fault rules in YAML or JSON."""
    scenario: str = ""
    """Name of a ready-made set of fault rules."""
    desk: str = "quiet"
    """``lively`` makes up a service desk with a history and keeps it going."""
    seed: int = 1
    """Decides the lively desk, the order of rows that a query leaves open and the chances of faults."""
    days: int = 90
    per_day: int = 40
    tempo: float = 2.0
    """Seconds between two things that happen on a lively desk."""
    live: bool = True
    """Whether a lively desk goes on after its history was made."""


_CHOICES = {
    "basic": ("allowed", "restricted", "mfa"),
    "invalid_query": ("all_rows", "no_rows"),
    "gzip": ("small", "always", "never"),
    "desk": ("quiet", "lively"),
}


def read_options(given: Mapping[str, str]) -> Options:
    """Options from text; raises ``ValueError`` that names everything that is wrong."""
    kinds = {one.name: type(one.default) for one in fields(Options)}
    values: dict[str, Any] = {}
    problems = [f"unknown option {name}; known are {', '.join(kinds)}" for name in given if name not in kinds]
    for name, text in given.items():
        try:
            if name in kinds:
                values[name] = _value(name, kinds[name], text)
        except ValueError as error:
            problems.append(f"option {name}: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return Options(**values)


def _value(name: str, kind: type, text: str) -> Any:
    if name in _CHOICES and text not in _CHOICES[name]:
        raise ValueError(f"{text!r} is not one of {', '.join(_CHOICES[name])}")
    wrong = [one for one in text.split(",") if one and one not in plugin_names()] if name == "plugins" else []
    if wrong:
        raise ValueError(f"no plug-in {', '.join(wrong)}; known are {', '.join(plugin_names())}")
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    return kind(text)
