"""The Table API: a question in, a complete answer or an error out.

The only file that knows pysnow, which has been frozen since 2021. It serves for addresses, parameters and writes, under
these rules: our bounded session is injected, every call has a Resource of its own (a Resource carries the parameters of
one call into the next), queries are raw text, answers are buffered and parsed here (pysnow takes a truncated page for a
whole one and lets an unread write fail unseen), never its OAuthClient, never its update or delete by query.

Owns what a status and a body of ServiceNow mean. Leaves deadlines, budget and repetition to ``itsms_sync.http``, and
what a page of rows means to ``walk``.
"""

import json
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from connectors.servicenow.questions import Answer, Question, in_parts
from connectors.servicenow.translate import plain
from itsms_sync.connector import Access, LoggedOut, Refused, Unavailable
from itsms_sync.http import http_date_millis, retry_after
from itsms_sync.login import Login

T = TypeVar("T")

SMALLEST_PAGE = 10
_LONGEST_MESSAGE = 400
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_COLUMN = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*", re.ASCII)
_SYS_ID = re.compile(r"[A-Za-z0-9_-]{2,64}", re.ASCII)
_NEXT = re.compile(r'rel="?next"?')
_NO_TABLE = re.compile(r"invalid table|\btable \S+ does not exist", re.IGNORECASE)
_PLUGINS = (
    ("sn_cim_", "Continual Improvement Management (com.sn_cim)"),
    ("change_", "Change Management (com.snc.change_management)"),
    ("problem", "Problem Management (com.snc.problem)"),
    ("incident", "Incident Management (com.snc.incident)"),
    ("sc_", "Service Catalog (com.glideapp.servicecatalog)"),
    ("task_sla", "Service Level Management (com.snc.sla)"),
)
"""Start of a table's name -> the plug-in that brings it."""


class Denied(Refused):
    """This table, field or record is not for us; others may be."""


class NoTable(Denied):
    """The instance has no such table: the plug-in that brings it is not installed, or the name is wrong."""


class _TooLong(Refused):
    """The address does not hold the question."""


class NoRecord(Denied):
    """There is no such record, or a rule hides it; the instance answers alike."""


class _Cut(Unavailable):
    """The server gave up in the middle of its answer; a smaller page may come through."""


