# SPDX-License-Identifier: MIT
"""L4: sslyze finds nothing: the settings are those that Mozilla recommends ("intermediate"), and
none of the weaknesses is there that it knows.

It needs the command sslyze (``pip install sslyze``, in an environment of its own). Without it the
tests are skipped; with CI=true they fail instead.
"""

import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

import pytest
from authority import authority
from chromium import unavailable
from common import TIMEOUT, without_sanitizer
from tls_server import Secure, with_contexts

pytestmark = pytest.mark.timeout(240)


class Scan(NamedTuple):
    code: int
    said: str
    results: Dict[str, Any]  # by command


def scan(server: Secure, folder: Path) -> Scan:
    """What sslyze says of a server, with all that it can look for."""
    sslyze = shutil.which("sslyze") or unavailable("no sslyze here")
    file = folder / "scan.json"
    done = subprocess.run(
        [sslyze, "--mozilla_config=intermediate", "--resum", "--early_data",
         f"--certinfo_ca_file={authority().cert}", f"--json_out={file}",
         f"localhost:{server.port}"],
        capture_output=True, encoding="utf-8", timeout=6 * TIMEOUT, env=without_sanitizer(),
    )  # fmt: skip
    (found,) = json.loads(file.read_text())["server_scan_results"]
    assert found["scan_status"] == "COMPLETED", done.stdout
    attempts = found["scan_result"]
    wrong = {name: one["status"] for name, one in attempts.items() if one["status"] != "COMPLETED"}
    assert set(wrong) <= {"http_headers"}, wrong
    results = {name: one["result"] for name, one in attempts.items() if name not in wrong}
    return Scan(done.returncode, done.stdout, results)


def check_weaknesses(results: Dict[str, Any]) -> None:
    """What is a mistake of a server whatever its settings are."""
    assert not results["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert results["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert not results["tls_compression"]["supports_compression"]
    assert not results["tls_1_3_early_data"]["supports_early_data"]
    assert not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert results["session_renegotiation"]["supports_secure_renegotiation"]
    assert results["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert results["tls_extended_master_secret"]["supports_ems_extension"]


def test_l4_no_finding(secure: Callable[..., Secure], tmp_path: Path) -> None:
    server = secure()
    found = scan(server, tmp_path)
    assert found.code == 0 and "OK - Compliant" in found.said, found.said[-2000:]
    check_weaknesses(found.results)
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert not found.results[f"{version}_cipher_suites"]["is_tls_version_supported"]
    for version in ("tls_1_2", "tls_1_3"):
        assert len(found.results[f"{version}_cipher_suites"]["accepted_cipher_suites"]) == 3
    tickets = found.results["session_resumption"]
    assert tickets["tls_ticket_resumption_result"] == "FULLY_SUPPORTED"
    server.check()


@with_contexts
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
def test_l4_a_context_with_other_settings_is_found(
    secure: Callable[..., Secure], tmp_path: Path
) -> None:
    """Otherwise the test above would prove nothing. What the program allows is allowed."""
    context = authority().server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    found = scan(secure(ssl=context), tmp_path)
    assert found.code != 0 and "FAILED - Not compliant" in found.said
    for finding in ("tls_versions:", "ciphers:", "tls_curves:"):
        assert finding in found.said
    check_weaknesses(found.results)
