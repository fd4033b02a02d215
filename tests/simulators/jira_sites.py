"""What the tests of the Jira simulator share: Atlassian's documents as judges, clients that call past them, sites."""

import contextlib
import gzip
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import requests
from jsonschema import Draft4Validator
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from connectors.jira.simulator import Simulator, serve

DATA = Path(__file__).with_name("data")
OPS = DATA / "jira_ops.yaml"
DESK = (Path("itsm"), DATA / "jira_itsm.yaml")

# --- Atlassian's documents as judges ----------------------------------------------------------------------------------


class Judge(Protocol):
    """Holds bodies against a document; says whether that, or a shape beside it, had something to say of them."""

    def request(self, method: str, path: str, body: Any) -> bool: ...

    def response(self, method: str, path: str, status: int, body: Any) -> bool: ...


def _null_in_change(error: Any) -> bool:
    """Both documents forbid null in a changelog item; recorded answers have it."""
    return error.instance is None and error.absolute_path[-1] in ("from", "fromString", "to", "toString")


def _unknown(error: Any) -> set[str]:
    """The properties that a schema does not allow, when that is what is wrong."""
    return set(error.instance) - set(error.schema["properties"]) if error.validator == "additionalProperties" else set()


def _account_ids_in_change(error: Any) -> bool:
    """Recorded changelog items carry account ids beside from and to; the document knows no such properties."""
    return _unknown(error) == {"tmpFromAccountId", "tmpToAccountId"}


def _remote_links_are_a_list(error: Any) -> bool:
    """Without globalId the product answers with a list, the document describes one link."""
    return error.validator == "type" and isinstance(error.instance, list) and "remotelink" in error.document_path


def _exclude_is_a_list(error: Any) -> bool:
    """Who is not asked for an approval may be several; the document wants one of the words."""
    return isinstance(error.instance, list) and error.absolute_path[-1] == "exclude"


def _settle(problems: Sequence[str]) -> None:
    if problems:
        raise AssertionError("\n".join(problems))


CONTRADICTIONS = (_null_in_change, _account_ids_in_change, _remote_links_are_a_list, _exclude_is_a_list)
#: What the router says before a resource is reached; the document does not describe it.
ROUTER = {"message", "status-code"}


class OpenApi:
    """Cloud's document of version 3."""

    NAME = "data/specs/jira-cloud-platform-v3.2025-09.openapi.json.gz"

    def __init__(self, path: Path) -> None:
        document = json.loads(gzip.decompress(path.read_bytes()))
        self._registry = Registry().with_resource("urn:jira", Resource(contents=document, specification=DRAFT4))
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", template)), template, operations)
            for template, operations in document["paths"].items()
        ]
        # a template with fewer parameters is the more specific one
        self._paths.sort(key=lambda entry: entry[1].count("{"))

    def request(self, method: str, path: str, body: Any) -> bool:
        template, operation = self._operation(method, path)
        return self._judged(operation.get("requestBody", {}), template, body, f"{method} {template} request")

    def response(self, method: str, path: str, status: int, body: Any) -> bool:
        template, operation = self._operation(method, path)
        what = f"{method} {template} {status}"
        known = operation["responses"].get(str(status))
        if known is None:
            assert status in (400, 404, 405, 410, 429, 500, 503), f"{method} {template} does not answer {status}"
        if status >= 400 and isinstance(body, dict) and body.keys() != ROUTER:
            schema = {"$ref": "#/components/schemas/ErrorCollection"}
            known = {"content": {"application/json": {"schema": schema}}}
        return self._judged(known or {}, template, body, what)

    def component(self, name: str, body: Any) -> None:
        """Hold a part of a body against the document's schema of that name."""
        schema = {"$ref": f"#/components/schemas/{name}"}
        self._judged({"content": {"application/json": {"schema": schema}}}, "", body, name)

    def _operation(self, method: str, path: str) -> tuple[str, Mapping[str, Any]]:
        for pattern, template, operations in self._paths:
            if pattern.fullmatch(path) and method.lower() in operations:
                return template, operations[method.lower()]
        raise AssertionError(f"Atlassian's document has no {method} {path}")

    def _judged(self, described: Mapping[str, Any], template: str, body: Any, what: str) -> bool:
        schema = described.get("content", {}).get("application/json", {}).get("schema")
        if body is None or not schema:
            return False
        anchored = json.loads(json.dumps(schema).replace('"#/', '"urn:jira#/'))
        problems = []
        for error in OAS30Validator(anchored, registry=self._registry).iter_errors(body):
            error.document_path = template
            if not any(allowed(error) for allowed in CONTRADICTIONS):
                problems.append(f"{what}: {error.json_path}: {error.message[:200]}")
        _settle(problems)
        return True