class Tables:
    """The tables of one instance, as its account sees them. Raises ``Unavailable`` and ``Refused`` only."""

    def __init__(self, access: Access) -> None:
        base = urlsplit(access.url)
        if base.scheme not in ("http", "https") or not base.netloc:
            raise Refused(f"{access.url!r} is no address of an instance; write https://<instance>.service-now.com")
        self._http = access.http
        self._login = Login(access, api_key_header="x-sn-apikey")
        self._missing: dict[tuple[str, str], str] = {}
        self._too_long = sys.maxsize
        """Length of the shortest question that an address did not hold."""
        self._shown: set[tuple[str, str]] = set()
        """Tables and fields by which rows were found."""
        self._bearable: dict[str, int] = {}
        """Limit of a table's pages since the server cut one; kept over polls, or a large window would never end."""
        session = access.http.session()
        session.auth = self._login
        agent = session.headers["User-Agent"]
        self._client = _pysnow().Client(
            host=f"{base.netloc}{base.path.rstrip('/')}", use_ssl=base.scheme == "https", session=session
        )
        session.headers["User-Agent"] = agent  # it was replaced by the library's name

    def ask(self, question: Question) -> Answer:
        """The page; one that the server cut short is asked for again with half the limit, and a question that is too
        long for an address in parts.
        """
        length = len(str(question))
        if length >= self._too_long and (answer := in_parts(question, self.ask)):
            return answer
        try:
            return self._asked(question)
        except _TooLong:
            self._too_long = min(self._too_long, length)
            answer = in_parts(question, self.ask)
            if answer is None:
                raise
            return answer

    def _asked(self, question: Question) -> Answer:
        return self.reading(lambda: self._halving(question))

    def _halving(self, question: Question) -> Answer:
        """The page, with as few rows as it takes. Halving waits for nothing: it is the size that was too much."""
        table = question.table
        while True:
            limit = min(question.limit, self._bearable.get(table, question.limit))
            try:
                return self._page(replace(question, limit=limit))
            except _Cut:
                self._bearable[table] = max(min(SMALLEST_PAGE, limit), limit // 2)
                if self._bearable[table] == limit:
                    raise

    def reading(self, once: Callable[[], T]) -> T:
        """The result of a read. Refused secrets are tried once more if others are to be had."""
        try:
            return self._http.reading(once)
        except LoggedOut:
            if not self._login.renewed():
                raise
            return self._http.reading(once)

    def writing(self, once: Callable[[], T]) -> T:
        """The result of a write, made once. A token that is due is replaced before it, not in its middle."""
        self._login.ready()
        return self._http.writing(once)

    def finished(self, table: str) -> None:
        """A window of the table was read to its end: full pages may be tried again."""
        self._bearable.pop(table, None)

    def shows(self, table: str, field: str = "") -> bool:
        """Whether the account is shown any row of the table, and any by a condition on the field that always holds."""
        if (table, field) in self._shown:
            return True
        condition = f"{field}ISEMPTY^NQ{field}ISNOTEMPTY" if field else ""
        found = bool(self.ask(Question(table, condition, ("sys_id",), 1)).rows)
        if found and field:  # what a table shows can be taken away, what its columns are called hardly ever changes
            self._shown.add((table, field))
        return found

    def why_missing(self, table: str, field: str) -> str:
        """Why no row has the field: ``field-refused``, or ``field-not-served`` if the table does not know it.

        A condition tells the difference: it is refused on a field that may not be read and ignored on an unknown one.
        """
        if (table, field) not in self._missing:
            try:
                self.ask(Question(table, f"{field}ISNOTEMPTY", ("sys_id",), 1))
                self._missing[table, field] = "field-not-served"
            except Denied:
                self._missing[table, field] = "field-refused"
        return self._missing[table, field]

    def one(self, table: str, sys_id: str, fields: tuple[str, ...]) -> dict[str, Any]:
        """One record by its id, with labels; raises ``Denied`` if it is not there for us. Not repeated: for reading
        back a write.
        """
        resource = self._resource(table, fields)
        resource.parameters.display_value = "all"
        return self._record(resource.request("GET", path_append=_segment(sys_id))._response)

    def create(self, table: str, values: Mapping[str, str]) -> dict[str, Any]:
        """Insert once; ``sys_id`` and ``number`` of the new record."""
        return self._record(self._resource(table, ("sys_id", "number")).create(dict(values))._response)

    def amend(self, table: str, sys_id: str, values: Mapping[str, str]) -> dict[str, Any]:
        """Change the named fields of one record once; its ``sys_id`` and ``number``."""
        resource = self._resource(table, ("sys_id", "number"))
        response = resource.request("PATCH", path_append=_segment(sys_id), data=json.dumps(dict(values)))
        return self._record(response._response)

    def _page(self, question: Question) -> Answer:
        resource = self._resource(question.table, question.fields)
        resource.parameters.add_custom({"sysparm_no_count": "false" if question.counted else "true"})
        resource.parameters.display_value = "all" if question.labelled else False
        response: requests.Response = resource.get(
            query=question.query,
            fields=list(question.fields),
            limit=question.limit,
            offset=question.offset,
            exclude_reference_link=True,
        )._response
        rows, headers = self._result(response), response.headers
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Unavailable(f"{question.table}: the answer holds no list of rows")
        total = headers.get("X-Total-Count", "")
        count = int(total) if question.counted and total.isdecimal() else None
        more = bool(_NEXT.search(headers.get("Link", ""))) or (
            count is not None and count > question.offset + question.limit
        )
        server_time = http_date_millis(headers.get("Date"))
        return Answer(question, rows, count, more, headers.get("Server", ""), server_time)

    def _resource(self, table: str, fields: tuple[str, ...] = ()) -> Any:
        check_names(table, fields)
        resource = self._client.resource(api_path=f"/table/{table}")
        resource.parameters.fields = list(fields)
        resource.parameters.exclude_reference_link = True
        return resource

    def _record(self, response: requests.Response) -> dict[str, Any]:
        record = self._result(response)
        if not isinstance(record, dict) or not plain(record.get("sys_id")):
            raise Unavailable("the answer holds no record", sent=response.request.method != "GET")
        return record

    def _result(self, response: requests.Response) -> Any:
        """The ``result`` of a complete answer of success."""
        sent = response.request.method != "GET"
        if response.status_code >= 400:
            raise self._failure(response, sent=sent)
        body = self._parsed(response)
        if not isinstance(body, dict) or "error" in body or "result" not in body:
            raise _Cut(f"{self._said(response, body)}; the page is incomplete", sent=sent)
        return body["result"]

    def _parsed(self, response: requests.Response) -> Any:
        cut_short = response.status_code == 200 and response.content.lstrip()[:1] == b"{"
        try:
            return self._login.parsed(response)
        except Unavailable as problem:
            raise (_Cut(str(problem), sent=problem.sent) if cut_short else problem) from None

    def _failure(self, response: requests.Response, *, sent: bool) -> Refused | Unavailable:
        status = response.status_code
        try:
            body = json.loads(response.content)
        except ValueError:
            body = None
        said = self._said(response, body)
        if status == 500 and "maximum execution time" in said:
            return _Cut(said, sent=sent)
        if status == 429 or status in (408, 425) or status >= 500:
            # Without the server's own Date an instant says nothing here: it is taken as past.
            wait = retry_after(response.headers, now=float("inf"))
            return Unavailable(said, retry_after=wait, sent=sent and status != 429)
        if status == 401:
            return LoggedOut(f"{said}. {self._way_back_in(response)}")
        if status == 400 and _NO_TABLE.search(said):
            return NoTable(f"{said}. {_missing(_table(response))}")
        if status == 404:
            return NoRecord(f"{said}. {_next_step(status, said)}")
        if status in (400, 403):
            return Denied(f"{said}. {_next_step(status, said)}")
        refusal = _TooLong if status == 414 else Refused
        return refusal(f"{said}. {_next_step(status, said)}")

    def _way_back_in(self, response: requests.Response) -> str:
        """What somebody has to do about secrets that were refused."""
        if "X-MFA_TOKEN" in response.headers:
            return "The account is asked for a second factor: exempt it, or use OAuth."
        return f"{self._login.step[:1].upper()}{self._login.step[1:]}." if self._login.step else _BASIC

    def _said(self, response: requests.Response, body: Any) -> str:
        """Table, status and the vendor's own sentence, without our secrets."""
        error = body.get("error") if isinstance(body, dict) else None
        error = error if isinstance(error, dict) else {"message": error}
        words = [str(error[part]) for part in ("message", "detail") if error.get(part)]
        said = " / ".join(dict.fromkeys(words))
        said = self._login.hidden(said)
        said = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())
        return f"{_table(response) or 'ServiceNow'}: status {response.status_code}" + (
            f": {said[:_LONGEST_MESSAGE]}" if said else ""
        )


