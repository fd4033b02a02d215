"""Configuration: what is shipped is right, and what is wrong is told at its line and column, all at once."""

import shutil
import stat
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

from itsms_sync.configuration import Configuration, read_configuration, read_document, read_library
from itsms_sync.connector import Form
from itsms_sync.documents import Invalid
from itsms_sync.settings import Credential, Secret, SecretUnavailable, Settings
from itsms_sync.sms.mapping import LogColumns

ROOT = Path(__file__).parent.parent

CONFIG = """\
database: sqlite:///data.db
documents: mappings
sources:
  desk:
    system: servicenow
    url: https://desk.example
    credential:
      username: itsms
      password: {env: DESK_PASSWORD}
    options: {audit: true}
  tracker:
    system: jira
    url: https://tracker.example
    read: false
    credential:
      username: bot@example.com
      token: {file: token.txt}
    options: {project: CAPA}
tickets:
  target: tracker
  processes: [incident]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration with the shipped documents; nothing is wrong with it."""
    shutil.copytree(ROOT / "mappings", tmp_path / "mappings")
    (tmp_path / "itsms.yaml").write_text(CONFIG)
    return tmp_path


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert 1 == text.count(old), f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new))


def place(path: Path, mark: str, nth: int = 0) -> tuple[int, int]:
    """Line and column of the (nth) place where ``mark`` stands."""
    text = path.read_text()
    at = -1
    for _ in range(nth + 1):
        at = text.index(mark, at + 1)
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def problems(folder: Path) -> list[str]:
    """All that is told, without the path of the folder."""
    with pytest.raises(Invalid) as told:
        read_configuration(folder / "itsms.yaml")
    return [str(problem).replace(f"{folder}/", "") for problem in told.value.problems]


# --- what is shipped


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_reads(path: Path) -> None:
    found = read_configuration(path)
    assert set(found.library.processes.processes) >= set(
        found.settings.tickets.processes if found.settings.tickets else ()
    )
    assert [] == [s for s in found.settings.sources.values() if s.go_live is None and s.read]


def test_every_shipped_mapping_reads() -> None:
    library = read_library(ROOT / "mappings")
    processes = ["incident", "service_request", "problem", "change", "corrective_action"]
    assert processes == list(library.judged_processes("servicenow")) == list(library.judged_processes("jira"))
    on_disk = {
        str(p.relative_to(ROOT / "mappings"))
        for p in (ROOT / "mappings").rglob("*.yaml")
        if p.parent.name not in ("texts", "logs")
    }
    assert on_disk == set(library.digests)


