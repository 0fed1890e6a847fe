"""Clients that load and unload the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.server.served import ROWS, Server, bundle, serving

pytestmark = pytest.mark.slow
MODEL = "/v2/repository/models/funnel"


def test_a_client_loads_and_unloads(tmp_path: Path) -> None:
    first, second, folder = bundle(), bundle(seed=1), tmp_path / "bundle"
    first.save(folder)
    with serving(folder, "--repository") as server, triton.InferenceServerClient(server.url) as client:
        assert "model_repository" in client.get_server_metadata()["extensions"]
        known = {"name": "funnel", "version": first.fingerprint, "state": "READY", "reason": ""}
        assert client.get_model_repository_index() == [known]
        second.save(folder, replace=True)
        client.load_model("funnel")
        assert client.get_model_metadata("funnel")["versions"] == [second.fingerprint]
        assert server.ask("/v1/rows", {"columns": ROWS})[1]["version"] == second.fingerprint
        client.unload_model("funnel")
        server.until_no_children()  # those that were replaced end in the background
        assert not client.is_server_ready() and not client.is_model_ready("funnel") and client.is_server_live()
        (found,) = client.get_model_repository_index()
        assert found == {"name": "funnel", "version": "", "state": "UNAVAILABLE", "reason": "a client has unloaded it"}
        assert server.ask("/v2/repository/index", {"ready": True})[1] == []  # type: ignore[comparison-overlap]
        assert server.ask("/v1/rows", {"columns": ROWS})[0] == 503
        client.unload_model("funnel")
        client.load_model("funnel")
        assert server.ask("/v1/rows", {"columns": ROWS})[1]["version"] == second.fingerprint


def test_a_load_that_fails_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundle().save(folder)
    with serving(folder, "--repository") as server, triton.InferenceServerClient(server.url) as client:
        before = server.ask("/v1/rows", {"columns": ROWS})[:2]
        (folder / "weights.safetensors").write_bytes(b"")
        with pytest.raises(InferenceServerException, match="differs from its checksum"):
            client.load_model("funnel")
        assert server.ask("/v1/rows", {"columns": ROWS})[:2] == before and before[0] == 200
        client.unload_model("funnel")
        assert server.ask(f"{MODEL}/load", method="POST")[0] == 400
        assert "differs from its checksum" in client.get_model_repository_index()[0]["reason"]
        with pytest.raises(InferenceServerException, match="this server has 'funnel'"):
            client.load_model("other")
        with pytest.raises(InferenceServerException, match="parameter 'config' is not known"):
            client.load_model("funnel", config="{}")
        for body in (b"{", b"[]", b'{"parameters": 3}'):
            assert server.ask(f"{MODEL}/unload", body)[0] == 400


def test_clients_may_not_load_unless_the_server_lets_them(server: Server) -> None:
    for path in (f"{MODEL}/load", f"{MODEL}/unload", "/v2/repository/index"):
        status, answer, _ = server.ask(path, method="POST")
        assert status == 403 and "start the server with --repository" in answer["error"]
