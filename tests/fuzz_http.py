"""Generated requests against every operation of the OpenAPI description: no answer may be a 5xx. Part of `make shows`.

Needs schemathesis. The endless stream of events is left out; everything else is in, worker restarts included.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import disttask

CASES = 300
"""Per operation and phase."""

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main():
    st = Path(sysconfig.get_path("scripts"), "schemathesis")
    with tempfile.TemporaryDirectory() as folder, disttask.Executor(2) as executor:
        with executor.serve(port=0, token_file=Path(folder, "token")) as server:
            command = [
                *(str(st), "run", f"{server.url}/openapi.json", "--url", server.url),
                *("--header", f"Authorization: Bearer {server.token}"),
                *("--max-examples", str(CASES), "--checks", CHECKS, "--mode", "all"),
                *("--exclude-path", "/api/v1/events", "--request-timeout", "60", "--no-color", *sys.argv[1:]),
            ]
            status = subprocess.run(command, check=False, cwd=folder).returncode  # ids at random: hardly one exists
            known = disttask.Client(server.url, token=server.token).submit(pow, 2, 10)
            Path(folder, "schemathesis.toml").write_text(f'[parameters]\n"path.id" = {json.dumps(known)}\n')
            status |= subprocess.run([*command, "--include-path-regex", r"\{id\}"], check=False, cwd=folder).returncode
        assert executor.submit(pow, 2, 10).result(timeout=30) == 1024, "the pool still works"
    return status


if __name__ == "__main__":
    sys.exit(main())
