"""The table of all kinds of issues is complete."""

from dilated_jax.data.audit import findings


def test_every_kind_has_a_severity_and_advice():
  for kind, (severity, advice) in findings.KINDS.items():
    assert severity in findings.SEVERITIES and advice and kind == kind.strip()
