"""The guards that a site's settings name."""

from __future__ import annotations

from nemo_cosmos.guardrails.site import site_log, site_policy


def test_site_can_go_without_a_guard_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("NEMO_COSMOS_SITE", str(tmp_path / "site.txt"))
    (tmp_path / "site.txt").write_text(
        f"guardrails.disabled=[face_blur]\nguardrails.audit_log={tmp_path / 'audit.jsonl'}\n"
    )
    policy = site_policy(["keywords"])
    assert policy.disabled == frozenset({"face_blur", "keywords"})
    assert policy.audit.path == site_log() == tmp_path / "audit.jsonl"