def _pysnow() -> Any:
    """The library. It has its own warnings about parts that are not used here: attachments and pytz of 2019."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Missing the python-magic library", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"datetime\.datetime\.utcfromtimestamp", category=DeprecationWarning)
        import pysnow
    return pysnow


def check_names(table: str, fields: tuple[str, ...] = ()) -> None:
    """Names go into addresses and conditions, where nothing escapes them. Raises ``Refused``."""
    wrong = [field for field in fields if not _COLUMN.fullmatch(field)]
    if not _NAME.fullmatch(table):
        wrong.insert(0, table)
    if wrong:
        raise Refused(f"not a name in ServiceNow: {', '.join(map(repr, wrong))}; correct the mapping or the options")


def _table(response: requests.Response) -> str:
    return urlsplit(response.url).path.partition("/table/")[2].partition("/")[0]


def _missing(table: str) -> str:
    """What to do about a table that the instance does not have."""
    plugin = next((name for start, name in _PLUGINS if table.startswith(start)), "that brings it")
    return f"Install the plug-in {plugin} on the instance, or take {table} out of the mapping or the options."


def _segment(sys_id: str) -> str:
    if not _SYS_ID.fullmatch(sys_id):
        raise Refused(f"{sys_id!r} is no sys_id")
    return f"/{sys_id}"


_BASIC = "Check user name and password; basic authentication may need the role snc_basic_auth_api_access."
_STEPS = (
    (403, "data policy", "A data policy demands these fields: fill them, or exempt the account from the policy."),
    (403, "business rule", "A business rule stopped it: its owner has to let this account through."),
    (403, "permission to be read", "Give the account read access to all fields of the condition."),
    (403, "insufficient rights to query", "Give the account a role that may query this table."),
    (403, "api level acl", "Give the account the role that the access rule of the type REST_Endpoint names."),
    (404, "", "It was deleted or archived, or a rule hides it from the account."),
    (403, "", "Give the account a role that may do this."),
    (414, "", "The mapping names too many fields for one address: name fewer."),
)


def _next_step(status: int, said: str) -> str:
    """What somebody has to do: the same status means several things, and only the vendor's sentence tells which."""
    fitting = (step for code, words, step in _STEPS if code == status and words in said.lower())
    return next(fitting, "Ask the administrator of the instance what this means.")
