"""The plug-in for Jira Cloud and Jira Data Center: its name and the way into its parts.

Libraries are loaded when a source is connected, so that listing the plug-ins costs nothing. What it can do is in
``instance``.
"""

from collections.abc import Mapping
from typing import Any

from connectors.jira.translate import browse_url, is_gateway, translate
from itsms_sync.connector import Access, Connector, Form, Logins, Plugin


def _connect(access: Access) -> Connector:
    from connectors.jira.instance import Jira
    from connectors.jira.options import Options
    from connectors.jira.tickets import Tickets
    from connectors.jira.transport import Site

    options, site = Options.model_validate(access.options), Site(access)
    return Jira(access, options, site, Tickets(access, options, site))


def _check_options(given: Mapping[str, Any]) -> Mapping[str, Any]:
    from connectors.jira.options import Options

    return Options.model_validate(given).model_dump()


def _record_url(base_url: str, kind: str, id: str, label: str) -> str:
    return browse_url(base_url, label)


def _token_url(base_url: str) -> str:
    """Atlassian's own for a site behind its gateway; Data Center hands its tokens out itself."""
    if is_gateway(base_url):
        return "https://auth.atlassian.com/oauth/token"
    return f"{base_url.rstrip('/')}/rest/oauth2/latest/token"


PLUGIN = Plugin(
    name="jira",
    connect=_connect,
    translate=translate,
    check_options=_check_options,
    record_url=_record_url,
    logins=Logins(
        frozenset(set(Form) - {Form.PERSON, Form.API_KEY, Form.CERTIFICATE}),
        _token_url,
        rotating=True,
        is_gateway=is_gateway,
    ),
    whole_records=True,
)