@pytest.mark.parametrize("path", sorted((ROOT / "mappings" / "logs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_log_mapping_reads(path: Path) -> None:
    assert "incident" == read_document(path, LogColumns).process


def test_a_configuration_means_what_it_says(folder: Path) -> None:
    settings = read_configuration(folder / "itsms.yaml").settings
    desk, tracker = settings.sources["desk"], settings.sources["tracker"]
    assert ("servicenow", True, timedelta(minutes=10), 1000) == (desk.system, desk.read, desk.overlap, desk.page_size)
    assert (False, {"project": "CAPA"}) == (tracker.read, tracker.options)
    assert (timedelta(minutes=1), "00:05") == (settings.schedule.poll_every, settings.schedule.reload_documents_at)
    assert settings.tickets is not None
    assert (5, 25, "en", 3) == (
        settings.tickets.cap_per_owner,
        settings.tickets.max_writes_per_cycle,
        settings.tickets.language,
        settings.tickets.unclear_limit,
    )


def test_dates_and_durations(folder: Path) -> None:
    changed(folder / "itsms.yaml", "    read: false\n", "    read: false\n    go_live: 2026-12-01\n    overlap: PT2H\n")
    tracker = read_configuration(folder / "itsms.yaml").settings.sources["tracker"]
    assert (date(2026, 12, 1), timedelta(hours=2)) == (tracker.go_live, tracker.overlap)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///data.db", "sqlite:///{folder}/data.db"),
        ("sqlite:///../data.db", "sqlite:///{parent}/data.db"),
        ("sqlite:////var/lib/data.db", "sqlite:////var/lib/data.db"),
        ("postgresql://db/itsms", "postgresql://db/itsms"),
    ],
)
def test_a_relative_database_is_relative_to_the_file(folder: Path, url: str, expected: str) -> None:
    changed(folder / "itsms.yaml", "sqlite:///data.db", url)
    found: Configuration = read_configuration(folder / "itsms.yaml")
    assert expected.format(folder=folder, parent=folder.parent) == found.database_url()


# --- what is wrong


@pytest.mark.parametrize(
    ("old", "new", "mark", "message"),
    [
        (
            "    read: false",
            "    raed: false",
            "raed",
            "there is no key `raed` here; did you mean `read`?",
        ),
        (
            "system: servicenow",
            "system: servicenov",
            "system: servicenov",
            "no plug-in 'servicenov' is installed; there are: jira, servicenow",
        ),
        (
            "password: {env: DESK_PASSWORD}",
            "password: {}",
            "{}",
            "name one place: env (a variable) or file (a path)",
        ),
        (
            "password: {env: DESK_PASSWORD}",
            "password: {env: A, file: b}",
            "{env: A",
            "name one place: env (a variable) or file (a path)",
        ),
        (
            "      password: {env: DESK_PASSWORD}\n",
            "      password: {env: A}\n      token: {env: B}\n",
            "username: itsms",
            "name one secret: password, token, oauth, api_key or client_certificate",
        ),
        (
            "      password: {env: DESK_PASSWORD}\n",
            "",
            "username: itsms",
            "name one secret: password, token, oauth, api_key or client_certificate",
        ),
        (
            "target: tracker",
            "target: trakcer",
            "target: trakcer",
            "source 'trakcer' is not defined under sources",
        ),
        (
            "processes: [incident]",
            "processes: [incident, incidnet]",
            "incidnet",
            "process 'incidnet' is not defined in processes.yaml",
        ),
        ("url: https://desk.example", "url: desk", "desk\n", "must be a valid URL, relative URL without a base"),
        ("    read: false", "    overlap: 10", "10", "must be a duration like PT4H, not the number `10`"),
        ("    read: false", "    page_size: 0", "0\n    cred", "must be greater than or equal to 1"),
        (
            "    read: false",
            "    go_live: 1.12.2026",
            "1.12",
            "must be a date like 2026-01-31, not the text `1.12.2026`",
        ),
        ("  target: tracker", "  target: tracker\n  cap_per_owner: 0", "0\n", "must be greater than or equal to 1"),
        ("  target: tracker\n", "", "tickets", "the key `target` is missing"),
        ("    url: https://tracker.example\n", "", "tracker:\n", "the key `url` is missing"),
        ("  desk:", "  Desk:", "Desk", "String should match pattern '^[a-z][a-z0-9_]*$'"),
    ],
)
def test_a_fault_in_the_configuration(folder: Path, old: str, new: str, mark: str, message: str) -> None:
    path = folder / "itsms.yaml"
    changed(path, old, new)
    line, column = place(path, mark)
    assert [f"itsms.yaml:{line}:{column}: {message}"] == problems(folder)


@pytest.mark.parametrize(
    ("old", "new", "mark", "message"),
    [
        ("{audit: true}", "{audti: true}", "audti", "there is no option `audti`"),
        (
            "{audit: true}",
            "{audit: perhaps}",
            "audit: perhaps",
            "Input should be a valid boolean, unable to interpret input",
        ),
        ("{project: CAPA}", "{project: capa}", "project: capa", "String should match pattern '^[A-Z][A-Z0-9_]+$'"),
        (
            "{project: CAPA}",
            "{issue_type: Task}",
            "options: {issue",
            "name the projects to read (projects), the project",
        ),
    ],
)
def test_a_fault_in_the_options_of_a_plug_in(folder: Path, old: str, new: str, mark: str, message: str) -> None:
    path = folder / "itsms.yaml"
    changed(path, old, new)
    line, column = place(path, mark)
    (told,) = problems(folder)
    assert told.startswith(f"itsms.yaml:{line}:{column}: ")
    assert message in told


@pytest.mark.parametrize(
    ("file", "old", "new", "mark", "message"),
    [
        (
            "servicenow.yaml",
            """{when: "state = 'work'"}""",
            """{when: "state = 'work' AND categry = ''"}""",
            "categry",
            "there is no column `categry`: did you mean `category`?",
        ),
        (
            "servicenow.yaml",
            """{when: "category <> ''"}""",
            "\n        when: >-\n          category <> ''\n          AND prioriti <> ''",
            "prioriti <>",
            "there is no column `prioriti`",
        ),
        (
            "servicenow.yaml",
            "      impact: {field: impact}",
            "      impact: {}",
            "impact: {}",
            "an attribute has either a field or a condition (when)",
        ),
        (
            "procedures/incident.yaml",
            "skips: [I5]",
            "skips: [I55]",
            "skips",
            "step 'I55' is not documented under steps",
        ),
        (
            "procedures/incident.yaml",
            "    step: I8\n",
            "    step: I88\n",
            "step: I88",
            "step 'I88' is not documented under steps",
        ),
        (
            "procedures/incident.yaml",
            "    hold: [work]\n",
            "    hold: [work]\n    parked: [work]\n",
            "parked",
            "no case can come to 'parked': nothing leads there from 'new'",
        ),
        (
            "procedures/incident.yaml",
            "    work: [hold, resolved, cancelled]\n",
            "    work: [hold, resolved, cancelled, limbo]\n    limbo: [limbo]\n",
            "limbo: [limbo]",
            "a case in 'limbo' can never end: no way leads to 'closed' or 'cancelled'",
        ),
        (
            "procedures/incident.yaml",
            'priority: "2"\n    response: respond',
            'priority: "1"\n    response: respond',
            "id: INC-RESPONSE-P2",
            "INC-RESPONSE-P2 contradicts INC-RESPONSE-P1: both say within what time a case of priority '1' is "
            "answered, and not the same",
        ),
        (
            "procedures/incident.yaml",
            "    step: I8\n    gate: [close]\n",
            "    step: I8\n    gate: [resolve]\n",
            "id: INC-I8-RESOLVE",
            "it is always fulfilled: the step is its own gate",
        ),
        (
            "procedures/incident.yaml",
            "owner: incident_process_owner",
            "owner: nobody",
            "owner: nobody",
            "role 'nobody' is not defined in processes.yaml",
        ),
        (
            "procedures/incident.yaml",
            "    when: first_contact\n",
            "    when: last_contact\n",
            "last_contact",
            "there is no column `last_contact`",
        ),
        (
            "procedures/incident.yaml",
            "activity: resolve, role: Resolver",
            "activity: resolv, role: Resolver",
            "activity: resolv,",
            "no mapping produces the activity 'resolv'",
        ),
        (
            "processes.yaml",
            "owner: sms_manager",
            "owner: boss",
            "owner: boss",
            "role 'boss' is not defined under roles",
        ),
        (
            "texts/en.yaml",
            '  summary: "{{ process }}: digest',
            '  summary: "{{ process }: digest',
            'summary: "{{ process }: digest',
            "the template does not parse",
        ),
    ],
)
def test_a_fault_in_a_document(folder: Path, file: str, old: str, new: str, mark: str, message: str) -> None:
    path = folder / "mappings" / file
    changed(path, old, new)
    line, column = place(path, mark)
    told = problems(folder)
    assert 1 == len(told)
    assert told[0].startswith(f"mappings/{file}:{line}:{column}: {message}")


OFFICE = """\
document: SMS-CAL
version: "1.0"
calendars:
  business_hours: {title: Office, zone: Europe/Berlin, hours: {monday: ["08:00-18:00"]}}
"""


def test_a_limit_on_a_calendar_that_is_not_described_is_told_with_its_place(folder: Path) -> None:
    (folder / "mappings/calendars.yaml").write_text(OFFICE)
    told = problems(folder)
    assert len(told) == on_working_days(folder)
    line, column = place(folder / "mappings/procedures/incident.yaml", "clock: business_days")
    assert (
        f"mappings/procedures/incident.yaml:{line}:{column}: there is no calendar 'business_days' in calendars.yaml; "
        "there are: business_hours. Name one of these, or describe it there"
    ) in told
    more = OFFICE + OFFICE.splitlines()[-1].replace("business_hours", "business_days") + "\n"
    (folder / "mappings/calendars.yaml").write_text(more)
    assert read_configuration(folder / "itsms.yaml").library.calendars


def test_a_limit_that_its_calendar_cannot_reach_is_told(folder: Path) -> None:
    days = OFFICE.splitlines()[-1].replace("business_hours", "business_days").replace("}}", "}, day: P40D}")
    (folder / "mappings/calendars.yaml").write_text(f"{OFFICE}{days}\n")
    told = problems(folder)
    said = (
        "no case can pass this limit within a year of the calendar 'business_days': shorten the limit, or give the "
        "calendar more hours or a shorter `day`"
    )
    assert [said] * on_working_days(folder) == [one.split(": ", 1)[1] for one in told]


def on_working_days(folder: Path) -> int:
    """How many limits of the procedures run on that calendar."""
    return sum(path.read_text().count("clock: business_days") for path in (folder / "mappings/procedures").iterdir())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("paused: paused, ", "paused: halted, ", "'halted' is none of cancelled, completed, paused, running"),
        (
            "started: {field: start_time, type: instant}",
            "started: {field: start_time}",
            "attribute 'started' has to be a field of type instant",
        ),
    ],
)
def test_words_and_types_of_service_levels_are_told(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "mappings/servicenow.yaml"
    path.write_text(path.read_text().replace(old, new))
    assert [message] * 2 == [one.split(": ", 1)[1] for one in problems(folder)]


def test_service_levels_without_a_stage_measure_nothing(folder: Path) -> None:
    """In one mapping it may be missing: then the cases of that system are unknown."""
    told = "no mapping tells the stage of service levels: name it under parts, slas, attributes, stage"
    paths = {
        folder / "mappings/servicenow.yaml": "stage:\n            field: stage",
        folder / "mappings/jira.yaml": "stage: {field: ongoing",
    }
    for path, old in paths.items():
        assert read_configuration(folder / "itsms.yaml").library
        path.write_text(path.read_text().replace(old, old.replace("stage", "step", 1)))
    assert [told] * 2 == [one.split(": ", 1)[1] for one in problems(folder)]


@pytest.mark.parametrize("time", ["PT0S", "-PT15M"])
def test_a_limit_that_is_no_time_is_told(folder: Path, time: str) -> None:
    path = folder / "mappings/procedures/incident.yaml"
    changed(path, "limit: {time: PT15M}", f"limit: {{time: {time}}}")
    line, column = place(path, f"time: {time}")
    assert [
        f"mappings/procedures/incident.yaml:{line}:{column}: nobody can keep this limit: it is no time at all; "
        "write one such as PT4H or P2D"
    ] == problems(folder)


def test_a_fault_in_a_calendar_is_told_with_its_place(folder: Path) -> None:
    (folder / "mappings/calendars.yaml").write_text(OFFICE.replace("Berlin", "Berln"))
    assert "mappings/calendars.yaml:4:35: there is no time zone 'Europe/Berln'" in problems(folder)[0]


def test_all_problems_of_all_files_are_told_at_once(folder: Path) -> None:
    """Also those of the meaning in one file while another has problems of its shape."""
    mappings = folder / "mappings"
    changed(folder / "itsms.yaml", "target: tracker", "target: trakcer")
    changed(folder / "itsms.yaml", "{project: CAPA}", "{project: capa}")
    changed(mappings / "servicenow.yaml", "\"state = 'hold'\"", "\"stat = 'hold'\"")
    changed(mappings / "processes.yaml", "owner: sms_manager", "owner: boss")
    changed(mappings / "procedures" / "incident.yaml", "review_due: ", "reviewdue: ")
    changed(mappings / "texts" / "en.yaml", "language: en", "language: english")
    shutil.copy(ROOT / "mappings" / "procedures" / "incident.yaml", mappings / "procedures" / "incident_2.yaml")
    changed(mappings / "procedures" / "incident_2.yaml", "skips: [I5]", "skips: [I55]")
    told = problems(folder)
    assert {
        "itsms.yaml": 2,
        "mappings/procedures/incident.yaml": 2,
        "mappings/procedures/incident_2.yaml": 1,
        "mappings/processes.yaml": 1,
        "mappings/servicenow.yaml": 1,
        "mappings/texts/en.yaml": 1,
    } == {name: sum(t.startswith(name + ":") for t in told) for name in {t.split(":")[0] for t in told}}


def test_a_folder_with_a_name_that_is_too_long_is_a_problem_like_any_other(folder: Path) -> None:
    changed(folder / "itsms.yaml", "documents: mappings", f"documents: {'m' * 300}")
    assert any("processes.yaml" in told for told in problems(folder))


@pytest.mark.parametrize("file", ["itsms.yaml", "mappings/processes.yaml", "mappings/texts/en.yaml"])
def test_a_file_that_is_missing_is_a_problem_like_any_other(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (told,) = problems(folder)
    assert told.startswith(f"{file}:1:1: cannot be read: No such file or directory")


# --- secrets


def credential(**values: object) -> Credential:
    return Credential.model_validate({"username": "bot", "password": {"env": "X"}, **values})


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    secret = Secret(file="token.txt")
    for value in ("first", "second"):
        (tmp_path / "token.txt").write_text(f"{value}\n")
        assert value == secret.read(tmp_path)


def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("ITSMS_TEST_SECRET", value)
        assert value == Secret(env="ITSMS_TEST_SECRET").read(tmp_path)


def test_a_credential_is_a_user_and_one_secret(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("bot\n")
    (tmp_path / "secret").write_text("s3cret\n")
    with_token = Credential(username=Secret(file="user"), token=Secret(file="secret"))
    with_password = Credential(username="bot", password=Secret(file="secret"))
    assert {"username": "bot", "token": "s3cret"} == with_token.read(tmp_path)
    assert {"username": "bot", "password": "s3cret"} == with_password.read(tmp_path)


OAUTH = "oauth: {grant: %s, client_id: abc, client_secret: {env: X}%s}"
DESK = "      username: itsms\n      password: {env: DESK_PASSWORD}\n"


@pytest.mark.parametrize(
    ("credential", "form"),
    [
        (OAUTH % ("client_credentials", ", scope: useraccount"), Form.CLIENT),
        (OAUTH % ("password", "") + "\n      username: itsms\n      password: {env: Y}", Form.PERSON),
        (OAUTH % ("refresh_token", ", refresh_token: {env: Z}"), Form.CONSENT),
        ("api_key: {file: key.txt}", Form.API_KEY),
        ("client_certificate: {certificate: us.pem}", Form.CERTIFICATE),
        (
            "client_certificate: {certificate: us.pem, key: us.key, password: {env: P}}\n      api_key: {env: K}",
            Form.API_KEY,
        ),
    ],
    ids=lambda value: value if isinstance(value, Form) else "",
)
def test_each_way_in_is_read(credential: str, form: Form, folder: Path) -> None:
    changed(folder / "itsms.yaml", DESK, f"      {credential}\n")
    assert form is read_configuration(folder / "itsms.yaml").settings.sources["desk"].credential.form


@pytest.mark.parametrize(
    ("credential", "message"),
    [
        ("username: itsms", "name one secret: password, token, oauth, api_key or client_certificate"),
        ("api_key: {env: K}\n      token: {env: T}", "name one secret"),
        ("password: {env: P}", "a password needs a username"),
        (OAUTH % ("password", ""), "the grant password needs username and password beside oauth"),
        (OAUTH % ("refresh_token", ""), "the grant refresh_token, and no other, needs refresh_token"),
        (OAUTH % ("client_credentials", ", refresh_token: {env: R}"), "the grant refresh_token, and no other"),
        (OAUTH % ("implicit", ""), "must be one of 'client_credentials', 'password' or 'refresh_token'"),
        ("oauth: {grant: client_credentials, client_id: abc}", "client_secret"),
        ("client_certificate: {key: us.key}", "certificate"),
        ("username: itsms\n      token: {env: T}", "this system has no login by username and token; it has: api_key"),
    ],
)
def test_a_way_in_that_is_none_is_told_at_its_place(credential: str, message: str, folder: Path) -> None:
    changed(folder / "itsms.yaml", DESK, f"      {credential}\n")
    told = problems(folder)
    assert any(message in each for each in told), told
    assert all(each.startswith("itsms.yaml:") and 6 <= int(each.split(":")[1]) <= 11 for each in told)


def test_a_system_says_which_ways_it_knows(folder: Path) -> None:
    changed(folder / "itsms.yaml", "      token: {file: token.txt}\n", "      api_key: {env: K}\n")
    (told,) = problems(folder)
    line, column = place(folder / "itsms.yaml", "credential", 1)
    known = (
        "oauth with grant client_credentials, oauth with grant refresh_token, token, username and password, "
        "username and token"
    )
    assert f"itsms.yaml:{line}:{column}: this system has no login by api_key; it has: {known}" == told


def test_a_token_that_is_replaced_at_each_use_has_to_lie_in_a_file(folder: Path) -> None:
    token = "      username: bot@example.com\n      token: {file: token.txt}\n"
    changed(folder / "itsms.yaml", token, "      " + OAUTH % ("refresh_token", ", refresh_token: {env: R}") + "\n")
    (told,) = problems(folder)
    assert "replaces a refresh token at each use: name a file" in told


def test_a_certificate_is_shown_to_secure_addresses_only(folder: Path) -> None:
    changed(folder / "itsms.yaml", DESK, "      client_certificate: {certificate: us.pem}\n")
    changed(folder / "itsms.yaml", "https://desk.example", "http://desk.example")
    (told,) = problems(folder)
    assert "a client certificate is only shown to an https address" in told


def test_people_need_an_address_of_their_own_beside_the_gateway(folder: Path) -> None:
    gateway = "https://api.atlassian.com/ex/jira/8b1f7a3c"
    changed(folder / "itsms.yaml", "url: https://tracker.example", f"url: {gateway}")
    (told,) = problems(folder)
    line, column = place(folder / "itsms.yaml", "url", 1)
    assert told.startswith(f"itsms.yaml:{line}:{column}: nobody can read a record at this address")
    changed(folder / "itsms.yaml", f"url: {gateway}", f"url: {gateway}\n    site: https://acme.atlassian.net/")
    source = read_configuration(folder / "itsms.yaml").settings.sources["tracker"]
    assert "https://acme.atlassian.net" == source.people_url


def test_what_a_token_is_asked_for_with_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    where = {"file": "secret"}
    oauth = {
        "grant": "refresh_token",
        "client_id": "abc",
        "client_secret": where,
        "refresh_token": where,
        "scope": "a b",
    }
    held = Credential.model_validate({"oauth": oauth}).read(tmp_path)
    assert {"client_id": "abc", "client_secret": "s3cret", "refresh_token": "s3cret", "scope": "a b"} == held
    certified = Credential.model_validate({"client_certificate": {"certificate": "us.pem"}}).read(tmp_path)
    assert {"client_certificate": str(tmp_path / "us.pem")} == certified


def test_a_secret_is_replaced_whole_and_for_us_only(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "token").write_text("first\n")
    (tmp_path / "token").symlink_to("real/token")
    secret = Secret(file="token")
    secret.replace("second", tmp_path)
    assert "second" == secret.read(tmp_path)
    assert (tmp_path / "token").is_symlink()
    assert 0o600 == stat.S_IMODE((tmp_path / "real" / "token").stat().st_mode)
    assert ["token"] == [path.name for path in (tmp_path / "real").iterdir()]


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (Secret(env="ITSMS_TEST_UNSET"), "the environment variable ITSMS_TEST_UNSET is not set"),
        (Secret(file="gone.txt"), "gone.txt: No such file or directory"),
        (Secret(file="binary.bin"), "binary.bin is not text in UTF-8"),
        (Secret(file="."), "Is a directory"),
    ],
)
def test_a_secret_that_cannot_be_read_names_its_place_and_never_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Secret, message: str
) -> None:
    monkeypatch.delenv("ITSMS_TEST_UNSET", raising=False)
    (tmp_path / "binary.bin").write_bytes(b"s3cret\xff\xfe")
    with pytest.raises(SecretUnavailable) as told:
        secret.read(tmp_path)
    assert message in str(told.value)
    chain = [told.value, told.value.__cause__]
    assert not any("s3cret" in repr(vars(e) | {"args": e.args}) for e in chain if e is not None)
    assert not isinstance(told.value.__cause__, UnicodeDecodeError)


def everything(settings: Settings) -> Sequence[str]:
    parts: list[object] = [settings, settings.tickets, settings.schedule]
    for source in settings.sources.values():
        parts += [source, source.credential, source.credential.password, source.credential.token]
    return [form(part) for part in parts for form in (str, repr, lambda p: str(getattr(p, "__dict__", "")))]


def test_no_settings_object_knows_a_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_PASSWORD", "env-s3cret")
    (folder / "token.txt").write_text("file-s3cret")
    settings = read_configuration(folder / "itsms.yaml").settings
    read: list[Mapping[str, str]] = [source.credential.read(folder) for source in settings.sources.values()]
    assert ["env-s3cret", "file-s3cret"] == [read[0]["password"], read[1]["token"]]
    assert not any("s3cret" in text for text in everything(settings))
    assert "s3cret" not in settings.model_dump_json()


def test_a_secret_cannot_be_written_where_its_place_belongs(folder: Path) -> None:
    changed(folder / "itsms.yaml", "password: {env: DESK_PASSWORD}", "password: s3cret-in-plain-sight")
    (told,) = problems(folder)
    line, column = place(folder / "itsms.yaml", "s3cret")
    assert told.startswith(f"itsms.yaml:{line}:{column}: ")
