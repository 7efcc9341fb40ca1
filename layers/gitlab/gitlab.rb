# Written on the first boot. Apply a change with: systemctl start lab-gitlab-configure.service
require 'json'

secrets_file = $secrets_file
unless File.exist?(secrets_file)
  raise "#{secrets_file} is not there: labctl delivers it after each boot of this guest. Run `labctl up`."
end
secrets = JSON.parse(File.read(secrets_file))

external_url $external_url
letsencrypt['enable'] = false

gitlab_rails['time_zone'] = $time_zone
gitlab_rails['initial_root_password'] = secrets.fetch('root_password')
gitlab_rails['display_initial_root_password'] = false
gitlab_rails['store_initial_root_password'] = false
gitlab_rails['usage_ping_enabled'] = false

# A small host: one web process, fewer jobs at once, no monitoring of its own.
puma['worker_processes'] = 0
sidekiq['concurrency'] = 10
prometheus_monitoring['enable'] = false

registry_external_url $registry_external_url
gitlab_rails['registry_enabled'] = true
# Before the first push: a registry with images in it needs a migration.
registry['database'] = { 'enabled' => true }
registry['storage'] = {
  's3_v2' => {
    'bucket' => $bucket,
    'region' => $region,
    'regionendpoint' => $endpoint,
    'accesskey' => secrets.fetch('s3_access_key'),
    'secretkey' => secrets.fetch('s3_secret_key'),
    'pathstyle' => true,
    # S3-compatible stores refuse the checksum trailer that the AWS SDK sends with large uploads.
    'checksum_disabled' => true
  },
  # Blobs go through the registry: a client need neither reach the store nor know the lab's authority.
  'redirect' => { 'disable' => true }
}
