"""The plug-in for ServiceNow: its name and the way into its parts.

Libraries are loaded when a source is connected, so that listing the plug-ins costs nothing. What it can do is in
``instance``.
"""

from collections.abc import Mapping
from typing import Any

from connectors.servicenow.translate import record_url, translate
from itsms_sync.connector import Access, Connector, Form, Logins, Plugin


def _connect(access: Access) -> Connector:
    from connectors.servicenow.instance import ServiceNow
    from connectors.servicenow.options import Options
    from connectors.servicenow.tickets import Tickets
    from connectors.servicenow.transport import Tables

    options, tables = Options.model_validate(access.options), Tables(access)
    return ServiceNow(access, options, tables, Tickets(access, tables, options))


def _check_options(given: Mapping[str, Any]) -> Mapping[str, Any]:
    from connectors.servicenow.options import Options

    return Options.model_validate(given).model_dump()


PLUGIN = Plugin(
    name="servicenow",
    connect=_connect,
    translate=translate,
    check_options=_check_options,
    record_url=record_url,
    logins=Logins(
        frozenset(set(Form) - {Form.BEARER, Form.ACCOUNT}),
        token_url=lambda url: f"{url.rstrip('/')}/oauth_token.do",
    ),
)