WADL = "{http://wadl.dev.java.net/2009/02}"


def _expand_in_search(error: Any, path: str) -> bool:
    """Later releases take ``expand``, a list, in the body of a search."""
    return path == "/rest/api/2/search" and _unknown(error) == {"expand"}


def _object(required: Mapping[str, Any], **optional: Any) -> Mapping[str, Any]:
    """The schema of an object with these properties and no others."""
    every = {**required, **optional}
    return {"type": "object", "properties": every, "required": [*required], "additionalProperties": False}


def _page(entry: Mapping[str, Any], **more: Any) -> Mapping[str, Any]:
    count = {"type": "integer"}
    counts = {"startAt": count, "maxResults": count, "total": count, "isLast": {"type": "boolean"}}
    return _object({**counts, "values": {"type": "array", "items": entry}}, **more)


_TEXT, _BOOLEAN, _ANYTHING = {"type": "string"}, {"type": "boolean"}, {"type": "object"}
#: Shapes beside the document. It has none of the screens of creation; for the members of a group it has the schema of
#: a group, which its own example contradicts; and it calls ``isDefault`` what every release says as ``default``.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "/rest/api/2/issue/createmeta/{projectIdOrKey}/issuetypes": _page(
        _object(
            {"self": _TEXT, "id": _TEXT, "name": _TEXT, "description": _TEXT, "iconUrl": _TEXT, "subtask": _BOOLEAN},
            avatarId={"type": "integer"},
        )
    ),
    "/rest/api/2/issue/createmeta/{projectIdOrKey}/issuetypes/{issueTypeId}": _page(
        _object(
            {"fieldId": _TEXT, "name": _TEXT, "required": _BOOLEAN, "schema": _ANYTHING, "hasDefaultValue": _BOOLEAN},
            operations={"type": "array", "items": _TEXT},
            allowedValues={"type": "array", "items": _ANYTHING},
        )
    ),
    "/rest/api/2/group/member": _page(
        _object(
            {"self": _TEXT, "name": _TEXT, "key": _TEXT, "displayName": _TEXT, "active": _BOOLEAN, "timeZone": _TEXT},
            emailAddress=_TEXT,
            avatarUrls=_ANYTHING,
        ),
        self=_TEXT,
        nextPage=_TEXT,
    ),
    "/rest/api/2/workflow": {
        "type": "array",
        "items": _object({"name": _TEXT, "description": _TEXT, "steps": {"type": "integer"}, "default": _BOOLEAN}),
    },
}


