# OpenBao's agent: logs in once with what labctl delivered, renews its login, and keeps the files under /run/lab as the Vault has them.
vault {
  address = $address
  ca_cert = $ca_file
}

auto_auth {
  method "approle" {
    mount_path = "auth/approle"
    # A secret-id works once: a second try cannot help, and whoever handed it out must hear why it failed.
    exit_on_err = true
    config = {
      role_id_file_path = $role_id_file
      secret_id_file_path = $wrapped_file
      # What was wrapped elsewhere is refused: somebody unwrapped it on the way.
      secret_id_response_wrapping_path = $wrapping_path
      remove_secret_id_file_after_reading = true
    }
  }
}

template_config {
  static_secret_render_interval = "1m"
}
