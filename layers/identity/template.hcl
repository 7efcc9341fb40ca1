
template {
  destination = $destination
  perms = "0600"
  error_on_missing_key = true
  contents = $text
}
