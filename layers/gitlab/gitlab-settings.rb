# Settings that live in GitLab's database. Run by: gitlab-rails runner
require 'json'

Gitlab::CurrentSettings.update!(
  signup_enabled: false,
  version_check_enabled: false,
  usage_ping_enabled: false
)

# What labctl asks GitLab's API with. The value is the Vault's; GitLab keeps a digest of it, and wants an end within 365 days.
name = 'labctl'
value = JSON.parse(File.read($secrets_file)).fetch('api_token')
root = User.find_by!(username: 'root')
token = PersonalAccessToken.find_by_token(value)
raise "the token of #{name} belongs to another user" if token && token.user_id != root.id

unless token
  token = root.personal_access_tokens.build(name: name)
  token.set_token(value)
end
token.update!(name: name, scopes: ['api'], expires_at: 364.days.from_now, revoked: false)
root.personal_access_tokens.active.each { |other| other.revoke! if other.name == name && other.id != token.id }