class Wadl:
    """Data Center's document, of release 8.4.3, whose schemas stand as text in its descriptions."""

    NAME = "data/specs/jira-server-8.4.3.rest-plugin.wadl.gz"

    def __init__(self, path: Path) -> None:
        root = ElementTree.fromstring(gzip.decompress(path.read_bytes()))
        self._schemas: dict[tuple[str, str], dict[str, Any]] = {}
        for resources in root.iter(f"{WADL}resources"):
            for resource in resources.findall(f"{WADL}resource"):
                self._read(resource, "/rest")
        for path_of, shape in SHAPES.items():
            self._schemas["GET", path_of]["200"] = shape
        # the document shows one comment and has the schema of a page; that of one comment is with another method
        one_comment = "/rest/api/2/issue/{issueIdOrKey}/comment/{id}"
        self._schemas["GET", one_comment]["200"] = self._schemas["PUT", one_comment]["200"]
        self._patterns = sorted(
            ((method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for method, path in self._schemas),
            key=lambda entry: entry[2].count("{"),
        )

    def request(self, method: str, path: str, body: Any) -> bool:
        return self._judged(method, path, "request", body)

    def response(self, method: str, path: str, status: int, body: Any) -> bool:
        """Refusals are not described."""
        return self._judged(method, path, str(status), body if status < 400 else None)

    def _read(self, resource: ElementTree.Element, above: str) -> None:
        path = f"{above}/{resource.get('path', '').strip('/')}".rstrip("/")
        for method in resource.findall(f"{WADL}method"):
            known = self._schemas.setdefault((str(method.get("name")), path), {})
            for part in (method.find(f"{WADL}request"), *method.findall(f"{WADL}response")):
                if part is not None and (schema := _schema(part)):
                    known[part.get("status") or "request"] = schema
        for inner in resource.findall(f"{WADL}resource"):
            self._read(inner, path)

    def _judged(self, method: str, path: str, part: str, body: Any) -> bool:
        found = next((each for each in self._patterns if each[0] == method and each[1].fullmatch(path)), None)
        assert found is not None, f"Atlassian's document has no {method} {path}"
        schema = self._schemas[method, found[2]].get(part)
        if schema is None or body is None:
            return False
        problems = [
            f"{method} {path} {part}: {error.json_path}: {error.message[:200]}"
            for error in Draft4Validator(schema).iter_errors(body)
            if not _null_in_change(error) and not _expand_in_search(error, found[2])
        ]
        _settle(problems)
        return True


def _schema(part: ElementTree.Element) -> Any:
    """The JSON schema that stands as text in a representation's documentation."""
    for paragraph in part.iter():
        title, code = paragraph.find("{*}h6"), paragraph.find("{*}pre/{*}code")
        if title is not None and code is not None and title.text == "Schema":
            schema = json.loads(code.text or "{}")
            schema.pop("id", None)
            return schema
    return None


# --- clients and sites ------------------------------------------------------------------------------------------------


class Client:
    """Calls one site; every call of the platform's newest version goes past the judge."""

    LOGIN = ("bot@example.com", "token")
    START = "/rest/api/3/"

    def __init__(self, site: Simulator, judge: Judge) -> None:
        self.url = site.url
        self.session = requests.Session()
        self.session.auth = self.LOGIN
        self._site = site
        self._judge = judge

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self._site.stop()

    def call(self, method: str, path: str, body: Any = None, *, valid: bool = True, **query: Any) -> requests.Response:
        """``valid=False`` for requests that are wrong on purpose."""
        sent = {} if body is None else {"json": body}
        address = path if path.startswith("/") else self.START + path
        judged = address.startswith(self.START)
        if judged and body is not None and valid:
            self._judge.request(method, address.partition("?")[0], body)
        response = self.session.request(method, self.url + address, params=query, timeout=10, **sent)
        if judged:
            self._judge.response(method, address.partition("?")[0], response.status_code, content(response))
        return response

    def get(self, path: str, **query: Any) -> Any:
        response = self.call("GET", path, **query)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        response = self.call("POST", path, body)
        assert status == response.status_code, response.text
        return response.json() if response.content else None

    def create(self, summary: str = "Cases are closed without a cause", **fields: Any) -> str:
        """Key of a new corrective action."""
        place = {"project": {"key": "CAPA"}, "issuetype": {"name": "Corrective action"}, "summary": summary}
        return str(self.post("issue", {"fields": {**place, **fields}}, 201)["key"])

    def move(self, key: str, name: str, **body: Any) -> requests.Response:
        found = {each["name"]: each["id"] for each in self.get(f"issue/{key}/transitions")["transitions"]}
        return self.call("POST", f"issue/{key}/transitions", {"transition": {"id": found[name]}, **body})

    def search(self, query: str, **body: Any) -> list[str]:
        """Keys on one page."""
        answer = self.post("search/jql", {"jql": query, "fields": ["key"], **body})
        return [issue["key"] for issue in answer["issues"]]

    def advance(self, seconds: float) -> None:
        self.session.post(self.url + "/_sim/clock", json={"advance": seconds}, timeout=10).raise_for_status()

    def ledger(self) -> Any:
        return self.session.get(self.url + "/_sim/ledger", timeout=10).json()

    def break_(self, *rules: Mapping[str, Any]) -> None:
        self.session.post(self.url + "/_sim/faults", json=list(rules), timeout=10).raise_for_status()


class DataCenterClient(Client):
    LOGIN = ("bot", "token")
    START = "/rest/api/2/"

    def search(self, query: str, **body: Any) -> list[str]:
        answer = self.post("search", {"jql": query, "fields": ["summary"], **body})
        return [issue["key"] for issue in answer["issues"]]


def content(response: requests.Response) -> Any:
    """The JSON of an answer, ``None`` where it has none."""
    is_json = response.headers.get("Content-Type", "").startswith("application/json") and response.content
    return response.json() if is_json else None


Starter = Callable[..., Client]
"""``site(data=..., **options)``: the client of a new site."""


@contextlib.contextmanager
def sites(client: type[Client], judge: Judge, data: Sequence[Path], **usual: str) -> Iterator[Starter]:
    """Starts sites, and ends them all; ``data`` and ``usual`` are what a caller need not say."""
    with contextlib.ExitStack() as running:

        def start(data: Sequence[Path] = data, **options: str) -> Client:
            return running.enter_context(client(serve(data=data, options={**usual, **options}), judge))

        yield start
