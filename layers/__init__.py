"""Files that go into guests, services and apps, one folder each; nothing in here is secret.

Placeholders are those of `string.Template` and are filled with values quoted for the file's own language. Scripts have none and
never use the brace form of a shell variable: a whole document passes through Terraform, where it would be an interpolation.
Compose files have no placeholders: settings are put into their data. `$$` in them is one dollar, which Compose leaves alone.
"""
