# Settings that live in GitLab's database. Run by: gitlab-rails runner
Gitlab::CurrentSettings.update!(
  signup_enabled: false,
  version_check_enabled: false,
  usage_ping_enabled: false
)
