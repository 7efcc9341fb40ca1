"""A drift report written down: one module a format, each a pure function of the report.

`json` is the document for programs (docs/drift.schema.json), `markdown` for a merge request or a chat, `junit` for a CI's test
view, `prometheus` for node_exporter's textfile collector, `html` one page for a browser. What is said in words is said alike in
all of them and on the terminal (`words`). No module here reads a clock or a file.
"""

from labctl.model.drift.formats.html import as_html
from labctl.model.drift.formats.json import as_document, as_json
from labctl.model.drift.formats.junit import as_junit
from labctl.model.drift.formats.markdown import as_markdown
from labctl.model.drift.formats.prometheus import as_prometheus

__all__ = ["as_document", "as_html", "as_json", "as_junit", "as_markdown", "as_prometheus"]
