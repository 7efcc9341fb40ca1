"""HCL's template rules, as far as text that is to be taken literally needs them."""

from __future__ import annotations

import re


def evaluate(template: str) -> str:
    """What Terraform makes of a template whose only interpolations are tokens and quoted dollars (HCL's template rules)."""
    out, rest = [], template
    while rest:
        if rest.startswith(("$${", "%%{")):
            out.append(rest[1:3])
            rest = rest[3:]
        elif match := re.match(r'\$\{"(\$+)"\}', rest):
            out.append(match.group(1))
            rest = rest[match.end() :]
        elif match := re.match(r"\$\{(TfToken\[TOKEN\.\d+\])\}", rest):
            out.append(f"<{match.group(1)}>")
            rest = rest[match.end() :]
        else:
            assert not rest.startswith(("${", "%{")), f"an interpolation that nobody wrote: {rest!r} in {template!r}"
            out.append(rest[0])
            rest = rest[1:]
    return "".join(out)
