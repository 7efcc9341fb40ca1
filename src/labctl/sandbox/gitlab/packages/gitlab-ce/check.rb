# Evaluates gitlab.rb as Omnibus does, and prints what it set as JSON. What Omnibus refuses ends with a message and exit code 1.
require 'json'

ROOTS = %w[
  alertmanager bootstrap consul gitaly gitlab_exporter gitlab_kas gitlab_pages gitlab_rails gitlab_shell gitlab_sshd gitlab_workhorse
  high_availability letsencrypt logging logrotate manage_accounts manage_storage_directories monitoring_role nginx node_exporter omnibus_gitconfig
  package pages_nginx patroni pgbouncer pgbouncer_exporter postgres_exporter postgresql praefect prometheus prometheus_monitoring puma
  redis redis_exporter registry registry_nginx remote_syslog repmgr roles runtime_dir sentinel sidekiq spamcheck user web_server
].freeze
URLS = %w[external_url registry_external_url pages_external_url gitlab_kas_external_url].freeze
# Settings that GitLab 19 no longer has; Omnibus aborts when it finds one.
REMOVED = {
  'git_data_dirs' => 'removed in 18.0, use gitaly[\'configuration\'][:storage]',
  'grafana' => 'removed in 16.3',
  'mattermost' => 'removed in 19.0',
  'mattermost_external_url' => 'removed in 19.0',
  'sidekiq max_concurrency' => 'removed in 17.0, use sidekiq[\'concurrency\']',
  'sidekiq min_concurrency' => 'removed in 17.0, use sidekiq[\'concurrency\']'
}.freeze

def refuse(text)
  warn "gitlab.rb: #{text}"
  exit 1
end

class Settings
  attr_reader :hashes, :urls

  def initialize
    @hashes = Hash.new { |all, name| all[name] = {} }
    @urls = {}
  end

  def method_missing(name, *values)
    name = name.to_s.delete_suffix('=')
    refuse("removed configuration '#{name}': #{REMOVED[name]}") if REMOVED.key?(name)
    return url(name, *values) if URLS.include?(name)

    refuse("unknown setting '#{name}' (Mixlib::Config::UnknownConfigOptionError)") unless ROOTS.include?(name)
    values.empty? ? @hashes[name] : @hashes[name] = values.first
  end

  def respond_to_missing?(*)
    true
  end

  private

  def url(name, value = nil)
    return @urls[name] if value.nil?

    refuse("#{name} must be an URL with its scheme, such as http://gitlab.example.com, not #{value.inspect}") unless value.to_s.match?(%r{\Ahttps?://[^/\s]+})
    @urls[name] = value
  end
end

file = ARGV.fetch(0)
settings = Settings.new
begin
  settings.instance_eval(File.read(file), file)
rescue StandardError, SyntaxError => e
  refuse("#{e.class}: #{e.message.lines.first&.strip}")
end
refuse('external_url is not set') unless settings.urls['external_url']
(settings.hashes['sidekiq'] || {}).each_key do |key|
  removed = REMOVED["sidekiq #{key}"]
  refuse("removed configuration sidekiq['#{key}']: #{removed}") if removed
end
puts JSON.generate('urls' => settings.urls, 'settings' => settings.hashes)
